//! All Gateways and ListenerSets, found by their names: what became of each, and what is served in the end.

use std::collections::HashMap;

use ringway_http::model::Listener;

use super::known_gateway::KnownGateway;
use super::known_listener::KnownListener;
use super::registry::Registry;
use super::sets;
use crate::source::diagnostics::Reporter;
use crate::source::gateway::objects::GatewayObjects;
use crate::source::gateway::objects::routed::{ListenerSetObject, Reference};
use crate::source::gateway::status::ObjectStatus;

/// All Gateways, with the ListenerSets that add to them.
pub(super) struct Gateways<'o> {
    gateways: Vec<KnownGateway<'o>>,
    by_name: HashMap<(&'o str, &'o str), usize>,
    sets: &'o [ListenerSetObject],
}

impl<'o> Gateways<'o> {
    pub(super) fn new(
        objects: &'o GatewayObjects,
        registry: &Registry<'_>,
        reporter: &mut Reporter,
    ) -> Gateways<'o> {
        let gateways: Vec<KnownGateway<'o>> = objects
            .gateways
            .iter()
            .map(|object| KnownGateway::new(object, objects, registry))
            .collect();
        for gateway in &gateways {
            gateway.report(reporter);
        }
        let names = gateways.iter().map(|each| (&*each.object.namespace, &*each.object.name));
        let by_name = names.zip(0..).collect();
        let gateways = Gateways { gateways, by_name, sets: &objects.sets };
        for set in gateways.sets {
            sets::report(set, gateways.of(set), registry, reporter);
        }
        gateways
    }

    /// The Gateway that a set names.
    fn of(&self, set: &ListenerSetObject) -> Option<&KnownGateway<'o>> {
        let index = self.by_name.get(&set.gateway()?)?;
        self.gateways.get(*index)
    }

    /// The ListenerSet of this name, if there is one, with the Gateway that it names.
    pub(super) fn set(
        &mut self,
        to: &Reference,
    ) -> Option<(&'o ListenerSetObject, Option<&mut KnownGateway<'o>>)> {
        let set = self.sets.iter().find(|set| {
            (set.group, set.kind, &set.namespace, &set.name)
                == (&*to.group, &*to.kind, &to.namespace, &to.name)
        })?;
        let gateway = set.gateway().and_then(|(namespace, name)| self.get(namespace, name));
        Some((set, gateway))
    }

    /// The names of a namespace's sets, for a suggestion.
    pub(super) fn set_names(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.sets.iter().filter(move |set| *set.namespace == *namespace).map(|set| &*set.name)
    }

    pub(super) fn get(&mut self, namespace: &str, name: &str) -> Option<&mut KnownGateway<'o>> {
        let index = self.by_name.get(&(namespace, name))?;
        self.gateways.get_mut(*index)
    }

    /// The names of a namespace's Gateways, for a suggestion.
    pub(super) fn names(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.by_name.keys().filter(move |(own, _)| *own == namespace).map(|(_, name)| *name)
    }

    pub(super) fn status(&self, registry: &Registry<'_>) -> Vec<ObjectStatus> {
        let ours = self.gateways.iter().filter(|gateway| gateway.served.is_some());
        let sets = self.sets.iter().filter_map(|set| sets::status(set, self.of(set), registry));
        ours.map(KnownGateway::status).chain(sets).collect()
    }

    pub(super) fn into_listeners(self) -> Vec<Listener> {
        let ours = self.gateways.into_iter().filter(|gateway| gateway.served.is_some());
        ours.flat_map(|gateway| {
            let object = gateway.object;
            let served = gateway.listeners.into_iter().filter(KnownListener::is_served);
            served.filter_map(|listener| listener.listener(object))
        })
        .collect()
    }
}

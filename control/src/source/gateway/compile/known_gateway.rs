//! A Gateway with its listeners and those of the sets that it admits: what of it is served, and what became of it.

use ringway_http::model::ListenerKey;

use super::admission::admitted;
use super::certificates::listener_tls;
use super::conflicts::conflict;
use super::known_listener::KnownListener;
use super::references::Referrer;
use super::registry::Registry;
use super::served::Served;
use super::warn;
use crate::source::diagnostics::Reporter;
use crate::source::gateway::objects::routed::ListenerSetObject;
use crate::source::gateway::objects::{
    Addressed, GatewayObject, GatewayObjects, ListenerObject, ValidationMode,
};
use crate::source::gateway::status::{Condition, ObjectStatus};
use crate::source::gateway::values::GATEWAY_GROUP;

/// A Gateway.
pub(super) struct KnownGateway<'o> {
    pub(super) object: &'o GatewayObject,
    /// `None`: another's.
    pub(super) served: Option<Served>,
    /// Its own, then those of its sets, by precedence.
    pub(super) listeners: Vec<KnownListener<'o>>,
    /// Those it admits, by precedence.
    sets: Vec<&'o ListenerSetObject>,
}

impl<'o> KnownGateway<'o> {
    pub(super) fn new(
        object: &'o GatewayObject,
        objects: &'o GatewayObjects,
        registry: &Registry<'_>,
    ) -> KnownGateway<'o> {
        let served = Served::of(&object.class, objects);
        let sets = admitted(object, served, objects, registry);
        let known = |each: &'o ListenerObject, set: Option<&'o ListenerSetObject>| {
            let referrer = match set {
                None => {
                    Referrer { group: GATEWAY_GROUP, kind: "Gateway", namespace: &object.namespace }
                }
                Some(set) => {
                    Referrer { group: set.group, kind: set.kind, namespace: &set.namespace }
                }
            };
            let tls = listener_tls(object, referrer, each, registry);
            KnownListener::new(each, (set, referrer.namespace), served, tls)
        };
        let own = object.listeners.iter().map(|each| known(each, None));
        let further = sets.iter().flat_map(|set| {
            let known = &known;
            set.listeners.iter().map(move |each| known(each, Some(set)))
        });
        let mut listeners: Vec<KnownListener<'o>> = own.chain(further).collect();
        for at in 0..listeners.len() {
            listeners[at].conflict = conflict(at, &listeners);
        }
        KnownGateway { object, served, listeners, sets }
    }

    /// Its own listeners, or those of one of its sets.
    pub(super) fn listeners_in(
        &self,
        set: Option<&ListenerSetObject>,
    ) -> impl Iterator<Item = &KnownListener<'o>> {
        self.listeners.iter().filter(move |listener| listener.is_in(set))
    }

    /// Whether it admits this set.
    pub(super) fn has(&self, set: &ListenerSetObject) -> bool {
        self.sets.iter().any(|own| std::ptr::eq(*own, set))
    }

    pub(super) fn report(&self, reporter: &mut Reporter) {
        if self.served.is_none() {
            let message = format!(
                "no class `{}` is known as Ringway's: nobody here serves this Gateway",
                self.object.class
            );
            let help = "ingress has the class `ringway`, a waypoint `ringway-waypoint`".to_owned();
            warn(self.object.place, &message, Some(help), reporter);
            return;
        }
        for listener in &self.listeners {
            listener.report(reporter);
        }
        if self.is_insecure() {
            let message = format!(
                "the Gateway `{}` lets in clients whatever certificate they show (`AllowInsecureFallback`)",
                self.object.name
            );
            warn(self.object.place, &message, None, reporter);
        }
    }

    pub(super) fn status(&self) -> ObjectStatus {
        let own: Vec<&KnownListener<'_>> = self.listeners_in(None).collect();
        let served = own.iter().filter(|listener| listener.is_accepted()).count();
        let accepted = match (self.unsupported_address(), served) {
            (Some(address), _) => {
                let message = format!("addresses of the type of `{address}` are not supported");
                Condition::bad("Accepted", "UnsupportedAddress", message)
            }
            (None, served) if served < own.len() => {
                let message = format!("{} of its listeners are not served", own.len() - served);
                let condition = Condition::bad("Accepted", "ListenersNotValid", message);
                Condition { holds: served > 0, ..condition }
            }
            (None, _) => Condition::good("Accepted", "Accepted"),
        };
        let programmed = match served {
            0 => Condition::bad("Programmed", "Invalid", "none of its listeners is served"),
            _ => Condition::good("Programmed", "Programmed"),
        };
        let insecure = self
            .is_insecure()
            .then(|| Condition::good("InsecureFrontendValidationMode", "ConfigurationChanged"));
        ObjectStatus {
            kind: "Gateway",
            namespace: self.object.namespace.clone(),
            name: self.object.name.clone(),
            generation: self.object.generation,
            conditions: [accepted, programmed].into_iter().chain(insecure).collect(),
            listeners: own.into_iter().map(KnownListener::status).collect(),
            parents: Vec::new(),
            attached_sets: Some(self.sets.iter().filter(|set| self.is_attached(set)).count()),
        }
    }

    /// Whether a set that it admits adds anything.
    fn is_attached(&self, set: &ListenerSetObject) -> bool {
        self.listeners_in(Some(set)).any(KnownListener::is_accepted)
    }

    /// Somebody is let in by a certificate that does not hold.
    fn is_insecure(&self) -> bool {
        let of_listeners = self.listeners.iter().filter_map(|listener| {
            listener.object.tls.as_ref().and_then(|tls| tls.validation.as_ref())
        });
        let mut all = self.object.frontend.all().chain(of_listeners);
        all.any(|validation| validation.mode == ValidationMode::AllowInsecureFallback)
    }

    fn unsupported_address(&self) -> Option<&str> {
        self.object.addresses.iter().find_map(|address| match address {
            Addressed::Other(text) => Some(&**text),
            _ => None,
        })
    }

    /// The name of a listener.
    pub(super) fn key(&self, listener: &KnownListener<'_>) -> ListenerKey {
        listener.key(self.object)
    }
}

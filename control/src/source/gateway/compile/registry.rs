//! What there is for routes to refer to.

use std::collections::{BTreeMap, HashMap};

use ringway_http::model::ServiceName;

use super::Given;
use crate::source::compile::selectors::host_name;
use crate::source::gateway::objects::routed::{GrantObject, Reference};
use crate::source::gateway::waypoints::with_name;
use crate::source::objects::Labels;

/// Everything, by name.
pub(super) struct Registry<'o> {
    namespaces: HashMap<&'o str, &'o Labels>,
    /// By `namespace/name`.
    services: BTreeMap<String, KnownService>,
    grants: &'o [GrantObject],
}

/// A service that exists.
pub(super) struct KnownService {
    pub(super) name: ServiceName,
    pub(super) ports: Vec<u16>,
}

impl<'o> Registry<'o> {
    pub(super) fn new(given: &Given<'o>) -> Registry<'o> {
        let mut services = BTreeMap::new();
        for (_, service) in &given.local.services {
            let name = service_name(service.id.namespace(), service.id.hostname());
            let ports = service.ports.iter().map(|port| port.service_port).collect();
            let key = path(service.namespace(), &service.name);
            services.insert(key, KnownService { name, ports });
        }
        for service in given.services {
            let id = host_name(service, given.cluster_domain);
            let name = service_name(id.namespace(), id.hostname());
            let ports = service.ports.iter().map(|port| port.number).collect();
            services.insert(path(&service.namespace, &service.name), KnownService { name, ports });
        }
        let namespaces = given.namespaces.iter().map(|each| (&*each.name, &each.labels));
        Registry { namespaces: namespaces.collect(), services, grants: &given.gateway.grants }
    }

    /// The labels of a namespace.
    pub(super) fn namespace_labels(&self, namespace: &str) -> Labels {
        with_name(self.namespaces.get(namespace).copied(), namespace)
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&KnownService> {
        self.services.get(&path(namespace, name))
    }

    /// The names of a namespace's services, for a suggestion.
    pub(super) fn service_names<'n>(&'n self, namespace: &'n str) -> impl Iterator<Item = &'n str> {
        {
            let paths = self.services.keys();
            paths.filter_map(move |path| path.strip_prefix(namespace)?.strip_prefix('/'))
        }
    }

    /// The services that a ServiceEntry stands for.
    pub(super) fn entry(&self, namespace: &str, name: &str) -> Vec<&KnownService> {
        let _ = (namespace, name);
        Vec::new()
    }

    /// The service of a hostname; of several, that of the client's own namespace, else the first by namespace.
    pub(super) fn by_hostname(&self, hostname: &str, namespace: &str) -> Option<&KnownService> {
        let same = self.services.values().filter(|service| &*service.name.hostname == hostname);
        same.min_by_key(|service| (&*service.name.namespace != namespace, &service.name.namespace))
    }

    /// Whether an object of `kind` in `namespace` may refer to `to`, which is in another namespace.
    pub(super) fn is_granted(
        &self,
        (group, kind): (&str, &str),
        namespace: &str,
        to: &Reference,
    ) -> bool {
        let mut there = self.grants.iter().filter(|grant| grant.namespace == to.namespace);
        there.any(|grant| {
            let from = grant.from.iter().any(|from| {
                (&*from.group, &*from.kind, &*from.namespace) == (group, kind, namespace)
            });
            let target = grant.to.iter().any(|target| {
                target.group == to.group
                    && target.kind == to.kind
                    && target.name.as_ref().is_none_or(|name| *name == to.name)
            });
            from && target
        })
    }
}

fn service_name(namespace: &str, hostname: &str) -> ServiceName {
    ServiceName { namespace: namespace.into(), hostname: hostname.into() }
}

fn path(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

//! What there is for routes to refer to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ringway_engine::snapshot::Visibility;
use ringway_http::model::ServiceName;

use super::Given;
use crate::source::compile::selectors::host_name;
use crate::source::gateway::objects::GatewayObjects;
use crate::source::gateway::objects::routed::{GrantObject, Reference};
use crate::source::gateway::secrets::SecretObject;
use crate::source::gateway::waypoints::with_name;
use crate::source::objects::Labels;

/// Everything, by name.
pub(crate) struct Registry<'o> {
    namespaces: HashMap<&'o str, &'o Labels>,
    /// By `namespace/name`.
    services: BTreeMap<String, KnownService>,
    /// By the same name of a ServiceEntry, each of whose hosts is one.
    entries: BTreeMap<String, Vec<KnownService>>,
    grants: &'o [GrantObject],
    secrets: &'o [SecretObject],
}

/// A service that exists.
pub(crate) struct KnownService {
    pub(crate) name: ServiceName,
    pub(crate) ports: Vec<u16>,
    /// Those that have a name.
    pub(crate) named: Vec<(Arc<str>, u16)>,
    /// Only its namespace sees it.
    private: bool,
}

impl<'o> Registry<'o> {
    pub(super) fn new(given: &Given<'o>) -> Registry<'o> {
        let mut services = BTreeMap::new();
        let mut entries: BTreeMap<String, Vec<KnownService>> = BTreeMap::new();
        for (_, service) in &given.local.services {
            let name = service_name(service.id.namespace(), service.id.hostname());
            let ports = service.ports.iter().map(|port| port.service_port).collect();
            let key = path(service.namespace(), &service.name);
            let private = service.visibility != Visibility::Public;
            services.insert(key, KnownService { name, ports, named: Vec::new(), private });
        }
        for service in given.services {
            let id = host_name(service, given.cluster_domain);
            let name = service_name(id.namespace(), id.hostname());
            let ports = service.ports.iter().map(|port| port.number).collect();
            let named = service.ports.iter().filter(|port| !port.name.is_empty());
            let named = named.map(|port| (port.name.clone(), port.number)).collect();
            let known = KnownService { name, ports, named, private: service.private };
            let path = path(&service.namespace, &service.name);
            match &service.hostname {
                None => _ = services.insert(path, known),
                Some(_) => entries.entry(path).or_default().push(known),
            }
        }
        let namespaces = given.namespaces.iter().map(|each| (&*each.name, &each.labels));
        let GatewayObjects { grants, secrets, .. } = given.gateway;
        Registry { namespaces: namespaces.collect(), services, entries, grants, secrets }
    }

    /// The labels of a namespace.
    pub(super) fn namespace_labels(&self, namespace: &str) -> Labels {
        with_name(self.namespaces.get(namespace).copied(), namespace)
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&KnownService> {
        self.services.get(&path(namespace, name))
    }

    /// A Secret or ConfigMap.
    pub(super) fn secret(&self, kind: &str, namespace: &str, name: &str) -> Option<&SecretObject> {
        let name = (kind, namespace, name);
        self.secrets.iter().find(|each| (each.kind, &*each.namespace, &*each.name) == name)
    }

    /// The names of a namespace's services, for a suggestion.
    pub(crate) fn service_names<'n>(&'n self, namespace: &'n str) -> impl Iterator<Item = &'n str> {
        let paths = self.services.keys();
        paths.filter_map(move |path| path.strip_prefix(namespace)?.strip_prefix('/'))
    }

    /// The services that a ServiceEntry stands for.
    pub(crate) fn entry(&self, namespace: &str, name: &str) -> Vec<&KnownService> {
        self.entries.get(&path(namespace, name)).into_iter().flatten().collect()
    }

    /// The service of a namespace by its name, or by its host as far as that is written.
    pub(crate) fn of_host(&self, namespace: &str, host: &str) -> Option<&KnownService> {
        let begins = |known: &KnownService| {
            let rest = known.name.hostname.strip_prefix(host);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(".svc."))
        };
        let own = |known: &&KnownService| {
            &*known.name.namespace == namespace
                && (begins(known)
                    || known.name.hostname.starts_with(&format!("{host}."))
                        && host.ends_with(".svc"))
        };
        self.service(namespace, host)
            .or_else(|| self.services.values().chain(self.entries.values().flatten()).find(own))
    }

    /// The service of a hostname; of several, that of the client's own namespace, else the first by namespace.
    pub(crate) fn by_hostname(&self, hostname: &str, namespace: &str) -> Option<&KnownService> {
        let all = self.services.values().chain(self.entries.values().flatten());
        let same = all.filter(|service| {
            &*service.name.hostname == hostname
                && (!service.private || &*service.name.namespace == namespace)
        });
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

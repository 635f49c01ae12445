//! Makes workloads that share what they have in common.
//!
//! An interner belongs to whoever loads workloads and lives as long as that: the longer it lives, the
//! more is shared. It is no part of a snapshot; forgetting it costs memory only for what comes later.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use ringway_protocols::identity::Identity;

use super::address::{GatewayAddress, GatewayDestination, NamespacedHostname};
use super::description::{
    CLUSTER_DEFAULT, Locality, SERVICE_ACCOUNT_DEFAULT, TRUST_DOMAIN_DEFAULT, WorkloadDescription,
    WorkloadError,
};
use super::service::Service;
use super::workload::{Placement, Workload, WorkloadKind};

/// What has been handed out and may be handed out again.
#[derive(Debug, Default)]
pub struct Interner {
    strings: Pool<str>,
    identities: Pool<[Identity]>,
    kinds: Pool<WorkloadKind>,
    placements: Pool<Placement>,
}

impl Interner {
    /// An interner that knows nothing yet.
    pub fn new() -> Interner {
        Interner::default()
    }

    /// Makes a workload of its description.
    ///
    /// # Errors
    /// [`WorkloadError`] when it could not be referred to or could have no identity.
    pub fn workload(
        &mut self,
        mut description: WorkloadDescription,
    ) -> Result<Workload, WorkloadError> {
        if description.uid.is_empty() {
            return Err(WorkloadError::NoUid);
        }
        let kind = self.kind(&mut description)?;
        let placement = self.placement(&description);
        Ok(Workload::new(description, kind, placement))
    }

    /// Makes a service share its names with the workloads that belong to it.
    pub fn service(&mut self, mut service: Service) -> Service {
        service.id = self.hostname(&service.id);
        for vip in &mut service.vips {
            vip.network = self.string(&vip.network);
        }
        for vip in &mut service.cidr_vips {
            vip.network = self.string(&vip.network);
        }
        service.waypoint = service.waypoint.map(|gateway| self.gateway(gateway));
        for weighted in &mut service.weighted_waypoints {
            weighted.destination = self.gateway(weighted.destination.clone());
        }
        service
    }

    /// The one copy of a text.
    pub fn string(&mut self, text: &str) -> Arc<str> {
        self.strings.get(text)
    }

    /// The same name, made of shared texts.
    pub fn hostname(&mut self, name: &NamespacedHostname) -> NamespacedHostname {
        NamespacedHostname::new(self.string(name.namespace()), self.string(name.hostname()))
    }

    fn kind(
        &mut self,
        description: &mut WorkloadDescription,
    ) -> Result<Arc<WorkloadKind>, WorkloadError> {
        let identity = Identity::new(
            or_default(&description.trust_domain, TRUST_DOMAIN_DEFAULT),
            &description.namespace,
            or_default(&description.service_account, SERVICE_ACCOUNT_DEFAULT),
        )
        .map_err(WorkloadError::Identity)?;
        let mut services = std::mem::take(&mut description.services);
        for membership in &mut services {
            membership.service = self.hostname(&membership.service);
        }
        let kind = WorkloadKind {
            identities: self.identities.get([identity]),
            workload_name: self.unless(&description.name, &description.workload_name),
            workload_type: description.workload_type,
            canonical_name: self.unless(&description.name, &description.canonical_name),
            canonical_revision: self.string(&description.canonical_revision),
            services: services.into_boxed_slice(),
            waypoint: description.waypoint.take().map(|gateway| Box::new(self.gateway(gateway))),
            network_gateway: description
                .network_gateway
                .take()
                .map(|gateway| Box::new(self.gateway(gateway))),
            application_tunnel: description.application_tunnel,
            authorization_policies: each_once(&mut description.authorization_policies),
        };
        Ok(self.kinds.get(kind))
    }

    /// None: it is the workload's own name.
    fn unless(&mut self, own: &str, name: &str) -> Option<Arc<str>> {
        (name != own).then(|| self.string(name))
    }

    fn placement(&mut self, description: &WorkloadDescription) -> Arc<Placement> {
        let placement = Placement {
            network: self.string(&description.network),
            cluster: self.string(or_default(&description.cluster, CLUSTER_DEFAULT)),
            node: self.string(&description.node),
            locality: Locality {
                region: self.string(&description.locality.region),
                zone: self.string(&description.locality.zone),
                subzone: self.string(&description.locality.subzone),
            },
        };
        self.placements.get(placement)
    }

    fn gateway(&mut self, mut gateway: GatewayAddress) -> GatewayAddress {
        match &mut gateway.destination {
            GatewayDestination::Address(address) => {
                address.network = self.string(&address.network);
                address.ip = address.ip.to_canonical();
            }
            GatewayDestination::Hostname(name) => *name = self.hostname(name),
        }
        gateway
    }
}

fn or_default<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// One `Arc` for all that are equal. What nobody else holds any more is forgotten when the pool has
/// doubled since it was last swept, so a pool is never more than half dead.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    shared: HashSet<Arc<T>>,
    sweep_at: usize,
}

/// A pool is first swept at this size; under it there is little to win.
const POOL_SWEEP_MIN: usize = 1024;

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { shared: HashSet::new(), sweep_at: POOL_SWEEP_MIN }
    }
}

impl<T: Hash + Eq + ?Sized> Pool<T> {
    fn get(&mut self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        if let Some(shared) = self.shared.get(value.borrow()) {
            return Arc::clone(shared);
        }
        if self.shared.len() >= self.sweep_at {
            self.shared.retain(|shared| Arc::strong_count(shared) > 1);
            self.sweep_at = (2 * self.shared.len()).max(POOL_SWEEP_MIN);
        }
        let shared: Arc<T> = value.into();
        self.shared.insert(Arc::clone(&shared));
        shared
    }
}

/// Takes the names, each where it comes first.
fn each_once(names: &mut Vec<String>) -> Box<[Box<str>]> {
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    std::mem::take(names).into_iter().map(String::into_boxed_str).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Health, Membership, PortMapping};
    use super::*;

    fn description(name: &str) -> WorkloadDescription {
        WorkloadDescription {
            uid: format!("c1//Pod/shop/{name}"),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            workload_name: "web".to_owned(),
            services: vec![Membership {
                service: NamespacedHostname::new("shop", "web.example"),
                ports: Box::new([PortMapping { service_port: 80, target_port: 8080 }]),
            }],
            ..WorkloadDescription::default()
        }
    }

    #[test]
    fn replicas_share_everything_but_their_names() {
        let mut interner = Interner::new();
        let one = interner.workload(description("web-1")).unwrap();
        let two = interner
            .workload(WorkloadDescription { health: Health::Unhealthy, ..description("web-2") })
            .unwrap();
        assert!(Arc::ptr_eq(one.kind(), two.kind()));
        assert!(Arc::ptr_eq(one.node(), two.node()));
        assert_eq!((one.name(), two.name()), ("web-1", "web-2"));
        assert_eq!(one.uid(), "c1//Pod/shop/web-1");
    }

    #[test]
    fn who_stands_for_himself_shares_the_rest_too() {
        let alone = |name: &str| WorkloadDescription {
            workload_name: name.to_owned(),
            canonical_name: name.to_owned(),
            ..description(name)
        };
        let mut interner = Interner::new();
        let one = interner.workload(alone("web-1")).unwrap();
        let two = interner.workload(alone("web-2")).unwrap();
        assert!(Arc::ptr_eq(one.kind(), two.kind()));
        assert_eq!((one.workload_name(), one.canonical_name()), ("web-1", "web-1"));
        assert_eq!((two.workload_name(), two.canonical_name()), ("web-2", "web-2"));
        assert!(one.stands_for_itself());
        let made = interner.workload(description("web-3")).unwrap();
        assert_eq!((made.workload_name(), made.canonical_name()), ("web", ""));
        assert!(!made.stands_for_itself());
    }

    #[test]
    fn a_service_shares_its_name_with_its_workloads() {
        let mut interner = Interner::new();
        let workload = interner.workload(description("web-1")).unwrap();
        let service =
            interner.service(Service::new(NamespacedHostname::new("shop", "web.example")));
        let in_workload = &workload.services()[0].service;
        assert_eq!(service.id, *in_workload);
        assert!(std::ptr::eq(service.hostname(), in_workload.hostname()));
    }

    #[test]
    fn what_is_not_told_has_its_default() {
        let workload = Interner::new().workload(description("web-1")).unwrap();
        assert_eq!(workload.identity().to_string(), "spiffe://cluster.local/ns/shop/sa/default");
        assert_eq!(&**workload.cluster(), "Kubernetes");
        assert_eq!(workload.capacity(), 1);
        assert!(workload.addresses().is_empty());
        assert_eq!(workload.hostname(), "");
    }

    #[test]
    fn a_name_need_not_end_the_uid() {
        let mut odd = description("web-1");
        odd.uid = "vm-7".to_owned();
        odd.hostname = "vm-7.example".to_owned();
        let workload = Interner::new().workload(odd).unwrap();
        assert_eq!((workload.name(), workload.hostname()), ("web-1", "vm-7.example"));
    }

    #[test]
    fn a_workload_nobody_could_refer_to_or_trust_is_refused() {
        let mut interner = Interner::new();
        let mut nameless = description("web-1");
        nameless.uid.clear();
        assert_eq!(interner.workload(nameless).unwrap_err(), WorkloadError::NoUid);
        let mut homeless = description("web-1");
        homeless.namespace.clear();
        assert!(matches!(interner.workload(homeless), Err(WorkloadError::Identity(_))));
    }

    #[test]
    fn a_pool_forgets_what_nobody_holds() {
        let mut interner = Interner::new();
        let kept = interner.string("kept");
        for number in 0..10 * POOL_SWEEP_MIN {
            interner.string(&number.to_string());
        }
        assert!(interner.strings.shared.len() <= 2 * POOL_SWEEP_MIN);
        assert!(Arc::ptr_eq(&kept, &interner.string("kept")));
    }
}

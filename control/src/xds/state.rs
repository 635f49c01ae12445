//! What is known of the mesh, changed one resource at a time.
//!
//! A [`State`] is cheap to clone: a batch is applied to a clone, which replaces the original at the end of its response
//! or is dropped. What is told again as it was changes nothing, so that a control plane which sends everything again
//! costs time and no memory.

use std::sync::Arc;

use ringway_engine::snapshot::{
    AuthorizationPolicy, Interner, NamespacedHostname, Service, Snapshot, Workload,
    WorkloadDescription,
};

use super::decode::Rejection;
#[cfg(feature = "waypoint")]
use super::l7::ToldL7;
use super::local::LocalWorkloads;
use super::told::{Resource, Told};
use crate::source::is_same_workload;

/// The types of resources that are subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Address,
    Authorization,
    /// Of a waypoint or gateway.
    #[cfg(feature = "waypoint")]
    L7,
}

/// Types of resources that one client asks for.
pub(super) const KINDS: usize = 2;

impl Kind {
    /// Every one.
    #[cfg(feature = "waypoint")]
    pub(super) const ALL: [Kind; 3] = [Kind::Address, Kind::Authorization, Kind::L7];
    #[cfg(not(feature = "waypoint"))]
    pub(super) const ALL: [Kind; 2] = Kind::OF_NODE;

    /// What a node asks for, in this order.
    pub(super) const OF_NODE: [Kind; KINDS] = [Kind::Address, Kind::Authorization];

    /// What a waypoint or gateway asks for. Policies are not told to those.
    #[cfg(feature = "waypoint")]
    pub(super) const OF_L7: [Kind; KINDS] = [Kind::Address, Kind::L7];

    pub(super) const fn type_url(self) -> &'static str {
        match self {
            Kind::Address => "type.googleapis.com/istio.workload.Address",
            Kind::Authorization => "type.googleapis.com/istio.security.Authorization",
            #[cfg(feature = "waypoint")]
            Kind::L7 => "type.googleapis.com/agentgateway.dev.resource.Resource",
        }
    }

    /// That of a type, among those that are asked for.
    pub(super) fn of(type_url: &str, asked: &[Kind]) -> Option<Kind> {
        asked.iter().copied().find(|kind| kind.type_url() == type_url)
    }
}

/// Everything that was told, and what has come of it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) snapshot: Snapshot,
    pub(super) local: LocalWorkloads,
    addresses: Told,
    authorizations: Told,
    #[cfg(feature = "waypoint")]
    pub(super) l7: ToldL7,
}

/// What changing a state needs besides it.
#[derive(Debug)]
pub(super) struct Scene {
    interner: Interner,
    /// The name of this node; without it, every workload counts as its own.
    node: Option<String>,
}

impl Scene {
    pub(super) fn new(node: Option<String>) -> Scene {
        Scene { interner: Interner::new(), node }
    }
}

impl State {
    /// Goes on from what is known without a control plane.
    pub(super) fn new(snapshot: Snapshot, scene: &Scene) -> State {
        let local = LocalWorkloads::of(&snapshot, scene.node.as_deref());
        State {
            snapshot,
            local,
            addresses: Told::default(),
            authorizations: Told::default(),
            #[cfg(feature = "waypoint")]
            l7: ToldL7::default(),
        }
    }

    /// What was told of this type.
    pub(super) fn told(&self, kind: Kind) -> &Told {
        match kind {
            Kind::Address => &self.addresses,
            Kind::Authorization => &self.authorizations,
            #[cfg(feature = "waypoint")]
            Kind::L7 => self.l7.told(),
        }
    }

    /// Adds a workload, or replaces the one of its uid, and what was told under its name.
    pub(super) fn set_workload(
        &mut self,
        name: &str,
        version: &str,
        description: WorkloadDescription,
        scene: &mut Scene,
    ) -> Result<(), Rejection> {
        let workload = scene.interner.workload(description).map_err(Rejection::Workload)?;
        let known = self.snapshot.workload_by_uid(workload.uid());
        let workload = match known {
            Some(known) if is_same_workload(known, &workload) => Arc::clone(known),
            _ => self.put_workload(workload, scene),
        };
        let before = self.addresses.set(name, version, Resource::Workload(Arc::clone(&workload)));
        match before.map(|known| known.resource().clone()) {
            Some(Resource::Workload(other)) if other.uid() == workload.uid() => {}
            Some(other) => self.release(&other),
            None => {}
        }
        Ok(())
    }

    /// Adds a service, or replaces the one of its name.
    pub(super) fn set_service(
        &mut self,
        name: &str,
        version: &str,
        service: Service,
        scene: &mut Scene,
    ) {
        let service = scene.interner.service(service);
        let id = service.id.clone();
        if self.snapshot.service(&id).is_none_or(|known| **known != service) {
            self.snapshot.upsert_service(service);
        }
        let service = Arc::clone(self.snapshot.service(&id).expect("it was put there"));
        let before = self.addresses.set(name, version, Resource::Service(service));
        match before.map(|known| known.resource().clone()) {
            Some(Resource::Service(other)) if other.id == id => {}
            Some(other) => self.release(&other),
            None => {}
        }
    }

    /// Adds a policy, or replaces the one of its name.
    pub(super) fn set_policy(&mut self, name: &str, version: &str, policy: AuthorizationPolicy) {
        let known = self.snapshot.policy(&policy.namespace, &policy.name);
        let policy = match known {
            Some(known) if **known == policy => Arc::clone(known),
            _ => {
                let (namespace, name) = (policy.namespace.clone(), policy.name.clone());
                self.snapshot.upsert_policy(policy);
                Arc::clone(self.snapshot.policy(&namespace, &name).expect("it was put there"))
            }
        };
        let resource = Resource::Policy(Arc::clone(&policy));
        let before = self.authorizations.set(name, version, resource);
        match before.map(|known| known.resource().clone()) {
            Some(Resource::Policy(other))
                if (&other.namespace, &other.name) == (&policy.namespace, &policy.name) => {}
            Some(other) => self.release(&other),
            None => {}
        }
    }

    /// Removes what has this name. What was never told under it may still be known from a file, by its own name.
    pub(super) fn remove(&mut self, kind: Kind, name: &str) {
        let told = match kind {
            Kind::Address => &mut self.addresses,
            Kind::Authorization => &mut self.authorizations,
            #[cfg(feature = "waypoint")]
            Kind::L7 => return self.l7.remove(name),
        };
        match (told.remove(name), kind) {
            (Some(known), _) => self.release(known.resource()),
            (None, Kind::Address) => self.remove_untold_address(name),
            (None, Kind::Authorization) => {
                if let Some((namespace, name)) = name.split_once('/') {
                    self.snapshot.remove_policy(namespace, name);
                }
            }
            #[cfg(feature = "waypoint")]
            (None, Kind::L7) => {}
        }
    }

    fn remove_untold_address(&mut self, name: &str) {
        if self.snapshot.workload_by_uid(name).is_some() {
            self.remove_workload(name);
        } else if let Ok(id) = name.parse::<NamespacedHostname>() {
            self.snapshot.remove_service(&id);
        }
    }

    /// Removes a resource, unless another has taken its place meanwhile.
    fn release(&mut self, resource: &Resource) {
        match resource {
            Resource::Workload(gone) => {
                let known = self.snapshot.workload_by_uid(gone.uid());
                if known.is_some_and(|known| Arc::ptr_eq(known, gone)) {
                    self.remove_workload(gone.uid());
                }
            }
            Resource::Service(gone) => {
                let known = self.snapshot.service(&gone.id);
                if known.is_some_and(|known| Arc::ptr_eq(known, gone)) {
                    self.snapshot.remove_service(&gone.id);
                }
            }
            Resource::Policy(gone) => {
                let known = self.snapshot.policy(&gone.namespace, &gone.name);
                if known.is_some_and(|known| Arc::ptr_eq(known, gone)) {
                    self.snapshot.remove_policy(&gone.namespace, &gone.name);
                }
            }
            #[cfg(feature = "waypoint")]
            Resource::L7(_) => {}
        }
    }

    fn put_workload(&mut self, workload: Workload, scene: &Scene) -> Arc<Workload> {
        let uid = workload.uid().to_owned();
        if let Some(before) = self.snapshot.workload_by_uid(&uid) {
            self.local.remove(before);
        }
        self.snapshot.upsert_workload(workload);
        let workload = self.snapshot.workload_by_uid(&uid).expect("it was put there");
        self.local.add(workload, scene.node.as_deref());
        Arc::clone(workload)
    }

    fn remove_workload(&mut self, uid: &str) {
        if let Some(gone) = self.snapshot.remove_workload(uid) {
            self.local.remove(&gone);
        }
    }
}

//! The snapshot that is being made.
//!
//! It begins as the one in force, if there is one: what a reload does not change is not made again, so that both
//! generations share it, and a mesh of 150,000 workloads is not in memory twice.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use ringway_engine::snapshot::{
    AuthorizationPolicy, Interner, NamespacedHostname, Service, Settings, Snapshot, TunnelProtocol,
    Workload, WorkloadDescription, WorkloadError,
};

use super::chunks::Chunks;
use super::diagnostics::{Place, Problem, Reporter};

/// A snapshot, and what of it was said this time.
pub(crate) struct World {
    snapshot: Snapshot,
    interner: Interner,
    /// The workloads that were described, as a hash of their uid: a hash of 64 bits stands for it well enough.
    workloads: HashSet<u64>,
    /// Where those of local files were described.
    local: Chunks<(u64, Place)>,
    /// How many of them are in the mesh.
    local_in_mesh: usize,
    services: HashMap<NamespacedHostname, Place>,
    /// The names of the policies that were said, as `namespace/name`.
    policies: BTreeSet<String>,
}

impl World {
    /// An empty one, or one that goes on from `previous`.
    pub(crate) fn new(previous: Option<&Snapshot>) -> World {
        World {
            snapshot: previous.map_or_else(|| Snapshot::new(""), without_credentials),
            interner: Interner::new(),
            workloads: HashSet::new(),
            local: Chunks::default(),
            local_in_mesh: 0,
            services: HashMap::new(),
            policies: BTreeSet::new(),
        }
    }

    pub(crate) fn interner(&mut self) -> &mut Interner {
        &mut self.interner
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Makes a workload of a local file and adds it.
    pub(crate) fn add_local_workload(
        &mut self,
        description: WorkloadDescription,
        place: Place,
        reporter: &mut Reporter,
    ) -> Result<(), WorkloadError> {
        let hash = hash(&description.uid);
        self.local_in_mesh += usize::from(description.protocol == TunnelProtocol::Hbone);
        self.add_workload(description, place, reporter)?;
        self.local.push("", (hash, place));
        Ok(())
    }

    /// Makes a workload and adds it.
    pub(crate) fn add_workload(
        &mut self,
        description: WorkloadDescription,
        place: Place,
        reporter: &mut Reporter,
    ) -> Result<(), WorkloadError> {
        let workload = self.interner.workload(description)?;
        let hash = hash(workload.uid());
        if !self.workloads.insert(hash) {
            self.report_twice(hash, &workload, place, reporter);
        }
        let known = self.snapshot.workload_by_uid(workload.uid());
        if known.is_none_or(|known| !is_same(known, &workload)) {
            self.snapshot.upsert_workload(workload);
        }
        Ok(())
    }

    /// Two objects of one name were reported by it, where both their places were known.
    fn report_twice(&self, hash: u64, workload: &Workload, place: Place, reporter: &mut Reporter) {
        let mut firsts = self.local.iter().filter(|(_, (other, _))| *other == hash);
        if let Some((_, (_, first))) = firsts.next().filter(|_| !reporter.is_full()) {
            let message = format!("two workloads have the uid `{}`", workload.uid());
            reporter.report(Problem::error(place, message).related(*first, "the other one"));
        }
    }

    pub(crate) fn add_service(&mut self, service: Service, place: Place, reporter: &mut Reporter) {
        let service = self.interner.service(service);
        if let Some(first) = self.services.insert(service.id.clone(), place) {
            let message = format!("two services are named `{}`", service.id);
            reporter.report(Problem::error(place, message).related(first, "the other one"));
        }
        let known = self.snapshot.service(&service.id);
        if known.is_none_or(|known| **known != service) {
            self.snapshot.upsert_service(service);
        }
    }

    /// Adds a policy.
    pub(crate) fn add_policy(&mut self, policy: AuthorizationPolicy) {
        self.policies.insert(format!("{}/{}", policy.namespace, policy.name));
        let known = self.snapshot.policy(&policy.namespace, &policy.name);
        if known.is_none_or(|known| **known != policy) {
            self.snapshot.upsert_policy(policy);
        }
    }

    /// The policies that were said this time, as `namespace/name`.
    pub(crate) fn policies(&self) -> &BTreeSet<String> {
        &self.policies
    }

    /// How many workloads of local files are in the mesh.
    pub(crate) fn local_in_mesh(&self) -> usize {
        self.local_in_mesh
    }

    /// Whether a workload was described this time.
    pub(crate) fn describes(&self, workload: &Workload) -> bool {
        self.workloads.contains(&hash(workload.uid()))
    }

    /// Forgets what was not said this time.
    pub(crate) fn finish(mut self, settings: Settings) -> Snapshot {
        self.snapshot.set_settings(settings);
        if self.snapshot.workload_count() > self.workloads.len() {
            let all = self.snapshot.workloads();
            let gone: Vec<_> = all.filter(|each| !self.describes(each)).cloned().collect();
            for workload in gone {
                self.snapshot.remove_workload(workload.uid());
            }
        }
        if self.snapshot.service_count() > self.services.len() {
            let all = self.snapshot.services();
            let gone: Vec<_> =
                all.filter(|each| !self.services.contains_key(&each.id)).cloned().collect();
            for service in gone {
                self.snapshot.remove_service(&service.id);
            }
        }
        let is_gone = |policy: &AuthorizationPolicy| {
            !self.policies.contains(&format!("{}/{}", policy.namespace, policy.name))
        };
        let gone: Vec<_> =
            self.snapshot.policies().filter(|policy| is_gone(policy)).cloned().collect();
        for policy in gone {
            self.snapshot.remove_policy(&policy.namespace, &policy.name);
        }
        self.snapshot
    }
}

/// Whose credentials are needed is for others to say.
fn without_credentials(previous: &Snapshot) -> Snapshot {
    let mut snapshot = previous.clone();
    for credentials in previous.all_credentials() {
        snapshot.remove_credentials(credentials.identity());
    }
    snapshot
}

fn hash(uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish()
}

/// Whether two workloads are told alike.
pub(crate) fn is_same(one: &Workload, other: &Workload) -> bool {
    one.uid() == other.uid()
        && one.name() == other.name()
        && one.kind() == other.kind()
        && one.addresses() == other.addresses()
        && one.hostname() == other.hostname()
        && (one.protocol(), one.health(), one.network_mode())
            == (other.protocol(), other.health(), other.network_mode())
        && (one.capacity(), one.native_tunnel()) == (other.capacity(), other.native_tunnel())
        && (one.network(), one.cluster(), one.node(), one.locality())
            == (other.network(), other.cluster(), other.node(), other.locality())
}

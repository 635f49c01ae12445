//! The endpoints of one service, ready to be chosen from.
//!
//! Two trees: those ready to be used and those withheld because they are not healthy. Which are which
//! follows from the service's health policy; both are kept, so a service that is changed, removed or
//! comes later than its workloads loses none.
//!
//! When the service ranks endpoints by what they have in common with the client, the ready ones are
//! ordered by that: the key begins with a few bits of a hash of each preference's value. All endpoints
//! that share the client's first `n` values are then one run of keys, found in logarithmic time. A hash of few
//! bits proves nothing, so whoever takes an endpoint from a run compares the values themselves.

use std::sync::Arc;

use super::address::{NamespacedHostname, key_of};
use super::description::Membership;
use super::footprint::Footprint;
use super::service::LoadBalancer;
use super::tree::{Entry, Tree};
use super::vocabulary::{Health, HealthPolicy, LoadBalancerMode, Scope};
use super::workload::Workload;

/// A workload in its role as endpoint of one service.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    key: u64,
    capacity: u32,
    /// Which of the workload's memberships this is.
    membership: u32,
    workload: Arc<Workload>,
}

impl Endpoint {
    pub(crate) fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.workload.services()[self.membership as usize]
    }
}

impl Entry for Endpoint {
    fn key(&self) -> u64 {
        self.key
    }

    fn weight(&self) -> u64 {
        u64::from(self.capacity)
    }
}

/// The endpoints of one service.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    service: NamespacedHostname,
    ranking: Ranking,
    health_policy: HealthPolicy,
    ready: Tree<Endpoint>,
    withheld: Tree<Endpoint>,
}

impl Endpoints {
    pub(super) fn new(service: NamespacedHostname, load_balancer: &LoadBalancer) -> Endpoints {
        Endpoints {
            service,
            ranking: Ranking::of(load_balancer),
            health_policy: load_balancer.health_policy,
            ready: Tree::default(),
            withheld: Tree::default(),
        }
    }

    pub(crate) fn service(&self) -> &NamespacedHostname {
        &self.service
    }

    pub(crate) fn ranking(&self) -> &Ranking {
        &self.ranking
    }

    pub(crate) fn ready(&self) -> &Tree<Endpoint> {
        &self.ready
    }

    pub(super) fn withheld(&self) -> &Tree<Endpoint> {
        &self.withheld
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.withheld.is_empty()
    }

    /// Whether the service still orders and filters endpoints as it did.
    pub(super) fn fits(&self, load_balancer: &LoadBalancer) -> bool {
        self.health_policy == load_balancer.health_policy
            && self.ranking == Ranking::of(load_balancer)
    }

    pub(super) fn footprint_beside(&self, other: Option<&Endpoints>) -> Footprint {
        let nothing = Tree::default();
        let (ready, withheld) =
            other.map_or((&nothing, &nothing), |other| (&other.ready, &other.withheld));
        let mut footprint = self.ready.footprint_beside(ready);
        footprint += self.withheld.footprint_beside(withheld);
        footprint
    }

    /// The same endpoints, ordered and filtered as the service now says.
    pub(super) fn refit(&self, load_balancer: &LoadBalancer) -> Endpoints {
        let mut refit = Endpoints::new(self.service.clone(), load_balancer);
        for endpoint in self.ready.iter().chain(self.withheld.iter()) {
            refit.insert(&endpoint.workload, endpoint.membership);
        }
        refit
    }

    pub(super) fn insert(&mut self, workload: &Arc<Workload>, membership: u32) {
        let endpoint = Endpoint {
            key: self.ranking.key(workload),
            capacity: workload.capacity(),
            membership,
            workload: Arc::clone(workload),
        };
        self.home_of(workload).insert(endpoint);
    }

    pub(super) fn remove(&mut self, workload: &Arc<Workload>) {
        let key = self.ranking.key(workload);
        let removed =
            self.home_of(workload).remove(key, |other| Arc::ptr_eq(&other.workload, workload));
        debug_assert!(removed.is_some(), "a workload is an endpoint of all its services");
    }

    fn home_of(&mut self, workload: &Workload) -> &mut Tree<Endpoint> {
        let is_ready =
            workload.health() == Health::Healthy || self.health_policy == HealthPolicy::AllowAll;
        if is_ready { &mut self.ready } else { &mut self.withheld }
    }
}

/// How a service orders its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranking {
    mode: LoadBalancerMode,
    preferences: Box<[Scope]>,
}

/// Bits of a key that are left to tell apart endpoints of equal rank.
const KEY_BITS_OF_UID_MIN: u32 = 16;

impl Ranking {
    fn of(load_balancer: &LoadBalancer) -> Ranking {
        let mode = load_balancer.mode;
        let mut preferences = Vec::new();
        if matches!(mode, LoadBalancerMode::Strict | LoadBalancerMode::Failover) {
            for &scope in &load_balancer.routing_preferences {
                if !preferences.contains(&scope) {
                    preferences.push(scope);
                }
            }
        }
        Ranking { mode, preferences: preferences.into_boxed_slice() }
    }

    /// Whether an endpoint must match every preference.
    pub(crate) fn is_strict(&self) -> bool {
        self.mode == LoadBalancerMode::Strict
    }

    /// What endpoints are ordered by, the most important first; each scope once.
    pub(crate) fn preferences(&self) -> &[Scope] {
        &self.preferences
    }

    /// How many preferences, in order, both workloads have the same value for.
    pub(crate) fn in_common(&self, one: &Workload, other: &Workload) -> usize {
        self.in_common_after(0, one, other)
    }

    /// The same, but without the first few.
    pub(crate) fn in_common_after(&self, skip: usize, one: &Workload, other: &Workload) -> usize {
        let is_same = |scope: &&Scope| value(one, **scope) == value(other, **scope);
        self.preferences.iter().skip(skip).take_while(is_same).count()
    }

    /// The keys of all endpoints that have the first `depth` values in common with `workload`, and of a few
    /// others.
    pub(crate) fn keys_in_common(&self, workload: &Workload, depth: usize) -> (u64, u64) {
        self.run(self.prefix(workload, depth), depth)
    }

    /// The same, but with an endpoint of another network: `of` is its key.
    pub(crate) fn keys_in_common_elsewhere(
        &self,
        of: u64,
        workload: &Workload,
        depth: usize,
    ) -> (u64, u64) {
        let (first, last) = self.run(of, 1);
        let network = !(first ^ last);
        self.run(of & network | self.prefix(workload, depth) & !network, depth)
    }

    fn key(&self, workload: &Workload) -> u64 {
        let depth = self.preferences.len();
        let free = self.free_bits(depth);
        self.prefix(workload, depth) | top_bits(workload.key(), free)
    }

    fn prefix(&self, workload: &Workload, depth: usize) -> u64 {
        let mut prefix = 0;
        for (index, &scope) in self.preferences[..depth].iter().enumerate() {
            let bits = top_bits(key_of(value(workload, scope)), self.bits_per_preference());
            prefix |= bits << self.free_bits(index + 1);
        }
        prefix
    }

    /// All keys that begin as `prefix` does.
    fn run(&self, prefix: u64, depth: usize) -> (u64, u64) {
        let free = top_bits(u64::MAX, self.free_bits(depth));
        (prefix & !free, prefix | free)
    }

    fn bits_per_preference(&self) -> u32 {
        match self.preferences.len() as u32 {
            0 => 0,
            preferences => ((64 - KEY_BITS_OF_UID_MIN) / preferences).min(16),
        }
    }

    /// The bits behind the first `depth` values.
    fn free_bits(&self, depth: usize) -> u32 {
        64 - self.bits_per_preference() * depth as u32
    }
}

/// The first `count` bits, as a number of so many bits.
fn top_bits(hash: u64, count: u32) -> u64 {
    hash.checked_shr(64 - count).unwrap_or(0)
}

fn value(workload: &Workload, scope: Scope) -> &str {
    match scope {
        Scope::Region => &workload.locality().region,
        Scope::Zone => &workload.locality().zone,
        Scope::Subzone => &workload.locality().subzone,
        Scope::Node => workload.node(),
        Scope::Cluster => workload.cluster(),
        Scope::Network => workload.network(),
    }
}

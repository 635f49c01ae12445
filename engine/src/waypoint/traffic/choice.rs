//! Who gets the next request: of the endpoints that are in use, those that are near enough, and of them the one that the
//! session, the hash or the balance picks.

use std::sync::Arc;

use ringway_http::{
    balance::{self, Candidate, Locality, Maglev, Ring},
    model::traffic::{Balancing, ConsistentHash, HashSpread},
};

use super::{Local, Terms};
use crate::{shard::Shard, snapshot::Workload, waypoint::policy::since_epoch};

impl Terms {
    /// One of these endpoints; none of `in_vain`.
    pub(crate) fn choose(
        &self,
        shard: &Shard,
        own: &Workload,
        endpoints: &[&Arc<Workload>],
        in_vain: &[Arc<Workload>],
    ) -> Option<usize> {
        self.local.endpoints.set(endpoints.len());
        let used = self.used(endpoints);
        let is_used = |place: usize| {
            let uid = endpoints[place].uid();
            used[place]
                && endpoints[place].capacity() > 0
                && in_vain.iter().all(|it| it.uid() != uid)
        };
        if let Some(session) = self.session {
            let wished = session.endpoint.ip();
            let is_it =
                |place: &usize| is_used(*place) && endpoints[*place].addresses().contains(&wished);
            if let Some(place) = (0..endpoints.len()).find(is_it) {
                return Some(place);
            }
        }
        let near = self.near(shard, own, endpoints, is_used);
        match (&self.policy.balancing, self.alike) {
            (Some(Balancing::ConsistentHash(ConsistentHash { spread, .. })), Some(hash)) => {
                self.local.hashed(*spread, endpoints, hash, |place| near.contains(&place))
            }
            (balancing, _) => {
                let weights = self.local.candidates(endpoints, &near);
                self.local.balance(balancing.as_ref(), &weights, shard)
            }
        }
    }

    /// Whether each endpoint is in use, or thrown out for a while; when too few are left, all are used.
    fn used(&self, endpoints: &[&Arc<Workload>]) -> Vec<bool> {
        let Some(policy) = &self.policy.outliers else { return vec![true; endpoints.len()] };
        let (outliers, now) = (self.local.outliers.borrow(), since_epoch());
        let is_used = |one: &&Arc<Workload>| outliers.is_used(&Arc::from(one.uid()), now);
        let used: Vec<bool> = endpoints.iter().map(is_used).collect();
        let count = used.iter().filter(|used| **used).count();
        match outliers.is_panic(policy, count, endpoints.len()) {
            true => vec![true; endpoints.len()],
            false => used,
        }
    }

    /// The places that are near enough, in order.
    fn near(
        &self,
        shard: &Shard,
        own: &Workload,
        endpoints: &[&Arc<Workload>],
        is_used: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let Some(policy) = &self.policy.locality else {
            return (0..endpoints.len()).filter(|place| is_used(*place)).collect();
        };
        let (own, places) = (locality(own), endpoints.iter().map(|one| locality(one)));
        let places: Vec<Locality> = places.collect();
        balance::distributed(&own, &places, policy, &is_used, shard.random())
            .unwrap_or_else(|| balance::ranked(&own, &places, policy, &is_used))
    }
}

impl Local {
    /// All endpoints; those that are not near have no weight.
    fn candidates(&self, endpoints: &[&Arc<Workload>], near: &[usize]) -> Vec<Candidate> {
        let mut all = vec![Candidate { weight: 0, active: 0 }; endpoints.len()];
        for &place in near {
            let endpoint = endpoints[place];
            let active = self.busy(endpoint.uid());
            all[place] = Candidate { weight: endpoint.capacity(), active };
        }
        all
    }

    fn balance(
        &self,
        balancing: Option<&Balancing>,
        all: &[Candidate],
        shard: &Shard,
    ) -> Option<usize> {
        match balancing.unwrap_or(&Balancing::LeastRequest) {
            Balancing::LeastRequest => {
                balance::least_request(all, [shard.random(), shard.random()])
            }
            Balancing::RoundRobin => self.rotation.borrow_mut().next(all),
            // Without what requests have in common, chance picks.
            Balancing::Random | Balancing::ConsistentHash(_) => {
                balance::random(all, shard.random())
            }
        }
    }

    fn hashed(
        &self,
        spread: HashSpread,
        endpoints: &[&Arc<Workload>],
        hash: u64,
        is_used: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut kept = self.hashed.borrow_mut();
        let named = || endpoints.iter().map(|one| (one.uid(), one.capacity()));
        if !kept.as_ref().is_some_and(|kept| kept.is_of(spread, endpoints)) {
            let table = match spread {
                HashSpread::Ring { points_min } => Table::Ring(Ring::new(named(), points_min)),
                HashSpread::Maglev { places } => Table::Maglev(Maglev::new(named(), places)),
            };
            let endpoints = named().map(|(uid, capacity)| (uid.into(), capacity)).collect();
            *kept = Some(Hashed { spread, endpoints, table });
        }
        match &kept.as_ref()?.table {
            Table::Ring(ring) => ring.pick(hash, is_used),
            Table::Maglev(maglev) => maglev.pick(hash, is_used),
        }
    }
}

/// Endpoints as hashes find them, kept while they are the same.
pub(super) struct Hashed {
    pub(super) spread: HashSpread,
    pub(super) endpoints: Vec<(Arc<str>, u32)>,
    pub(super) table: Table,
}

impl Hashed {
    fn is_of(&self, spread: HashSpread, endpoints: &[&Arc<Workload>]) -> bool {
        let mut both = self.endpoints.iter().zip(endpoints);
        self.spread == spread
            && self.endpoints.len() == endpoints.len()
            && both.all(|((uid, capacity), one)| **uid == *one.uid() && *capacity == one.capacity())
    }
}

pub(super) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

fn locality(workload: &Workload) -> Locality {
    let of = workload.locality();
    Locality { region: of.region.clone(), zone: of.zone.clone(), subzone: of.subzone.clone() }
}

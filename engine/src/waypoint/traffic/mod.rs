//! How requests are passed on to one service, where policies say something of it: how much may be under way, how much may be
//! tried again, who gets nothing for a while, and who gets the next one.
//!
//! What all shards count together is in [`Common`]: atomics, behind a lock that a shard takes once for each service. All else
//! is each shard's own.

mod choice;
mod places;
mod said;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ringway_http::{
    RequestHead,
    balance::{self, RoundRobin},
    breaker::{Breaker, Counted, Permit},
    budget::Budget,
    model::traffic::{Balancing, ConsistentHash, HashKey, TrafficPolicy},
    outlier::{Outliers, Seen},
    session::Session,
};

use self::choice::Hashed;
pub(crate) use self::places::{Busy, Keeping, Places};
pub(crate) use self::said::{kept, own_terms, terms};
use super::policy::since_epoch;
use crate::{
    shard::Shard,
    snapshot::{NamespacedHostname, Snapshot, Workload},
};

/// A port of a service, for one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceKey {
    pod: Arc<str>,
    service: NamespacedHostname,
    port: u16,
}

/// What shards count together.
#[derive(Default)]
pub(crate) struct Common(Mutex<HashMap<ServiceKey, Arc<Counts>>>);

#[derive(Default)]
struct Counts {
    breaker: Arc<Breaker>,
    budget: Budget,
}

impl Common {
    fn counts(&self, key: &ServiceKey) -> Arc<Counts> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whom no shard knows any more is forgotten.
        counts.retain(|_, one| Arc::strong_count(one) > 1);
        counts.entry(key.clone()).or_default().clone()
    }
}

/// What one shard knows of services that policies say something of.
#[derive(Default)]
pub(crate) struct Services(RefCell<HashMap<ServiceKey, Rc<Local>>>);

impl Services {
    /// What is said of a request to a service.
    pub(crate) fn terms(
        &self,
        shard: &Shard,
        snapshot: &Snapshot,
        place: (&Arc<str>, &NamespacedHostname, u16),
        policy: TrafficPolicy,
    ) -> Option<Box<Terms>> {
        if policy == TrafficPolicy::default() {
            return None;
        }
        let (pod, service, port) = (place.0.clone(), place.1.clone(), place.2);
        let key = ServiceKey { pod, service, port };
        let mut known = self.0.borrow_mut();
        if !known.contains_key(&key) {
            // Whom nobody can ask for any more is forgotten.
            known.retain(|key, _| snapshot.service(&key.service).is_some());
            known.insert(key.clone(), Rc::new(Local::new(shard.traffic.counts(&key))));
        }
        let local = known.get(&key)?.clone();
        Some(Box::new(Terms {
            key,
            policy,
            local,
            alike: None,
            given: None,
            session: None,
            is_secure: false,
        }))
    }
}

/// What one shard knows of a service.
struct Local {
    counts: Arc<Counts>,
    outliers: RefCell<Outliers<Arc<str>>>,
    /// Requests under way from this shard, by endpoint.
    busy: RefCell<HashMap<Arc<str>, Rc<Cell<u32>>>>,
    /// How many endpoints there were the last time.
    endpoints: Cell<usize>,
    rotation: RefCell<RoundRobin>,
    hashed: RefCell<Option<Hashed>>,
}

impl Local {
    fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            outliers: RefCell::default(),
            busy: RefCell::default(),
            endpoints: Cell::new(0),
            rotation: RefCell::default(),
            hashed: RefCell::default(),
        }
    }

    fn busy(&self, endpoint: &str) -> u32 {
        self.busy.borrow().get(endpoint).map_or(0, |count| count.get())
    }
}

/// What is said of one request. Boxed: it is much, and of most requests nothing is said.
pub(crate) struct Terms {
    key: ServiceKey,
    pub(crate) policy: TrafficPolicy,
    local: Rc<Local>,
    /// The hash of what it has in common with others that go to the same endpoint.
    alike: Option<u64>,
    /// What its client is given to have it in common.
    given: Option<(HeaderName, HeaderValue)>,
    session: Option<Session>,
    /// The client came over TLS.
    is_secure: bool,
}

impl Terms {
    /// Reads what a request says of who is to get it.
    pub(crate) fn read(&mut self, head: &RequestHead<'_>, source: IpAddr, chance: u64) {
        if let Some(Balancing::ConsistentHash(ConsistentHash { key, .. })) = &self.policy.balancing
        {
            let key_of_request = balance::hash_key(key, head, source);
            self.alike = key_of_request.map(|key| balance::hash(&key));
            if let (None, HashKey::Cookie { name, path, lifetime: Some(lifetime) }) =
                (self.alike, key)
            {
                let value = format!("{chance:016x}");
                self.alike = Some(balance::hash(&value));
                let ends = match lifetime.as_secs() {
                    0 => String::new(),
                    seconds => format!("; Max-Age={seconds}"),
                };
                let cookie = format!("{name}={value}{ends}; Path={path}; HttpOnly");
                let cookie = HeaderValue::from_str(&cookie).ok();
                self.given = cookie.map(|cookie| (header::SET_COOKIE, cookie));
            }
        }
        if let Some(policy) = &self.policy.session {
            self.session = Session::of(policy, head.headers(), unix_seconds());
        }
    }

    /// Takes out of a request what only says who is to get it.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        if let Some(policy) = &self.policy.session {
            Session::remove(policy, headers);
        }
    }

    /// What the answer of `endpoint` tells the client.
    pub(crate) fn told(&self, endpoint: SocketAddr) -> Vec<(HeaderName, HeaderValue)> {
        let session = self.policy.session.as_ref().and_then(|policy| {
            Session::told(policy, self.session, endpoint, unix_seconds(), self.is_secure)
        });
        self.given.iter().cloned().chain(session).collect()
    }

    /// Takes a place; none: there is none.
    pub(crate) fn enter(&self, counted: Counted) -> Option<Permit> {
        self.local.counts.breaker.enter(counted, &self.policy.limits)
    }

    /// By what connections are told apart from those that nothing is said of.
    pub(crate) fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// A request, which more requests may be tried again for.
    pub(crate) fn begun(&self) {
        if let Some(budget) = &self.policy.retry_budget {
            self.local.counts.budget.request(budget, since_epoch());
        }
    }

    /// Whether the budget has one more try.
    pub(crate) fn may_retry(&self) -> bool {
        let budget = self.policy.retry_budget.as_ref();
        budget.is_none_or(|budget| self.local.counts.budget.retry(budget, since_epoch()))
    }

    /// How a try ended at an endpoint.
    pub(crate) fn note(&self, endpoint: &Workload, seen: Seen) {
        let Some(policy) = &self.policy.outliers else { return };
        let (count, uid) = (self.local.endpoints.get(), Arc::from(endpoint.uid()));
        self.local.outliers.borrow_mut().note(policy, &uid, seen, count, since_epoch());
    }

    /// A try that is under way at an endpoint.
    pub(crate) fn busy(&self, endpoint: &Workload) -> Busy {
        let mut busy = self.local.busy.borrow_mut();
        // Twice as many as there are: some have gone.
        if busy.len() > 2 * self.local.endpoints.get() {
            busy.retain(|_, count| count.get() > 0);
        }
        let count = busy.entry(endpoint.uid().into()).or_default().clone();
        count.set(count.get() + 1);
        Busy(count)
    }

    /// Whether endpoints are chosen here.
    pub(crate) fn chooses(&self) -> bool {
        let TrafficPolicy { outliers, balancing, locality, session, .. } = &self.policy;
        outliers.is_some() || balancing.is_some() || locality.is_some() || session.is_some()
    }
}

fn unix_seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

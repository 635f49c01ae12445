//! HTTP connections to backends: on this shard, kept for the next request, shared where HTTP/2 allows it.
//!
//! ```text
//!  check_out ──idle, or with room──▶ Lease ──send──▶ answer ──its body ended──▶ give_back ─▶ idle
//!      └────────────dial──────────────▲                └──dropped before──▶ closed (HTTP/1), reset (HTTP/2)
//! ```
//!
//! Where policies bound what is open to a service, its requests wait for room, and its connections are its own.
//!
//! A connection runs in a stream of a tunnel to the endpoint's node proxy, under the identity of the pod itself, or in a
//! plain socket where the endpoint has no proxy. Where policies ask for TLS to the backend, that runs on top of either, and no
//! connection is shared with requests that are to go by other settings.

mod dial;
mod lease;
mod pool;
mod room;
mod shared;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::Rc,
    time::Duration,
};

use ringway_http::breaker::Counted;

pub(crate) use self::{
    dial::connect,
    lease::{Lease, Unanswered},
};
use self::{
    dial::dial_alone,
    lease::Held,
    pool::{Dialling, Endpoint, Opened},
    shared::dial_shared,
};
use super::{
    draining::Awaited,
    tls::Originator,
    traffic::{Places, ServiceKey, Terms},
};
use crate::{
    close::CloseReason,
    decide::{NextHop, Route},
    hash::FastHasher,
    reach::Call,
    runtime,
};

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    Http1,
    Http2,
}

/// How a backend is spoken to.
#[derive(Clone, Copy)]
pub(crate) struct Spoken<'o> {
    pub(crate) dialect: Dialect,
    /// What begins TLS, where policies ask for it.
    pub(crate) originator: Option<&'o Originator>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    next_hop: NextHop,
    dialect: Dialect,
    /// Whose policies say how connections are kept.
    service: Option<ServiceKey>,
    /// With which settings TLS runs on them; none: without TLS.
    originator: Option<u64>,
}

/// The connections of one pod.
#[derive(Default)]
pub(crate) struct Upstreams {
    endpoints: RefCell<HashMap<Key, Endpoint, FastHasher>>,
    sweeping: Cell<bool>,
    /// How long the connection may be idle that may be so for the shortest time.
    idle_shortest: Cell<Option<Duration>>,
    /// Nothing is kept any more.
    ending: Cell<bool>,
}

/// Why there is no connection for a request.
pub(crate) enum Unavailable {
    Unreached(CloseReason),
    /// As many requests wait for one as may.
    Overflow,
}

impl From<CloseReason> for Unavailable {
    fn from(reason: CloseReason) -> Self {
        Self::Unreached(reason)
    }
}

impl Upstreams {
    /// A connection to where `route` leads: one that is there, or a new one.
    ///
    /// # Errors
    /// Why no new one could be had.
    pub(crate) async fn check_out(
        self: &Rc<Self>,
        call: &Call<'_>,
        route: &Route,
        spoken: Spoken<'_>,
        terms: Option<&Terms>,
    ) -> Result<Lease, Unavailable> {
        let Spoken { dialect, originator } = spoken;
        let key = Key {
            next_hop: route.next_hop.clone(),
            dialect,
            service: terms.map(|terms| terms.key().clone()),
            originator: originator.map(|originator| originator.id),
        };
        if let Some(held) = self.held(&key) {
            return Ok(self.lease(held));
        }
        let enter = |terms: &Terms| terms.enter(Counted::Pending).ok_or(Unavailable::Overflow);
        let _pending = terms.map(enter).transpose()?;
        if let Some(dialling) = self.dialling(&key) {
            let mut dialled = Awaited::new(&dialling);
            poll_fn(|cx| dialled.poll(cx)).await;
        }
        let opened = loop {
            if let Some(held) = self.held(&key) {
                return Ok(self.lease(held));
            }
            if let Some(opened) = self.room(&key, terms) {
                break opened;
            }
            self.room_at(&key).wait().await;
        };
        let _dialling = Dialling::begin(self, &key);
        // Boxed: few requests dial, and each would have the room for it.
        let dialling = Box::pin(self.dial(call, route, originator, &key, opened));
        let held = match terms.and_then(|terms| terms.policy.limits.connect) {
            Some(limit) => {
                runtime::timeout(limit, dialling).await.map_err(|_| CloseReason::DialTimedOut)??
            }
            None => dialling.await?,
        };
        self.sweep();
        Ok(self.lease(held))
    }

    fn lease(self: &Rc<Self>, held: Held) -> Lease {
        match &held {
            Held::Alone(alone) => alone.iter().for_each(|alone| alone.opened.carries()),
            Held::Shared(shared) => shared.opened.carries(),
        }
        Lease { upstreams: self.clone(), held, places: Places::default(), expected: None }
    }

    async fn dial(
        &self,
        call: &Call<'_>,
        route: &Route,
        originator: Option<&Originator>,
        key: &Key,
        opened: Opened,
    ) -> Result<Held, CloseReason> {
        Ok(match key.dialect {
            Dialect::Http1 => {
                let alone = dial_alone(call, route, originator, key.clone(), opened).await?;
                Held::Alone(Some(Box::new(alone)))
            }
            Dialect::Http2 => {
                let shared = Rc::new(dial_shared(call, route, originator, opened).await?);
                if !self.ending.get() {
                    let mut endpoints = self.endpoints.borrow_mut();
                    endpoints.entry(key.clone()).or_default().shared.push(shared.clone());
                }
                shared.streams.set(1);
                Held::Shared(shared)
            }
        })
    }
}

//! What is kept of connections: those that are idle or have room, the dials that others wait for, and how long all of it
//! lasts.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use ringway_http::breaker::{Counted, Permit};

use super::{
    Dialect, Key, Upstreams,
    lease::{Alone, Held},
    room::Room,
    shared::Shared,
};
use crate::{
    limits::{UPSTREAM_IDLE_MAX, UPSTREAM_IDLE_TIME, UPSTREAM_ROOM_TIME, UPSTREAM_STREAMS_MAX},
    runtime,
    waypoint::{
        draining::Draining,
        traffic::{Keeping, Terms},
    },
};

#[derive(Default)]
pub(super) struct Endpoint {
    pub(super) idle: Vec<Idle>,
    pub(super) shared: Vec<Rc<Shared>>,
    pub(super) room: Rc<Room>,
    /// Begun when the dial that is under way has ended.
    pub(super) dialling: Option<Rc<Draining>>,
}

pub(super) struct Idle {
    pub(super) alone: Box<Alone>,
    pub(super) since: Instant,
}

/// A dial that others may wait for, while it lasts.
pub(super) struct Dialling(Option<(Rc<Upstreams>, Key, Rc<Draining>)>);

impl Dialling {
    pub(super) fn begin(upstreams: &Rc<Upstreams>, key: &Key) -> Self {
        if key.dialect == Dialect::Http1 {
            return Self(None);
        }
        let ended = Rc::new(Draining::default());
        let mut endpoints = upstreams.endpoints.borrow_mut();
        endpoints.entry(key.clone()).or_default().dialling = Some(ended.clone());
        drop(endpoints);
        Self(Some((upstreams.clone(), key.clone(), ended)))
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let Some((upstreams, key, ended)) = self.0.take() else { return };
        if let Some(endpoint) = upstreams.endpoints.borrow_mut().get_mut(&key)
            && endpoint.dialling.as_ref().is_some_and(|other| Rc::ptr_eq(other, &ended))
        {
            endpoint.dialling = None;
        }
        ended.begin();
    }
}

/// What is known of a connection from its dial on.
pub(super) struct Opened {
    pub(super) room: Rc<Room>,
    pub(super) _permit: Option<Permit>,
    pub(super) since: Instant,
    pub(super) keeping: Keeping,
    pub(super) carried: Cell<u32>,
}

impl Opened {
    /// One more request begins.
    pub(super) fn carries(&self) {
        self.carried.set(self.carried.get().saturating_add(1));
    }

    /// Whether it carries no further request.
    pub(super) fn is_spent(&self) -> bool {
        let Keeping { requests, age, .. } = self.keeping;
        requests.is_some_and(|most| self.carried.get() >= most)
            || age.is_some_and(|age| runtime::now() >= self.since + age)
    }

    /// Whether it has had nothing to do for too long.
    pub(super) fn is_stale(&self, idle_since: Instant) -> bool {
        runtime::now() >= idle_since + self.keeping.idle.unwrap_or(UPSTREAM_IDLE_TIME)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.room.closed();
    }
}

impl Upstreams {
    pub(super) fn room_at(&self, key: &Key) -> Rc<Room> {
        self.endpoints.borrow_mut().entry(key.clone()).or_default().room.clone()
    }

    /// A place for one more connection: where none is left, an endpoint without any may have one.
    pub(super) fn room(&self, key: &Key, terms: Option<&Terms>) -> Option<Opened> {
        let room = self.room_at(key);
        let permit = terms.map(|terms| terms.enter(Counted::Connections));
        if matches!(permit, Some(None)) && room.open() > 0 {
            return None;
        }
        let keeping = Keeping::of(terms);
        if let Some(idle) = keeping.idle {
            let shortest = self.idle_shortest.get().unwrap_or(UPSTREAM_IDLE_TIME);
            self.idle_shortest.set(Some(idle.min(shortest)));
        }
        room.opened();
        let (since, carried) = (runtime::now(), Cell::new(0));
        Some(Opened { room, _permit: permit.flatten(), since, keeping, carried })
    }

    /// The dial of an HTTP/2 connection that is under way: whoever comes meanwhile may share it.
    pub(super) fn dialling(&self, key: &Key) -> Option<Rc<Draining>> {
        self.endpoints.borrow().get(key)?.dialling.clone()
    }

    pub(super) fn held(&self, key: &Key) -> Option<Held> {
        let mut endpoints = self.endpoints.borrow_mut();
        let endpoint = endpoints.get_mut(key)?;
        // The one that was used last: those that are not needed grow old.
        while let Some(Idle { alone, since }) = endpoint.idle.pop() {
            let is_fresh = !alone.opened.is_spent() && !alone.opened.is_stale(since);
            if alone.sender.is_ready() && is_fresh {
                return Some(Held::Alone(Some(alone)));
            }
        }
        endpoint.shared.retain(|shared| {
            let is_idle = shared.streams.get() == 0;
            let is_stale = is_idle && shared.opened.is_stale(shared.idle_since.get());
            !(shared.is_over() || is_stale || shared.opened.is_spent())
        });
        let has_room = |shared: &&Rc<Shared>| shared.streams.get() < UPSTREAM_STREAMS_MAX;
        let shared = endpoint.shared.iter().find(has_room)?;
        shared.streams.set(shared.streams.get() + 1);
        Some(Held::Shared(shared.clone()))
    }

    pub(super) fn keep(self: &Rc<Self>, alone: Box<Alone>) {
        if self.ending.get() || alone.opened.is_spent() {
            return;
        }
        let mut endpoints = self.endpoints.borrow_mut();
        let idle = &mut endpoints.entry(alone.key.clone()).or_default().idle;
        if idle.len() < UPSTREAM_IDLE_MAX {
            alone.opened.room.given_back();
            idle.push(Idle { alone, since: runtime::now() });
        }
        drop(endpoints);
        self.sweep();
    }

    /// Closes what nobody has used for long, as long as there is anything.
    pub(super) fn sweep(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let (upstreams, mut pause) = (Rc::downgrade(self), self.pause());
        runtime::spawn(async move {
            loop {
                runtime::sleep(pause).await;
                let Some(upstreams) = upstreams.upgrade() else { return };
                pause = upstreams.pause();
                if upstreams.close_old() {
                    upstreams.sweeping.set(false);
                    return;
                }
            }
        });
    }

    /// Between two looks for what has grown old.
    pub(super) fn pause(&self) -> Duration {
        let shortest = self.idle_shortest.get().unwrap_or(UPSTREAM_IDLE_TIME);
        (shortest.min(UPSTREAM_IDLE_TIME) / 4).max(UPSTREAM_ROOM_TIME)
    }

    /// Whether nothing is left.
    pub(super) fn close_old(&self) -> bool {
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.retain(|_, endpoint| {
            endpoint.idle.retain(|Idle { alone, since }| {
                let opened = &alone.opened;
                !opened.is_stale(*since) && !opened.is_spent() && !alone.sender.is_closed()
            });
            endpoint.shared.retain(|shared| {
                let opened = &shared.opened;
                let is_idle = shared.streams.get() == 0;
                let is_old = opened.is_stale(shared.idle_since.get()) || opened.is_spent();
                !(shared.is_over() || is_idle && is_old)
            });
            endpoint.room.open() > 0 || endpoint.dialling.is_some()
        });
        endpoints.is_empty()
    }

    /// Closes everything that carries no request, and keeps nothing from here on.
    pub(crate) fn end(&self) {
        self.ending.set(true);
        self.endpoints.borrow_mut().clear();
    }
}

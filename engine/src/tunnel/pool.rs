//! The tunnels one workload has open on one shard, by where they lead.
//!
//! Connections to one destination share tunnels. When none has room, one more is dialled, at the pace
//! at which handshakes complete: whoever comes meanwhile waits for that dial, and learns of its
//! failure.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use ringway_protocols::{hbone::ConnectRequest, identity::Identity};

use super::{Tunnel, TunnelStream};
use crate::{
    accounts::Limit, close::CloseReason, hash::FastHasher, limits::TUNNELS_PER_DESTINATION_MAX,
    runtime,
};

/// Where a tunnel leads, and who speaks in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TunnelKey {
    /// The identity our side presents.
    pub(crate) source: Identity,
    /// The peer's HBONE address.
    pub(crate) peer: SocketAddr,
    /// The identities the peer may have, one of which it must prove.
    pub(crate) expected: Arc<[Identity]>,
}

/// See the module's text.
pub(crate) struct Pool {
    streams_max: usize,
    destinations: RefCell<HashMap<TunnelKey, Destination, FastHasher>>,
    ending: Cell<bool>,
}

#[derive(Default)]
struct Destination {
    tunnels: Vec<Rc<Tunnel>>,
    dial: Option<Rc<Dial>>,
}

/// A dial in progress, and who waits for it.
#[derive(Default)]
struct Dial {
    outcome: RefCell<Option<Result<(), CloseReason>>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Pool {
    /// An empty one, so many of whose connections share a tunnel.
    pub(crate) fn new(streams_max: u16) -> Self {
        let streams_max = streams_max.into();
        Self { streams_max, destinations: RefCell::default(), ending: Cell::new(false) }
    }

    /// Opens a stream to `key`'s destination, in a tunnel that is there or in one that `dial` makes; not
    /// in `refused_by`, which has just refused it.
    ///
    /// # Errors
    /// The dial's, or that the destination has as many tunnels as it may have.
    pub(crate) async fn open<D>(
        self: &Rc<Self>,
        key: &TunnelKey,
        request: &ConnectRequest,
        refused_by: Option<&Rc<Tunnel>>,
        dial: impl Fn() -> D,
    ) -> Result<TunnelStream, CloseReason>
    where
        D: Future<Output = Result<Rc<Tunnel>, CloseReason>> + 'static,
    {
        loop {
            if let Some(stream) = self.open_in_existing(key, request, refused_by) {
                return Ok(stream);
            }
            let dial = self.join_dial(key, &dial)?;
            dial.outcome().await?;
        }
    }

    /// Whether no tunnel is there or on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.destinations.borrow().is_empty()
    }

    /// Whether [`Pool::end`] was called.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Every tunnel, there or yet to come, ends as soon as it has no streams.
    pub(crate) fn end(&self) {
        self.ending.set(true);
        for destination in self.destinations.borrow().values() {
            destination.tunnels.iter().for_each(|tunnel| tunnel.end_when_idle());
        }
    }

    /// Of several tunnels to one destination that have no streams, all but one end.
    pub(crate) fn end_surplus(&self) {
        for destination in self.destinations.borrow().values() {
            let is_idle = |tunnel: &&Rc<Tunnel>| tunnel.streams() == 0 && tunnel.can_open();
            // The last is where the next stream would go.
            let idle = destination.tunnels.iter().rev().filter(is_idle);
            idle.skip(1).for_each(|tunnel| tunnel.end_when_idle());
        }
    }

    fn open_in_existing(
        &self,
        key: &TunnelKey,
        request: &ConnectRequest,
        refused_by: Option<&Rc<Tunnel>>,
    ) -> Option<TunnelStream> {
        let tunnel = {
            let destinations = self.destinations.borrow();
            let destination = destinations.get(key)?;
            let may_grow = destination.tunnels.len() < TUNNELS_PER_DESTINATION_MAX;
            let has_room =
                |tunnel: &&Rc<Tunnel>| tunnel.can_open() && tunnel.streams() < self.streams_max;
            // The fullest with room, so that tunnels which are no longer needed run empty.
            destination
                .tunnels
                .iter()
                .filter(has_room)
                .filter(|tunnel| !refused_by.is_some_and(|other| Rc::ptr_eq(tunnel, other)))
                .filter(|tunnel| !(may_grow && tunnel.carries_bulk()))
                .max_by_key(|tunnel| tunnel.streams())?
                .clone()
        };
        tunnel.open(request).ok()
    }

    fn join_dial<D>(
        self: &Rc<Self>,
        key: &TunnelKey,
        dial: &impl Fn() -> D,
    ) -> Result<Rc<Dial>, CloseReason>
    where
        D: Future<Output = Result<Rc<Tunnel>, CloseReason>> + 'static,
    {
        let mut destinations = self.destinations.borrow_mut();
        let destination = destinations.entry(key.clone()).or_default();
        if let Some(dial) = &destination.dial {
            return Ok(dial.clone());
        }
        if destination.tunnels.len() >= TUNNELS_PER_DESTINATION_MAX {
            return Err(CloseReason::LimitReached(Limit::TunnelsPerDestination));
        }
        let state = Rc::new(Dial::default());
        destination.dial = Some(state.clone());
        // A task of its own: the connection that asked may give up, the others still wait.
        runtime::spawn(self.clone().keep_dialled(key.clone(), state.clone(), dial()));
        Ok(state)
    }

    async fn keep_dialled(
        self: Rc<Self>,
        key: TunnelKey,
        state: Rc<Dial>,
        dial: impl Future<Output = Result<Rc<Tunnel>, CloseReason>>,
    ) {
        let dialled = dial.await;
        let outcome = dialled.as_ref().map(|_| ()).map_err(Clone::clone);
        if let Some(destination) = self.destinations.borrow_mut().get_mut(&key) {
            destination.dial = None;
            destination.tunnels.extend(dialled.iter().cloned());
        }
        state.finish(outcome);
        if let Ok(tunnel) = dialled {
            if self.ending.get() {
                tunnel.end_when_idle();
            }
            drive(&tunnel).await;
            self.remove(&key, &tunnel);
        } else {
            self.remove_if_empty(&key);
        }
    }

    fn remove(&self, key: &TunnelKey, tunnel: &Rc<Tunnel>) {
        if let Some(destination) = self.destinations.borrow_mut().get_mut(key) {
            destination.tunnels.retain(|other| !Rc::ptr_eq(other, tunnel));
        }
        self.remove_if_empty(key);
    }

    fn remove_if_empty(&self, key: &TunnelKey) {
        let mut destinations = self.destinations.borrow_mut();
        let empty = destinations.get(key).is_some_and(|destination| {
            destination.tunnels.is_empty() && destination.dial.is_none()
        });
        if empty {
            destinations.remove(key);
        }
    }
}

/// Drives a tunnel of the client role to its end.
pub(crate) async fn drive(tunnel: &Rc<Tunnel>) {
    use super::TunnelEvent;
    loop {
        match tunnel.next().await {
            TunnelEvent::Ended | TunnelEvent::Lost(_) => return,
            // A server does not ask for connections; the machine has refused it.
            TunnelEvent::Request(..) | TunnelEvent::Malformed(_) => {}
        }
    }
}

impl Dial {
    async fn outcome(&self) -> Result<(), CloseReason> {
        std::future::poll_fn(|cx| match &*self.outcome.borrow() {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn finish(&self, outcome: Result<(), CloseReason>) {
        *self.outcome.borrow_mut() = Some(outcome);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

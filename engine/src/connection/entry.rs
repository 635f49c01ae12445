//! What a shard's table knows of a connection: enough to judge, cut, move and describe it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ringway_protocols::identity::Identity;

use crate::{close::CloseReason, decide::Facts, snapshot::Service, telemetry::Direction};

/// What the shard's table knows of a connection.
pub(crate) struct Entry {
    pub(super) pod: Arc<str>,
    pub(super) direction: Direction,
    pub(super) source: SocketAddr,
    pub(super) original_destination: SocketAddr,
    pub(super) destination: Cell<(SocketAddr, Carrier)>,
    pub(super) movement: Cell<Movement>,
    pub(super) policed: OnceCell<Policed>,
    /// The service that the client says it called. Only of inbound ones.
    pub(super) called: OnceCell<Arc<Service>>,
    /// Boxed, like whatever most connections never have.
    pub(super) cut: RefCell<Option<Box<CloseReason>>>,
    pub(super) waker: RefCell<Option<Waker>>,
    #[cfg(feature = "sim")]
    _alive: crate::alive::Alive,
}

/// Whether a connection can go to another process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Movement {
    /// Not, or not yet: its bytes pass through more than two sockets.
    Stays,
    /// Two sockets, and what its relay holds.
    Movable,
    /// On its next visit.
    CalledAway,
}

/// What carries a connection between the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Plain TCP.
    Tcp,
    /// A stream in a tunnel.
    Hbone,
    /// A stream in a tunnel that runs in a stream of another, through a network's gateway.
    DoubleHbone,
}

impl Carrier {
    /// As `config_dump` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Hbone => "HBONE",
            Self::DoubleHbone => "DOUBLEHBONE",
        }
    }
}

/// What policies are asked about a connection, besides its addresses. Only of inbound ones.
pub(crate) struct Policed {
    /// What the client proved; shared by all connections of its tunnel.
    pub(crate) identity: Option<Rc<Identity>>,
    /// The port of the application, as policies see it.
    pub(crate) port: u16,
}

const _: () = assert!(size_of::<OnceCell<Policed>>() <= 24, "every connection carries it");

/// One open connection, as it is told to people.
#[derive(Clone, Debug)]
pub struct OpenConnection {
    /// The workload on this host.
    pub workload: Arc<str>,
    /// Which way it goes.
    pub direction: Direction,
    /// Who dialled.
    pub source: SocketAddr,
    /// What the client dialled, as far as this host knows.
    pub original_destination: SocketAddr,
    /// The service that the client of an inbound one says it called, if it is one of the mesh.
    pub called: Option<Arc<Service>>,
    /// What Ringway dialled.
    pub destination: SocketAddr,
    /// What carries it.
    pub carrier: Carrier,
}

impl Entry {
    pub(super) fn new(
        pod: Arc<str>,
        direction: Direction,
        source: SocketAddr,
        original_destination: SocketAddr,
    ) -> Self {
        Self {
            pod,
            direction,
            source,
            original_destination,
            destination: Cell::new((original_destination, Carrier::Tcp)),
            movement: Cell::new(Movement::Stays),
            policed: OnceCell::new(),
            called: OnceCell::new(),
            cut: RefCell::default(),
            waker: RefCell::default(),
            #[cfg(feature = "sim")]
            _alive: crate::alive::Alive::new("connection"),
        }
    }

    /// Cuts the connection; false when it was cut already, and by that reason it ends.
    pub(super) fn cut(&self, reason: CloseReason) -> bool {
        if self.is_cut() {
            return false;
        }
        *self.cut.borrow_mut() = Some(Box::new(reason));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        true
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.borrow().is_some()
    }

    /// Ready when the connection is to be cut, with the reason.
    pub(super) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if let Some(reason) = self.cut.borrow().as_deref() {
            return Poll::Ready(reason.clone());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn facts<'a>(&self, policed: &'a Policed) -> Facts<'a> {
        // What is dialled for the application is at the address that the client reached.
        let destination = SocketAddr::new(self.original_destination.ip(), policed.port);
        Facts::new(self.source.ip(), destination, policed.identity.as_deref())
    }

    pub(super) fn call_away(&self) {
        self.movement.set(Movement::CalledAway);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn describe(&self) -> OpenConnection {
        let (destination, carrier) = self.destination.get();
        OpenConnection {
            workload: self.pod.clone(),
            direction: self.direction,
            source: self.source,
            original_destination: self.original_destination,
            called: self.called.get().cloned(),
            destination,
            carrier,
        }
    }
}

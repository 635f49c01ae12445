//! A tunnel: one TCP connection to a peer's HBONE port with its TLS records and HTTP/2 frames, and the
//! captured connections that run in it as streams.
//!
//! ```text
//!        socket ──recv──▶ scratch ──open in place──▶ frames ──payload──▶ each stream's application
//!        socket ◀─write── records ◀─seal in place── frames ◀─payload─── each stream's application
//! ```
//!
//! The task that holds the tunnel drives its receiving side ([`Tunnel::next`]). Each stream's task
//! reads its own application and sends. Whatever small frames a turn of the shard's loop produces are
//! sealed and written once, at the end of that turn.
//!
//! **Invariant:** a byte is copied in user space only when it is small ([`COALESCE_BYTES_MAX`](crate::limits::COALESCE_BYTES_MAX)) or when
//! the far side of it does not take it at once.

mod bulk;
mod core;
mod drive;
mod error;
mod handshake;
mod outgoing;
mod pool;
mod receive;
mod recheck;
mod send;
mod slots;
mod stalled;
mod stream;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    task::Waker,
    time::{Duration, Instant},
};

use ringway_protocols::{
    hbone::{
        ConnectRequest, ConnectResponse, Connection, ErrorCode, OpenError, Settings, StreamId,
    },
    tls::Records,
};

use self::{bulk::BulkMeter, core::Core, outgoing::Outgoing, recheck::Watched, stream::StreamCell};
pub(crate) use self::{
    error::TunnelError,
    handshake::{HandshakeError, Secured, handshake},
    pool::{Pool, TunnelKey, drive},
    recheck::Recheck,
    stalled::Stalled,
    stream::{Received, Sent, TunnelStream},
};
use crate::{
    accounts::{AdmittedTunnel, HeldBytes},
    config::TunnelOptions,
    hash::FastHasher,
    limits::{ENDING_TUNNEL_IDLE_TIMEOUT, FIRST_STREAM_TIMEOUT, LEAVE_TIMEOUT},
    runtime::{self, TcpStream},
};

/// Which side opened the tunnel. Only the client opens streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What a tunnel tells the task that drives it.
pub(crate) enum TunnelEvent {
    /// A peer asks for a connection (server role).
    Request(TunnelStream, Box<ConnectRequest>),
    /// A peer's request was malformed and has been answered.
    Malformed(String),
    /// Idle or drained: the tunnel ended in order.
    Ended,
    /// The tunnel broke; its streams have been told.
    Lost(TunnelError),
}

/// See the module's drawing.
pub(crate) struct Tunnel {
    socket: TcpStream,
    core: RefCell<Core>,
    streams: RefCell<HashMap<StreamId, Rc<StreamCell>, FastHasher>>,
    /// Streams that have something to send and wait for the window or the socket, first come first.
    waiting: RefCell<VecDeque<StreamId>>,
    events: RefCell<VecDeque<TunnelEvent>>,
    driver: RefCell<Option<Waker>>,
    flush_due: Cell<bool>,
    role: Role,
    draining: Cell<bool>,
    /// When the peer must have left, once it was asked to and there are no streams.
    leave_by: Cell<Option<Instant>>,
    idle_timeout: Cell<Duration>,
    /// Since when the tunnel has no streams.
    idle_since: Cell<Option<Instant>>,
    bulk_until: Cell<Option<Instant>>,
    lost: RefCell<Option<TunnelError>>,
    /// So that who judges it again forgets the tunnel with its end.
    watched: OnceCell<Watched>,
    /// What waits for the socket, at the workload's expense.
    backlog_held: RefCell<HeldBytes>,
    admitted: AdmittedTunnel,
    stalled: Rc<Stalled>,
    #[cfg(feature = "sim")]
    _alive: crate::alive::Alive,
}

impl Tunnel {
    /// A tunnel over a socket whose TLS handshake is complete.
    pub(crate) fn new(
        socket: TcpStream,
        secured: Secured,
        role: Role,
        options: &TunnelOptions,
        admitted: AdmittedTunnel,
        stalled: &Rc<Stalled>,
    ) -> Rc<Self> {
        let Secured { records, received } = secured;
        let machine = match role {
            Role::Client => {
                let streams_max = options.streams_max.into();
                let settings = Settings { streams_max, ..options.settings(Settings::client()) };
                Connection::client(settings, runtime::now())
            }
            Role::Server => {
                Connection::server(options.settings(Settings::server()), runtime::now())
            }
        };
        let tunnel = Rc::new(Self {
            socket,
            core: RefCell::new(Core {
                records,
                machine,
                received,
                unseen: true,
                outgoing: Outgoing::default(),
            }),
            streams: RefCell::default(),
            waiting: RefCell::default(),
            events: RefCell::default(),
            driver: RefCell::default(),
            flush_due: Cell::new(false),
            role,
            draining: Cell::new(false),
            leave_by: Cell::new(None),
            idle_timeout: Cell::new(match role {
                Role::Client => options.idle_timeout,
                Role::Server => FIRST_STREAM_TIMEOUT,
            }),
            idle_since: Cell::new(Some(runtime::now())),
            bulk_until: Cell::new(None),
            lost: RefCell::default(),
            watched: OnceCell::new(),
            backlog_held: RefCell::new(HeldBytes::none(admitted.account())),
            admitted,
            stalled: stalled.clone(),
            #[cfg(feature = "sim")]
            _alive: crate::alive::Alive::new("tunnel"),
        });
        tunnel.flush_at_turn_end();
        tunnel
    }

    /// Opens a stream towards the peer (client role).
    ///
    /// # Errors
    /// When the tunnel takes no more streams.
    pub(crate) fn open(
        self: &Rc<Self>,
        request: &ConnectRequest,
    ) -> Result<TunnelStream, OpenError> {
        let id = self.core.borrow_mut().machine.open(request)?;
        self.flush_at_turn_end();
        Ok(self.add_stream(id))
    }

    /// Whether a stream can be opened now.
    pub(crate) fn can_open(&self) -> bool {
        self.lost.borrow().is_none()
            && !self.draining.get()
            && self.core.borrow().machine.can_open()
    }

    /// Whether one of the streams is moving so much that others had better not share the tunnel.
    pub(crate) fn carries_bulk(&self) -> bool {
        self.bulk_until.get().is_some_and(|until| runtime::now() < until)
    }

    /// Streams that are open.
    pub(crate) fn streams(&self) -> usize {
        self.streams.borrow().len()
    }

    /// Answers a request with 200 (server role).
    pub(crate) fn accept(self: &Rc<Self>, stream: &TunnelStream, response: &ConnectResponse) {
        self.core.borrow_mut().machine.accept(stream.id, response);
        self.flush_at_turn_end();
    }

    /// Answers a request with anything but 200; the stream is over (server role).
    pub(crate) fn refuse(self: &Rc<Self>, stream: &TunnelStream, status: u16) {
        stream.cell.sent_end.set(true);
        stream.received_end.set(true);
        self.core.borrow_mut().machine.refuse(stream.id, status);
        self.flush_at_turn_end();
    }

    /// Takes no new streams; the tunnel ends when the open ones have.
    pub(crate) fn drain(self: &Rc<Self>) {
        if !self.draining.replace(true) {
            self.leave_by.set(Some(runtime::now() + LEAVE_TIMEOUT));
            self.core.borrow_mut().machine.go_away(ErrorCode::NO_ERROR);
            self.flush_at_turn_end();
            self.wake_driver();
        }
    }

    /// The tunnel ends as soon as it has had no streams for a moment (client role).
    pub(crate) fn end_when_idle(&self) {
        self.idle_timeout.set(ENDING_TUNNEL_IDLE_TIMEOUT);
        self.wake_driver();
    }

    /// What the peer's certificate said, and how the session came about.
    pub(crate) fn with_records<T>(&self, look: impl FnOnce(&Records) -> T) -> T {
        look(&self.core.borrow().records)
    }
}

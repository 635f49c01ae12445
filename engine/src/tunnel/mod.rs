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
//! **Invariant:** a byte is copied in user space only when it is small ([`COALESCE_BYTES_MAX`]) or when
//! the far side of it does not take it at once.

mod bulk;
mod handshake;
mod outgoing;
mod pool;
mod receive;
mod slots;
mod stream;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ringway_protocols::{
    hbone::{
        self, ConnectRequest, ConnectResponse, Connection, ErrorCode, OpenError, Settings, StreamId,
    },
    tls::{self, Records},
};

use self::{bulk::BulkMeter, outgoing::Outgoing, slots::Slots, stream::StreamCell};
pub(crate) use self::{
    handshake::{HandshakeError, handshake},
    pool::{Pool, TunnelKey},
    stream::{Received, Sent, TunnelStream},
};
use crate::{
    hash::FastHasher,
    limits::{
        COALESCE_BYTES_MAX, ENDING_TUNNEL_IDLE_TIMEOUT, STREAMS_PER_TUNNEL_MAX,
        TUNNEL_BACKLOG_BYTES_MAX, TUNNEL_IDLE_TIMEOUT,
    },
    runtime::{self, Sleep, TcpStream, TurnEnd},
};

/// Why a tunnel ended.
#[derive(Clone, Debug)]
pub(crate) enum TunnelError {
    /// The peer closed in order while streams were open, or without being asked.
    Closed,
    /// The peer cut the TCP connection without closing TLS first.
    Cut,
    /// The socket failed.
    Io(io::ErrorKind),
    /// The TLS layer failed: the text says whose fault it was.
    Tls(Rc<str>),
    /// The peer broke HTTP/2, or did not answer a PING.
    Http2(Rc<str>),
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the tunnel"),
            Self::Cut => f.write_str("the peer cut the tunnel"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::Tls(text) | Self::Http2(text) => f.write_str(text),
        }
    }
}

impl From<tls::Error> for TunnelError {
    fn from(error: tls::Error) -> Self {
        Self::Tls(error.to_string().into())
    }
}

impl From<hbone::Error> for TunnelError {
    fn from(error: hbone::Error) -> Self {
        Self::Http2(error.to_string().into())
    }
}

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
    idle_timeout: Cell<Duration>,
    /// Since when the tunnel has no streams.
    idle_since: Cell<Option<Instant>>,
    bulk_until: Cell<Option<Instant>>,
    lost: RefCell<Option<TunnelError>>,
}

/// The protocol machines and their bytes.
struct Core {
    records: Records,
    machine: Connection,
    /// The part of a record that has arrived so far.
    received: Vec<u8>,
    /// Nobody has looked yet whether whole records came behind the handshake.
    unseen: bool,
    outgoing: Outgoing,
}

impl Tunnel {
    /// A tunnel over a socket whose TLS handshake is complete; `received` is what came behind it.
    pub(crate) fn new(
        socket: TcpStream,
        records: Records,
        received: Vec<u8>,
        role: Role,
    ) -> Rc<Self> {
        let machine = match role {
            Role::Client => {
                let streams_max = STREAMS_PER_TUNNEL_MAX as u32;
                let settings = Settings { streams_max, ..Settings::client() };
                Connection::client(settings, runtime::now())
            }
            Role::Server => Connection::server(Settings::server(), runtime::now()),
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
            idle_timeout: Cell::new(TUNNEL_IDLE_TIMEOUT),
            idle_since: Cell::new(Some(runtime::now())),
            bulk_until: Cell::new(None),
            lost: RefCell::default(),
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

    /// Drives the tunnel until it has something to tell. Not to be called again after an end.
    pub(crate) async fn next(self: &Rc<Self>) -> TunnelEvent {
        let mut timer = runtime::sleep_until(self.next_deadline());
        std::future::poll_fn(|cx| self.poll_next(cx, &mut timer)).await
    }

    fn poll_next(self: &Rc<Self>, cx: &mut Context<'_>, timer: &mut Sleep) -> Poll<TunnelEvent> {
        if let Some(event) = self.events.borrow_mut().pop_front() {
            return Poll::Ready(event);
        }
        if let Err(error) = self.visit(cx, timer) {
            self.lose(&error);
        }
        if let Some(event) = self.events.borrow_mut().pop_front() {
            return Poll::Ready(event);
        }
        if let Some(error) = self.lost.borrow().clone() {
            return Poll::Ready(TunnelEvent::Lost(error));
        }
        if self.is_over() {
            self.close();
            return Poll::Ready(TunnelEvent::Ended);
        }
        *self.driver.borrow_mut() = Some(cx.waker().clone());
        let deadline = self.next_deadline();
        if timer.deadline() != deadline {
            timer.reset(deadline);
        }
        if Pin::new(timer).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// One visit: what waits for the socket goes out, what has come is dealt with, deadlines are kept.
    fn visit(self: &Rc<Self>, cx: &mut Context<'_>, timer: &mut Sleep) -> Result<(), TunnelError> {
        if timer.is_elapsed() {
            self.core.borrow_mut().machine.handle_timeout(runtime::now())?;
            self.flush_at_turn_end();
        }
        if self.core.borrow().outgoing.backlog_bytes() > 0
            && self.socket.poll_writable(cx).is_ready()
        {
            self.flush()?;
            // Full again: the next edge is waited for.
            if self.core.borrow().outgoing.backlog_bytes() > 0
                && self.socket.poll_writable(cx).is_ready()
            {
                cx.waker().wake_by_ref();
            }
        }
        let readable = self.socket.poll_readable(cx).is_ready();
        if readable || self.core.borrow().unseen {
            self.receive()?;
            if self.socket.poll_readable(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Ok(())
    }

    /// When the driver must look even if nothing comes: PING, its answer, or the end of idleness.
    fn next_deadline(&self) -> Instant {
        // Once draining, nothing more happens by idleness.
        let idle_since = self.idle_since.get().filter(|_| !self.draining.get());
        let idle = idle_since.map(|since| since + self.idle_timeout.get());
        let machine = self.core.borrow().machine.next_deadline();
        [idle, machine]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| runtime::now() + TUNNEL_IDLE_TIMEOUT)
    }

    /// Without streams, and none can come any more. A server whose tunnel is idle for too long asks the
    /// client to leave first: it may be opening a stream right now.
    fn is_over(self: &Rc<Self>) -> bool {
        let Some(since) = self.idle_since.get() else { return false };
        if self.core.borrow().machine.has_left() {
            return true;
        }
        let idle = runtime::now() >= since + self.idle_timeout.get();
        if idle && self.role == Role::Server {
            self.drain();
            return false;
        }
        idle
    }

    /// Ends in order: GOAWAY, close_notify, FIN. What the socket does not take now is not waited for.
    fn close(&self) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        core.machine.go_away(ErrorCode::NO_ERROR);
        self.draining.set(true);
        let sent = core.seal_output().and_then(|()| {
            let mut alert = Vec::new();
            core.records.close_notify(&mut alert);
            core.outgoing.push_sealed(&alert);
            core.outgoing.flush(&self.socket).map_err(|error| TunnelError::Io(error.kind()))
        });
        if sent.is_ok() {
            // The socket is closed right after; a failure here has no one left to tell.
            let _ = self.socket.shutdown_write();
        }
    }

    /// Breaks: every stream is told, nothing more is sent but what the machines queued last.
    fn lose(self: &Rc<Self>, error: &TunnelError) {
        if self.lost.borrow().is_some() {
            return;
        }
        *self.lost.borrow_mut() = Some(error.clone());
        {
            let mut core = self.core.borrow_mut();
            if !matches!(error, TunnelError::Io(_)) && core.seal_output().is_ok() {
                // The GOAWAY or alert that says why. Best effort: the tunnel is lost either way.
                let _ = core.outgoing.flush(&self.socket);
            }
        }
        let streams: Vec<_> = self.streams.borrow().values().cloned().collect();
        for stream in streams {
            stream.tunnel_lost(error);
        }
        self.wake_driver();
    }

    // What streams ask for.

    fn may_send(&self, id: StreamId) -> bool {
        let core = self.core.borrow();
        core.outgoing.backlog_bytes() < TUNNEL_BACKLOG_BYTES_MAX
            && core.machine.send_capacity(id) > 0
    }

    fn wake_when_sendable(&self, id: StreamId) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.contains(&id) {
            waiting.push_back(id);
        }
    }

    /// One read from the application into the tunnel. 0 is the application's end of stream.
    fn send_from(
        self: &Rc<Self>,
        id: StreamId,
        cell: &StreamCell,
        application: &TcpStream,
    ) -> io::Result<usize> {
        let sent = runtime::scratch(|scratch| {
            let mut core = self.core.borrow_mut();
            // Messages fit the first slot; offering all of them costs more than a message is worth.
            let expected =
                if cell.reads_bulk.get() { usize::MAX } else { slots::FIRST_PAYLOAD_BYTES };
            let capacity = core.machine.send_capacity(id).min(expected);
            let frame_bytes_max = core.machine.peer_frame_bytes_max();
            let mut slots = Slots::new(scratch, capacity, frame_bytes_max);
            let read = slots.read_from(application)?;
            if read == 0 {
                return Ok((0, Ok(())));
            }
            Ok::<_, io::Error>((read, self.send_read(&mut core, id, slots, read)))
        });
        let (read, outcome) = sent?;
        cell.reads_bulk.set(read >= slots::FIRST_PAYLOAD_BYTES);
        match outcome {
            Err(error) => self.lose(&error),
            Ok(()) if read > COALESCE_BYTES_MAX && self.has_backlog() => self.wake_driver(),
            Ok(()) => self.flush_at_turn_end(),
        }
        if cell.meter.moved(read, runtime::now()) {
            self.bulk_until.set(Some(runtime::now() + crate::limits::BULK_WINDOW));
        }
        Ok(read)
    }

    /// Sends what was read: small in the record of this turn, bulk from where it lies.
    fn send_read(
        &self,
        core: &mut Core,
        id: StreamId,
        slots: Slots<'_>,
        read: usize,
    ) -> Result<(), TunnelError> {
        core.push_output()?;
        let Core { records, machine, outgoing, .. } = core;
        if read <= COALESCE_BYTES_MAX {
            outgoing.push(&machine.data_header(id, read, false), records)?;
            outgoing.push(slots.first_payload(read), records)?;
            return Ok(());
        }
        outgoing.seal(records)?;
        let sealed = slots.seal(read, records, |bytes| machine.data_header(id, bytes, false))?;
        outgoing
            .flush_with(sealed, &self.socket)
            .map(|_| ())
            .map_err(|error| TunnelError::Io(error.kind()))
    }

    fn finish(self: &Rc<Self>, id: StreamId) {
        let mut core = self.core.borrow_mut();
        let pushed = core.push_output().and_then(|()| {
            let Core { records, machine, outgoing, .. } = &mut *core;
            Ok(outgoing.push(&machine.data_header(id, 0, true), records)?)
        });
        drop(core);
        match pushed {
            Ok(()) => self.flush_at_turn_end(),
            Err(error) => self.lose(&error),
        }
    }

    fn reset(self: &Rc<Self>, id: StreamId, code: ErrorCode) {
        self.core.borrow_mut().machine.reset(id, code);
        self.flush_at_turn_end();
    }

    fn release(self: &Rc<Self>, id: StreamId, bytes: usize) {
        let mut core = self.core.borrow_mut();
        // At most a stream's window is ever held, which is far below 4 GiB.
        core.machine.release(id, bytes.try_into().unwrap_or(u32::MAX));
        if core.machine.has_output() {
            drop(core);
            self.flush_at_turn_end();
        }
    }

    fn forget(&self, id: StreamId) {
        let mut streams = self.streams.borrow_mut();
        streams.remove(&id);
        if streams.is_empty() {
            self.idle_since.set(Some(runtime::now()));
            drop(streams);
            self.wake_driver();
        }
    }

    fn add_stream(self: &Rc<Self>, id: StreamId) -> TunnelStream {
        let cell = StreamCell::new();
        self.streams.borrow_mut().insert(id, cell.clone());
        self.idle_since.set(None);
        TunnelStream::new(self.clone(), id, cell)
    }

    // Sending.

    /// Has everything queued in this turn sealed and written when the turn ends.
    fn flush_at_turn_end(self: &Rc<Self>) {
        if !self.flush_due.replace(true) {
            runtime::at_turn_end(self.clone());
        }
    }

    fn flush(self: &Rc<Self>) -> Result<(), TunnelError> {
        let mut core = self.core.borrow_mut();
        core.seal_output()?;
        let all_out =
            core.outgoing.flush(&self.socket).map_err(|error| TunnelError::Io(error.kind()))?;
        drop(core);
        if all_out {
            self.wake_waiting();
        } else {
            self.wake_driver();
        }
        Ok(())
    }

    fn has_backlog(&self) -> bool {
        self.core.borrow().outgoing.backlog_bytes() > 0
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        let streams = self.streams.borrow();
        for cell in waiting.iter().filter_map(|id| streams.get(id)) {
            cell.wake();
        }
    }

    fn wake_driver(&self) {
        if let Some(waker) = self.driver.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl TurnEnd for Tunnel {
    fn turn_end(self: Rc<Self>) {
        self.flush_due.set(false);
        if self.lost.borrow().is_some() {
            return;
        }
        if let Err(error) = self.flush() {
            self.lose(&error);
        }
    }
}

impl Core {
    /// Frames the machine has queued join the open record, and it is sealed. While the socket takes
    /// nothing they stay where they are: the machine bounds what a peer provokes without reading.
    fn seal_output(&mut self) -> Result<(), TunnelError> {
        if self.outgoing.backlog_bytes() < TUNNEL_BACKLOG_BYTES_MAX {
            self.push_output()?;
        }
        self.outgoing.seal(&mut self.records)?;
        Ok(())
    }

    /// Frames the machine has queued join the open record; what is pushed next comes behind them.
    fn push_output(&mut self) -> Result<(), TunnelError> {
        if self.machine.has_output() {
            let mut frames = crate::buffers::take();
            self.machine.take_output(&mut frames);
            let pushed = self.outgoing.push(&frames, &mut self.records);
            crate::buffers::give_back(frames);
            pushed?;
        }
        Ok(())
    }
}

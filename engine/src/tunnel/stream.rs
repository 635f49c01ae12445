//! One stream of a tunnel: one captured connection on its way to or from the peer.
//!
//! Bytes from the peer are written to the application by the tunnel's own task, from where they lie in
//! the scratch, at the moment they are opened; only what the application does not take at once is
//! kept here, and no credit is given back for it until it is taken. Bytes to the peer are read,
//! framed and sealed by the stream's own task (see [`TunnelStream::poll_send`]).

use std::{
    cell::{Cell, OnceCell, RefCell},
    io::{self, IoSlice},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use ringway_protocols::hbone::{ConnectResponse, ErrorCode, LocalEnd, StreamEnd, StreamId};

use super::{Tunnel, TunnelError};
use crate::{
    accounts::{Account, HeldBytes, Limit},
    buffers,
    runtime::{self, TcpStream},
    telemetry::ByteCounters,
};

/// A stream as its tunnel knows it.
pub(super) struct StreamCell {
    sink: OnceCell<Sink>,
    backlog: RefCell<Backlog>,
    /// Whether [`Stalled`](super::Stalled) knows of it.
    pub(super) is_noted: Cell<bool>,
    incoming: RefCell<Incoming>,
    /// Boxed: it is here for a moment only.
    pub(super) response: RefCell<Option<Box<ConnectResponse>>>,
    waker: RefCell<Option<Waker>>,
    /// Whether we have ended our direction.
    pub(super) sent_end: Cell<bool>,
    pub(super) meter: super::BulkMeter,
    /// Whether the last read from the application filled what it was offered.
    pub(super) reads_bulk: Cell<bool>,
    #[cfg(feature = "sim")]
    _alive: crate::alive::Alive,
}

/// Where bytes from the peer go, and what counts them.
struct Sink {
    application: Rc<TcpStream>,
    /// None for what is counted elsewhere: a tunnel that runs in this stream.
    counters: Option<Rc<ByteCounters>>,
}

impl Sink {
    fn took(&self, bytes: usize) {
        if let Some(counters) = &self.counters {
            counters.out_of_tunnel(bytes);
        }
    }
}

/// Bytes from the peer that the application has not taken yet. At most a stream's receive window.
#[derive(Default)]
struct Backlog {
    bytes: Vec<u8>,
    taken: usize,
    /// Since when the application has taken nothing of it.
    since: Option<Instant>,
    /// At whose expense.
    held: Option<HeldBytes>,
}

/// How the peer's direction stands.
#[derive(Clone, Debug)]
enum Incoming {
    Open,
    /// The peer ended its direction in order.
    Ended,
    /// The peer let go of the whole stream, in order.
    LetGo,
    /// The peer aborted the stream.
    Reset(ErrorCode),
    /// The application does not take bytes any more: writing to it failed.
    ApplicationGone,
    /// The application does not take its bytes, and its workload may hold no more.
    LimitReached(Limit),
    /// The tunnel broke.
    TunnelLost(TunnelError),
}

impl StreamCell {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            sink: OnceCell::new(),
            backlog: RefCell::default(),
            is_noted: Cell::new(false),
            incoming: RefCell::new(Incoming::Open),
            response: RefCell::new(None),
            waker: RefCell::new(None),
            sent_end: Cell::new(false),
            meter: super::BulkMeter::default(),
            reads_bulk: Cell::new(false),
            #[cfg(feature = "sim")]
            _alive: crate::alive::Alive::new("stream"),
        })
    }

    /// Takes bytes the peer sent. Returns for how many of them credit may go back at once.
    pub(super) fn deliver(
        &self,
        slices: &[IoSlice<'_>],
        total: usize,
        account: &Arc<Account>,
    ) -> usize {
        // Of a stream that is cut nothing follows: there would be a gap before it.
        if !matches!(*self.incoming.borrow(), Incoming::Open) {
            return total;
        }
        let mut backlog = self.backlog.borrow_mut();
        let written = match self.sink.get() {
            Some(sink) if backlog.is_empty() => match sink.application.try_writev(slices) {
                Ok(written) => {
                    sink.took(written);
                    written
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    self.end(Incoming::ApplicationGone);
                    return total;
                }
            },
            _ => 0,
        };
        if written < total {
            if let Some(limit) = account.scarce() {
                drop(backlog);
                self.end(Incoming::LimitReached(account.refused(limit)));
                return total;
            }
            let was_empty = backlog.is_empty();
            backlog.keep(slices, written, account);
            if was_empty {
                self.wake();
            }
        }
        written
    }

    pub(super) fn peer_ended(&self) {
        self.end(Incoming::Ended);
    }

    pub(super) fn peer_reset(&self, code: ErrorCode) {
        self.end(match code.stream_end() {
            StreamEnd::Clean => Incoming::LetGo,
            StreamEnd::Aborted | StreamEnd::Refused => Incoming::Reset(code),
        });
    }

    pub(super) fn tunnel_lost(&self, error: &TunnelError) {
        self.end(Incoming::TunnelLost(error.clone()));
    }

    /// Since when the application's socket has taken nothing of what is here for it, if something is; or nobody has of what waits in a pair.
    pub(super) fn stands_still_since(&self) -> Option<Instant> {
        let since = self.backlog.borrow().since;
        since.or_else(|| self.sink.get()?.application.waits_since())
    }

    /// Lets go of what the application does not take, and of the stream with it.
    pub(super) fn cut_for_room(&self, limit: Limit) {
        self.backlog.borrow_mut().release();
        if let Some(sink) = self.sink.get() {
            sink.application.forget_unread();
        }
        self.end(Incoming::LimitReached(limit));
    }

    /// Whether the machine has forgotten the stream: nothing can be sent in it.
    fn is_over(&self) -> bool {
        !matches!(
            *self.incoming.borrow(),
            Incoming::Open
                | Incoming::Ended
                | Incoming::ApplicationGone
                | Incoming::LimitReached(_)
        )
    }

    fn ends_in_order(&self) -> bool {
        matches!(*self.incoming.borrow(), Incoming::Ended | Incoming::LetGo)
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn end(&self, how: Incoming) {
        let mut incoming = self.incoming.borrow_mut();
        let replaces = match (&*incoming, &how) {
            (Incoming::Open, _) => true,
            // Of what came, some was thrown away: no end is in order any more.
            (Incoming::LimitReached(_), _) | (Incoming::ApplicationGone, Incoming::Ended) => false,
            (
                Incoming::LetGo | Incoming::Reset(_) | Incoming::TunnelLost(_),
                Incoming::LimitReached(_),
            ) => false,
            // Ended in both directions: what becomes of the tunnel afterwards does not matter.
            (Incoming::Ended, Incoming::TunnelLost(_)) => !self.sent_end.get(),
            (Incoming::Ended, Incoming::Ended) => false,
            (Incoming::LetGo | Incoming::Reset(_), Incoming::TunnelLost(_)) => false,
            _ => true,
        };
        if replaces {
            *incoming = how;
        }
        drop(incoming);
        self.wake();
    }

    fn wake_on(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    fn keep(&mut self, slices: &[IoSlice<'_>], mut skip: usize, account: &Arc<Account>) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers::take();
            self.since = Some(runtime::now());
        }
        if self.taken > self.bytes.len() / 2 {
            // It may never run dry: what was taken must not stay, and count, for as long as more comes.
            self.bytes.drain(..std::mem::take(&mut self.taken));
        }
        for slice in slices {
            let skipped = skip.min(slice.len());
            self.bytes.extend_from_slice(&slice[skipped..]);
            skip -= skipped;
        }
        let bytes = self.bytes.len();
        self.held.get_or_insert_with(|| HeldBytes::none(account)).set(bytes);
    }

    fn release(&mut self) {
        self.held = None;
        self.since = None;
        self.taken = 0;
        buffers::give_back(std::mem::take(&mut self.bytes));
    }
}

/// What one visit to the application's readable side came to.
pub(crate) enum Sent {
    /// So many bytes went into the tunnel.
    Bytes(usize),
    /// The application ended its direction; the stream was told.
    End,
}

/// How the peer's direction came to its end.
#[derive(Debug)]
pub(crate) enum Received {
    /// In order: everything was written to the application.
    End,
    /// In order, and with it our own direction: the peer let go of the stream.
    LetGo,
    /// The peer aborted.
    Reset(ErrorCode),
    /// The application aborted while the peer was still sending.
    ApplicationGone,
    /// The application does not take its bytes, and its workload may hold no more.
    LimitReached(Limit),
    /// The tunnel broke.
    TunnelLost(TunnelError),
}

/// One stream, held by the task whose connection it carries. Dropping it before both directions have
/// ended resets the stream.
pub(crate) struct TunnelStream {
    pub(super) tunnel: Rc<Tunnel>,
    pub(super) id: StreamId,
    pub(super) cell: Rc<StreamCell>,
    /// Whether the peer's end was taken note of.
    pub(super) received_end: Cell<bool>,
}

impl TunnelStream {
    pub(super) fn new(tunnel: Rc<Tunnel>, id: StreamId, cell: Rc<StreamCell>) -> Self {
        Self { tunnel, id, cell, received_end: Cell::new(false) }
    }

    /// Names the application that bytes from the peer are written to from now on.
    pub(crate) fn attach(&self, application: &Rc<TcpStream>, counters: &Rc<ByteCounters>) {
        self.attach_sink(Sink {
            application: application.clone(),
            counters: Some(counters.clone()),
        });
    }

    /// As [`attach`](TunnelStream::attach), for bytes that are counted elsewhere.
    pub(crate) fn attach_uncounted(&self, application: &Rc<TcpStream>) {
        self.attach_sink(Sink { application: application.clone(), counters: None });
    }

    fn attach_sink(&self, sink: Sink) {
        let attached = self.cell.sink.set(sink);
        assert!(attached.is_ok(), "a stream has one application");
    }

    /// Waits for the answer to the CONNECT request.
    pub(crate) async fn response(&self) -> Result<ConnectResponse, Received> {
        std::future::poll_fn(|cx| {
            if let Some(response) = self.cell.response.borrow_mut().take() {
                return Poll::Ready(Ok(*response));
            }
            match self.poll_incoming(cx) {
                Poll::Ready(received) => Poll::Ready(Err(received)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Moves what the application has to say into the tunnel: one read, one visit.
    ///
    /// Pending while the application is silent, and while the peer's window or the tunnel's socket is
    /// full: then the application is not read.
    ///
    /// # Errors
    /// What the application's socket says, a reset above all.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        application: &TcpStream,
    ) -> Poll<io::Result<Sent>> {
        loop {
            ready!(application.poll_readable(cx));
            if !self.tunnel.may_send(self.id) {
                self.cell.wake_on(cx);
                self.tunnel.wake_when_sendable(self.id);
                return Poll::Pending;
            }
            match self.tunnel.send_from(self.id, &self.cell, application) {
                Ok(0) => {
                    self.finish();
                    return Poll::Ready(Ok(Sent::End));
                }
                Ok(bytes) => return Poll::Ready(Ok(Sent::Bytes(bytes))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes what the peer sent and the application did not take at once; ready when the peer's
    /// direction has come to an end.
    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Received> {
        if let Some(sink) = self.cell.sink.get() {
            match self.poll_backlog(cx, sink) {
                Poll::Pending if self.cell.ends_in_order() => {
                    self.cell.wake_on(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Received::ApplicationGone),
                Poll::Pending | Poll::Ready(Ok(())) => {}
            }
        }
        self.poll_incoming(cx)
    }

    /// Ends our direction in order.
    pub(crate) fn finish(&self) {
        if !self.cell.sent_end.replace(true) && !self.cell.is_over() {
            self.tunnel.finish(self.id);
        }
    }

    /// Aborts the stream, both directions.
    pub(crate) fn reset(&self, end: LocalEnd) {
        self.cell.sent_end.set(true);
        self.received_end.set(true);
        self.tunnel.reset(self.id, end.code());
    }

    /// The tunnel the stream runs in.
    pub(crate) fn tunnel(&self) -> &Rc<Tunnel> {
        &self.tunnel
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Received> {
        let received = match &*self.cell.incoming.borrow() {
            Incoming::Open => {
                self.cell.wake_on(cx);
                return Poll::Pending;
            }
            Incoming::Ended => Received::End,
            Incoming::LetGo => Received::LetGo,
            Incoming::Reset(code) => Received::Reset(*code),
            Incoming::ApplicationGone => Received::ApplicationGone,
            Incoming::LimitReached(limit) => Received::LimitReached(*limit),
            Incoming::TunnelLost(error) => Received::TunnelLost(error.clone()),
        };
        if self.received_end.get() && matches!(received, Received::End) {
            // Told already: what may still come is an abort.
            self.cell.wake_on(cx);
            return Poll::Pending;
        }
        self.received_end.set(!matches!(received, Received::ApplicationGone));
        Poll::Ready(received)
    }

    fn poll_backlog(&self, cx: &mut Context<'_>, sink: &Sink) -> Poll<io::Result<()>> {
        let mut backlog = self.cell.backlog.borrow_mut();
        let mut released = 0;
        let outcome = loop {
            if backlog.is_empty() {
                if backlog.taken > 0 {
                    backlog.release();
                }
                break Poll::Ready(Ok(()));
            }
            if sink.application.poll_writable(cx).is_pending() {
                break Poll::Pending;
            }
            match sink.application.try_write(&backlog.bytes[backlog.taken..]) {
                Ok(written) => {
                    backlog.taken += written;
                    backlog.since = Some(runtime::now());
                    released += written;
                    sink.took(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break Poll::Ready(Err(error)),
            }
        };
        drop(backlog);
        if released > 0 {
            self.tunnel.release(self.id, released);
        }
        outcome
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let in_order = self.cell.sent_end.get() && self.received_end.get();
        if !in_order || !self.cell.backlog.borrow().is_empty() {
            self.tunnel.reset(self.id, LocalEnd::Aborted.code());
        }
        self.tunnel.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{accounts::Accounts, limits::Limits};

    /// What the peer's direction is told as, after the events in their order.
    fn told(sent_end: bool, events: &[fn(&StreamCell)]) -> String {
        let cell = StreamCell::new();
        cell.sent_end.set(sent_end);
        for event in events {
            event(&cell);
        }
        format!("{:?}", cell.incoming.borrow())
    }

    const ENDED: fn(&StreamCell) = StreamCell::peer_ended;
    const RESET: fn(&StreamCell) = |cell| cell.peer_reset(ErrorCode::CONNECT_ERROR);
    const LET_GO: fn(&StreamCell) = |cell| cell.peer_reset(ErrorCode::CANCEL);
    const CUT: fn(&StreamCell) = |cell| cell.cut_for_room(Limit::BufferBytesPerWorkload);
    const LOST: fn(&StreamCell) = |cell| cell.tunnel_lost(&TunnelError::Closed);

    #[test]
    fn a_backlog_that_never_runs_dry_holds_what_was_not_taken() {
        let account = Accounts::new(&Limits::default()).of(&"pod".into());
        let mut backlog = Backlog::default();
        let (mut came, mut went) = (0_u8, 0_u8);
        for _ in 0..1000 {
            let more: Vec<u8> = (0..100).map(|at: u8| came.wrapping_add(at)).collect();
            came = came.wrapping_add(100);
            backlog.keep(&[IoSlice::new(&more)], 0, &account);
            // All but ten bytes are taken each time.
            while backlog.bytes.len() - backlog.taken > 10 {
                assert_eq!(backlog.bytes[backlog.taken], went, "in order");
                backlog.taken += 1;
                went = went.wrapping_add(1);
            }
            assert!(backlog.bytes.len() <= 220, "{} bytes", backlog.bytes.len());
        }
    }

    #[test]
    fn nothing_follows_what_was_not_kept_of_a_stream_that_is_cut() {
        let limits = Limits { buffer_bytes_per_workload: 100, ..Limits::default() };
        let account = Accounts::new(&limits).of(&"pod".into());
        let mut others = HeldBytes::none(&account);
        others.set(100);
        let (application, far) = TcpStream::pair(4);
        let cell = StreamCell::new();
        let sink = Sink { application: Rc::new(application), counters: None };
        assert!(cell.sink.set(sink).is_ok());
        let deliver = |bytes: &[u8]| cell.deliver(&[IoSlice::new(bytes)], bytes.len(), &account);
        let read = || {
            let mut buffer = [0; 8];
            far.try_read(&mut buffer).map(|read| buffer[..read].to_vec()).ok()
        };
        assert_eq!(deliver(b"one two"), 7, "credit goes back for what is thrown away");
        assert_eq!(read().as_deref(), Some(&b"one "[..]));
        drop(others);
        assert_eq!(deliver(b"three"), 5);
        cell.peer_ended();
        assert_eq!(read(), None, "there is a gap before it, and that is no end in order");
        assert!(matches!(*cell.incoming.borrow(), Incoming::LimitReached(_)));
    }

    #[test]
    fn what_the_peer_said_last_of_the_stream_wins_over_the_loss_of_the_tunnel() {
        type Row<'a> = (&'a str, bool, &'a [fn(&StreamCell)], &'a str);
        let rows: [Row<'_>; 9] = [
            ("ended both ways, then the tunnel closes", true, &[ENDED, LOST], "Ended"),
            ("only the peer had ended", false, &[ENDED, LOST], "TunnelLost(Closed)"),
            ("the peer had let go", false, &[LET_GO, LOST], "LetGo"),
            ("the peer had aborted", true, &[RESET, LOST], "Reset(CONNECT_ERROR)"),
            ("an abort after the end", true, &[ENDED, RESET], "Reset(CONNECT_ERROR)"),
            ("nothing was said", true, &[LOST], "TunnelLost(Closed)"),
            ("an end is told once", false, &[ENDED, ENDED], "Ended"),
            (
                "a cut is no end in order",
                false,
                &[CUT, ENDED, LET_GO],
                "LimitReached(BufferBytesPerWorkload)",
            ),
            ("a cut of what is over", true, &[RESET, CUT], "Reset(CONNECT_ERROR)"),
        ];
        for (name, sent_end, events, want) in rows {
            assert_eq!(told(sent_end, events), want, "{name}");
        }
    }
}

//! What a reactor has said about a descriptor, and who waits for it.
//!
//! A [`Watch`] remembers edges. The reactor sets its flags; a socket call that came back short or
//! with `WouldBlock` clears them; whoever polls while they are clear leaves a waker. Each of the
//! three conditions (readable, writable, closed) has one waiter, the last to ask.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, Waker};

use super::readiness::Readiness;

/// Where a watch is registered: which runtime, which slot, which use of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) local: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The readiness of one descriptor and its waiters.
pub(crate) struct Watch {
    readiness: Cell<Readiness>,
    pub(super) token: Cell<Option<Token>>,
    reader: WakerCell,
    writer: WakerCell,
    closer: WakerCell,
    /// Present on listeners: what a multishot accept has delivered.
    pub(crate) accepts: Option<Box<Accepts>>,
}

/// Connections the kernel accepted for us and nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Accepts {
    pub(crate) ready: RefCell<VecDeque<OwnedFd>>,
    /// Why the multishot ended, if by an error.
    pub(crate) error: Cell<Option<rustix::io::Errno>>,
}

impl Watch {
    pub(crate) fn new(readiness: Readiness) -> Watch {
        Watch {
            readiness: Cell::new(readiness),
            token: Cell::new(None),
            reader: WakerCell::default(),
            writer: WakerCell::default(),
            closer: WakerCell::default(),
            accepts: None,
        }
    }

    pub(crate) fn listener() -> Watch {
        Watch { accepts: Some(Box::default()), ..Watch::new(Readiness::READABLE) }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness.get()
    }

    pub(crate) fn is(&self, any: Readiness) -> bool {
        self.readiness().has_any(any)
    }

    pub(crate) fn clear(&self, flags: Readiness) {
        self.readiness.set(self.readiness().without(flags));
    }

    /// Adds flags without waking anybody: the caller is about to act on them itself.
    pub(crate) fn set(&self, flags: Readiness) {
        self.readiness.set(self.readiness().or(flags));
    }

    /// Adds flags and wakes those who wait for them.
    pub(crate) fn notify(&self, new: Readiness) {
        self.set(new);
        self.wake(&self.reader, new, Readiness::WAKES_READER, Readiness::READER_WAITS);
        self.wake(&self.writer, new, Readiness::WAKES_WRITER, Readiness::WRITER_WAITS);
        self.wake(&self.closer, new, Readiness::CLOSED, Readiness::CLOSER_WAITS);
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.is(Readiness::WAKES_READER)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.is(Readiness::WAKES_WRITER)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is(Readiness::CLOSED)
    }

    /// Ready, or a waker left.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_readable(cx);
        if self.is_readable() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready, or a waker left.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_writable(cx);
        if self.is_writable() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready, or a waker left.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_closed(cx);
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Leaves the waker of a reader.
    pub(crate) fn wait_readable(&self, cx: &Context<'_>) {
        self.set(Readiness::READER_WAITS);
        self.reader.keep(cx.waker());
    }

    pub(crate) fn wait_writable(&self, cx: &Context<'_>) {
        self.set(Readiness::WRITER_WAITS);
        self.writer.keep(cx.waker());
    }

    pub(crate) fn wait_closed(&self, cx: &Context<'_>) {
        self.set(Readiness::CLOSER_WAITS);
        self.closer.keep(cx.waker());
    }

    fn wake(&self, cell: &WakerCell, new: Readiness, on: Readiness, waits: Readiness) {
        if new.has_any(on) && self.is(waits) {
            self.clear(waits);
            cell.wake();
        }
    }

    /// Zero bytes are an end, but no clean one after an error.
    pub(crate) fn check_end(&self, got: usize, wanted: usize) -> io::Result<()> {
        if got == 0 && wanted > 0 && self.is(Readiness::ABORTED) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    /// A read of `wanted` bytes gave `got`: a short one means the queue is empty. Hope remains all
    /// the same when the peer has closed: the next read finds the end.
    pub(crate) fn after_read(&self, got: usize, wanted: usize) {
        if got > 0 && got < wanted {
            self.clear(Readiness::READABLE);
        }
    }

    /// A write of `wanted` bytes took `got`: a short one means the buffer is full.
    pub(crate) fn after_write(&self, got: usize, wanted: usize) {
        if got < wanted {
            self.clear(Readiness::WRITABLE);
        }
    }

    /// Remembers errors that end a connection, so that the end of stream the kernel reports after
    /// having told its error once is not taken for a clean one.
    pub(crate) fn after_error(&self, error: rustix::io::Errno) {
        use rustix::io::Errno;
        if !matches!(
            error,
            Errno::AGAIN | Errno::INTR | Errno::PIPE | Errno::INVAL | Errno::NOTCONN
        ) {
            self.set(Readiness::ABORTED);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("readiness", &self.readiness())
            .field("token", &self.token.get())
            .finish_non_exhaustive()
    }
}

/// One waiter. Its waker is kept after use, so that a task that comes back leaves no new one.
#[derive(Default)]
struct WakerCell(Cell<Option<Waker>>);

impl WakerCell {
    fn keep(&self, waker: &Waker) {
        let kept = match self.0.take() {
            Some(kept) if kept.will_wake(waker) => kept,
            _former => waker.clone(),
        };
        self.0.set(Some(kept));
    }

    fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake_by_ref();
            // Whoever came back during the wake has left a newer one.
            let newer = self.0.take();
            self.0.set(newer.or(Some(waker)));
        }
    }
}

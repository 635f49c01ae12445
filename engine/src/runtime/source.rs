//! Readiness: what a reactor says about a descriptor, and who waits for it.
//!
//! A [`Source`] remembers edges. The reactor sets its flags; a socket call that came back short or
//! with `WouldBlock` clears them; whoever polls while they are clear leaves a waker. Each of the
//! three conditions (readable, writable, closed) has one waiter, the last to ask.
//!
//! A [`Watched`] is a descriptor with its source. It is registered with the reactor the first time
//! somebody has to wait, so that a connection can be handed to another shard untouched.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::local;

/// A set of readiness flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u16);

impl Readiness {
    pub(crate) const NONE: Readiness = Readiness(0);
    pub(crate) const READABLE: Readiness = Readiness(1);
    pub(crate) const WRITABLE: Readiness = Readiness(1 << 1);
    /// The peer has sent its last byte (FIN), or the connection is gone.
    pub(crate) const READ_CLOSED: Readiness = Readiness(1 << 2);
    /// Both directions are closed.
    pub(crate) const HUNG_UP: Readiness = Readiness(1 << 3);
    /// The kernel has an error for us.
    pub(crate) const ERROR: Readiness = Readiness(1 << 4);
    /// An error of the connection was seen by some call: from here on an end of stream is no clean end.
    pub(crate) const ABORTED: Readiness = Readiness(1 << 5);
    /// The reactor could not watch this descriptor.
    pub(crate) const UNWATCHED: Readiness = Readiness(1 << 6);
    const READER_WAITS: Readiness = Readiness(1 << 7);
    const WRITER_WAITS: Readiness = Readiness(1 << 8);
    const CLOSER_WAITS: Readiness = Readiness(1 << 9);

    const CLOSED: Readiness = Readiness::HUNG_UP.or(Readiness::ERROR);
    const WAKES_READER: Readiness =
        Readiness::READABLE.or(Readiness::READ_CLOSED).or(Readiness::CLOSED);
    const WAKES_WRITER: Readiness = Readiness::WRITABLE.or(Readiness::CLOSED);

    /// From the bits of `poll(2)`, which `epoll` and io_uring share.
    pub(crate) fn from_poll(bits: u32) -> Readiness {
        const PAIRS: [(i16, Readiness); 5] = [
            (libc::POLLIN, Readiness::READABLE),
            (libc::POLLOUT, Readiness::WRITABLE),
            (libc::POLLRDHUP, Readiness::READABLE.or(Readiness::READ_CLOSED)),
            (libc::POLLHUP, Readiness::HUNG_UP.or(Readiness::READ_CLOSED)),
            (libc::POLLERR, Readiness::ERROR),
        ];
        PAIRS
            .into_iter()
            .filter(|(bit, _)| bits & *bit as u32 != 0)
            .fold(Readiness::NONE, |all, (_, flag)| all.or(flag))
    }

    pub(crate) const fn or(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Readiness) -> Readiness {
        Readiness(self.0 & !other.0)
    }

    pub(crate) const fn has_any(self, of: Readiness) -> bool {
        self.0 & of.0 != 0
    }
}

/// Where a source is registered: which runtime, which slot, which use of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) local: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The readiness of one descriptor and its waiters.
pub(crate) struct Source {
    readiness: Cell<Readiness>,
    token: Cell<Option<Token>>,
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

impl Source {
    pub(crate) fn new(readiness: Readiness) -> Source {
        Source {
            readiness: Cell::new(readiness),
            token: Cell::new(None),
            reader: WakerCell::default(),
            writer: WakerCell::default(),
            closer: WakerCell::default(),
            accepts: None,
        }
    }

    pub(crate) fn listener() -> Source {
        Source { accepts: Some(Box::default()), ..Source::new(Readiness::READABLE) }
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
    #[cfg(feature = "sim")]
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_readable(cx);
        if self.is_readable() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready, or a waker left.
    #[cfg(feature = "sim")]
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_writable(cx);
        if self.is_writable() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready, or a waker left.
    #[cfg(feature = "sim")]
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_closed(cx);
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Leaves the waker of a reader.
    pub(crate) fn wait_readable(&self, cx: &Context<'_>) {
        self.set(Readiness::READER_WAITS);
        self.reader.keep(cx.waker());
    }

    fn wait_writable(&self, cx: &Context<'_>) {
        self.set(Readiness::WRITER_WAITS);
        self.writer.keep(cx.waker());
    }

    fn wait_closed(&self, cx: &Context<'_>) {
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

    /// A read of `wanted` bytes gave `got`: a short one means the queue is empty. Hope remains all the
    /// same when the peer has closed: the next read finds the end.
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

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
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

/// A descriptor and its readiness. Dropping it deregisters, then closes.
pub(crate) struct Watched {
    fd: Option<OwnedFd>,
    source: Rc<Source>,
}

impl Watched {
    /// A descriptor that may be tried at once: nobody knows yet whether it is ready.
    pub(crate) fn new(fd: OwnedFd) -> Watched {
        Watched::with_source(fd, Source::new(Readiness::READABLE.or(Readiness::WRITABLE)))
    }

    pub(crate) fn with_source(fd: OwnedFd, source: Source) -> Watched {
        Watched { fd: Some(fd), source: Rc::new(source) }
    }

    pub(crate) fn source(&self) -> &Rc<Source> {
        &self.source
    }

    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, Source::is_readable, Source::wait_readable)
    }

    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, Source::is_writable, Source::wait_writable)
    }

    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, Source::is_closed, Source::wait_closed)
    }

    fn poll(
        &self,
        cx: &Context<'_>,
        is_ready: fn(&Source) -> bool,
        wait: fn(&Source, &Context<'_>),
    ) -> Poll<()> {
        if is_ready(&self.source) {
            return Poll::Ready(());
        }
        wait(&self.source, cx);
        self.register();
        if is_ready(&self.source) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Has the reactor watch this descriptor from now on. A failure is told by the next call.
    pub(crate) fn register(&self) {
        if self.source.token.get().is_some() {
            return;
        }
        let local = local::expect_current("a socket");
        match local.reactor.register(&local, self.as_fd(), &self.source) {
            Ok(token) => self.source.token.set(Some(token)),
            Err(_) => self.source.set(Readiness::UNWATCHED.or(Readiness::ERROR)),
        }
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.source.token.get()
    }

    /// Reads up to `wanted` bytes of a stream when there is hope, and keeps the readiness right.
    pub(crate) fn try_read(
        &self,
        wanted: usize,
        read: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let got = self.try_receive(read)?;
        self.source.check_end(got, wanted)?;
        self.source.after_read(got, wanted);
        Ok(got)
    }

    /// Writes `wanted` bytes of a stream when there is hope, and keeps the readiness right.
    pub(crate) fn try_write(
        &self,
        wanted: usize,
        write: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let got = self.try_send(write)?;
        self.source.after_write(got, wanted);
        Ok(got)
    }

    /// Splices from a stream when there is hope. With bytes in the pipe, `EAGAIN` may mean that the
    /// pipe is full and says nothing about the stream.
    pub(crate) fn try_splice(
        &self,
        pipe_is_empty: bool,
        mut splice: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        if !self.source.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match rustix::io::retry_on_intr(|| splice(self.as_fd())) {
            Ok(moved) => self.source.check_end(moved, 1).map(|()| moved),
            Err(rustix::io::Errno::AGAIN) if !pipe_is_empty => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(errno) => Err(self.failed(errno, Readiness::READABLE)),
        }
    }

    /// Receives something (a datagram, a connection) when there is hope.
    pub(crate) fn try_receive<T>(
        &self,
        mut receive: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        if !self.source.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let received = rustix::io::retry_on_intr(|| receive(self.as_fd()));
        received.map_err(|errno| self.failed(errno, Readiness::READABLE))
    }

    /// Sends something when there is hope.
    pub(crate) fn try_send<T>(
        &self,
        mut send: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        if !self.source.is_writable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = rustix::io::retry_on_intr(|| send(self.as_fd()));
        sent.map_err(|errno| self.failed(errno, Readiness::WRITABLE))
    }

    /// The error of a call that waits for `direction`.
    pub(crate) fn failed(&self, errno: rustix::io::Errno, direction: Readiness) -> io::Error {
        if errno == rustix::io::Errno::AGAIN {
            if self.source.is(Readiness::UNWATCHED) {
                return io::Error::other("the reactor could not watch this descriptor");
            }
            // Whatever was said before, there is nothing to be had: wait for the next edge.
            self.source.clear(direction.or(Readiness::ERROR));
        }
        self.source.after_error(errno);
        errno.into()
    }

    /// Gives the descriptor back, no longer watched.
    pub(crate) fn into_fd(mut self) -> OwnedFd {
        let fd = self.fd.take().expect("present until here");
        match self.deregistration() {
            Some((local, token)) => local.reactor.release(&local, token, fd),
            None => fd,
        }
    }

    fn deregistration(&self) -> Option<(Rc<local::Local>, Token)> {
        let token = self.source.token.take()?;
        local::current_if(token.local).map(|local| (local, token))
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("present until into_fd").as_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        if let Some((local, token)) = self.deregistration() {
            local.reactor.close(&local, token, fd);
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("fd", &self.fd).field("source", &self.source).finish()
    }
}

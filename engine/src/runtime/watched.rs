//! A descriptor with its watch: calls that keep the readiness right, and waiting.
//!
//! It is registered with the reactor the first time somebody has to wait, so that a connection can
//! be handed to another shard untouched.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::local;
use super::readiness::Readiness;
use super::watch::{Token, Watch};

/// A descriptor and its readiness. Dropping it deregisters, then closes.
pub(crate) struct Watched {
    fd: Option<OwnedFd>,
    watch: Rc<Watch>,
}

impl Watched {
    /// A descriptor that may be tried at once: nobody knows yet whether it is ready.
    pub(crate) fn new(fd: OwnedFd) -> Watched {
        Watched::with_watch(fd, Watch::new(Readiness::READABLE.or(Readiness::WRITABLE)))
    }

    pub(crate) fn with_watch(fd: OwnedFd, watch: Watch) -> Watched {
        Watched { fd: Some(fd), watch: Rc::new(watch) }
    }

    pub(crate) fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, Watch::is_readable, Watch::wait_readable)
    }

    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, Watch::is_writable, Watch::wait_writable)
    }

    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, Watch::is_closed, Watch::wait_closed)
    }

    fn poll(
        &self,
        cx: &Context<'_>,
        is_ready: fn(&Watch) -> bool,
        wait: fn(&Watch, &Context<'_>),
    ) -> Poll<()> {
        if is_ready(&self.watch) {
            return Poll::Ready(());
        }
        wait(&self.watch, cx);
        self.register();
        if is_ready(&self.watch) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Has the reactor watch this descriptor from now on. A failure is told by the next call.
    pub(crate) fn register(&self) {
        if self.watch.token.get().is_some() {
            return;
        }
        let local = local::expect_current("a socket");
        match local.reactor.register(self.as_fd(), &self.watch) {
            Ok(token) => self.watch.token.set(Some(token)),
            Err(_) => self.watch.set(Readiness::UNWATCHED.or(Readiness::ERROR)),
        }
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.watch.token.get()
    }

    /// Reads up to `wanted` bytes of a stream when there is hope, and keeps the readiness right.
    pub(crate) fn try_read(
        &self,
        wanted: usize,
        read: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let got = self.try_receive(read)?;
        self.watch.check_end(got, wanted)?;
        self.watch.after_read(got, wanted);
        Ok(got)
    }

    /// Writes `wanted` bytes of a stream when there is hope, and keeps the readiness right.
    pub(crate) fn try_write(
        &self,
        wanted: usize,
        write: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let got = self.try_send(write)?;
        self.watch.after_write(got, wanted);
        Ok(got)
    }

    /// Splices from a stream when there is hope. With bytes in the pipe, `EAGAIN` may mean that the
    /// pipe is full and says nothing about the stream.
    pub(crate) fn try_splice(
        &self,
        pipe_is_empty: bool,
        mut splice: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        if !self.watch.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match rustix::io::retry_on_intr(|| splice(self.as_fd())) {
            Ok(moved) => self.watch.check_end(moved, 1).map(|()| moved),
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
        if !self.watch.is_readable() {
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
        if !self.watch.is_writable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = rustix::io::retry_on_intr(|| send(self.as_fd()));
        sent.map_err(|errno| self.failed(errno, Readiness::WRITABLE))
    }

    /// The error of a call that waits for `direction`.
    pub(crate) fn failed(&self, errno: rustix::io::Errno, direction: Readiness) -> io::Error {
        if errno == rustix::io::Errno::AGAIN {
            if self.watch.is(Readiness::UNWATCHED) {
                return io::Error::other("the reactor could not watch this descriptor");
            }
            // Whatever was said before, there is nothing to be had: wait for the next edge.
            self.watch.clear(direction.or(Readiness::ERROR));
        }
        self.watch.after_error(errno);
        errno.into()
    }

    /// Gives the descriptor back, no longer watched.
    pub(crate) fn into_fd(mut self) -> OwnedFd {
        let fd = self.fd.take().expect("present until here");
        match self.deregistration() {
            Some((local, token)) => local.reactor.release(token, fd),
            None => fd,
        }
    }

    fn deregistration(&self) -> Option<(Rc<local::Local>, Token)> {
        let token = self.watch.token.take()?;
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
            local.reactor.close(token, fd);
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("fd", &self.fd).field("watch", &self.watch).finish()
    }
}

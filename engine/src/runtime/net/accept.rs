//! TCP listeners: accept without ever spinning, stopping or leaking.
//!
//! What can go wrong with an accept falls into three classes: the peer has gone (skipped), we are
//! out of descriptors or memory (a pause, 5 ms doubling to 50 ms), or the listener itself is
//! broken (told). Before the descriptors run out, a reserve is kept: within twice the
//! [`DESCRIPTOR_RESERVE`](super::super::DESCRIPTOR_RESERVE) of the limit new connections are reset,
//! so that their clients know, a few at a time between pauses, so that a storm of them costs next to
//! nothing. A multishot accept, which takes all that wait, is used only while there is room for a
//! full backlog above that.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, sockopt};

use super::super::descriptors::{accepts_max, is_reserved};
use super::super::local::{self, Local};
use super::super::netns::NetNamespace;
use super::super::socket;
use super::super::time::sleep;
use super::super::watch::{Accepts, Watch};
use super::super::watched::Watched;
use super::{ListenOptions, TcpStream};

/// Connections one listener gives out per turn of its shard; then the others have theirs.
const ACCEPTS_PER_TURN_MAX: u32 = 64;
/// Assumed of listeners that others have made: the kernel's own upper bound, by default. At a listener that is stopped
/// no more are taken, however fast they come.
const BACKLOG_UNKNOWN: u32 = 4096;
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Connections reset between two pauses while only the reserve is left.
const REFUSALS_PER_PAUSE_MAX: usize = 64;

/// A listening socket of the kernel.
#[derive(Debug)]
pub(super) struct KernelListener {
    io: Watched,
    transparent: bool,
    /// Where the descriptor table counts as full.
    accepts_max: u64,
    pause: Cell<Duration>,
    /// How full the descriptor table is: the number of the newest descriptor.
    newest: Cell<u64>,
    backlog: u64,
    turn: Cell<u64>,
    accepted_in_turn: Cell<u32>,
    /// Where those are counted, too, that were reset to keep the reserve.
    refusals: OnceCell<Arc<AtomicU64>>,
}

impl KernelListener {
    pub(super) fn bind(
        namespace: &NetNamespace,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<KernelListener> {
        let fd = socket::tcp(namespace, address.ip())?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if options.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, false)?;
        }
        // Linux hands these down to every accepted connection.
        socket::set_mark(&fd, options.mark)?;
        socket::set_patience(&fd, &options.patience)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        let transparent = options.transparent && socket::set_transparent(&fd, address.ip()).is_ok();
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(KernelListener::listening(fd, transparent, options.backlog))
    }

    pub(super) fn from_fd(fd: OwnedFd) -> KernelListener {
        let transparent = socket::is_transparent(&fd);
        KernelListener::listening(fd, transparent, BACKLOG_UNKNOWN)
    }

    fn listening(fd: OwnedFd, transparent: bool, backlog: u32) -> KernelListener {
        let newest = fd.as_raw_fd() as u64;
        KernelListener {
            io: Watched::with_watch(fd, Watch::listener()),
            transparent,
            accepts_max: accepts_max(),
            pause: Cell::new(PAUSE_MIN),
            newest: Cell::new(newest),
            backlog: u64::from(backlog),
            turn: Cell::new(0),
            accepted_in_turn: Cell::new(0),
            refusals: OnceCell::new(),
        }
    }

    pub(super) fn count_refusals_in(&self, counter: Arc<AtomicU64>) {
        // The first to ask is the one whose listener it is.
        let _ = self.refusals.set(counter);
    }

    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            self.keep_reserve().await;
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok((stream, _)) if is_reserved(self.newest.get(), self.accepts_max) => {
                    self.refuse(stream);
                }
                Ok(accepted) => {
                    self.pause.set(PAUSE_MIN);
                    return Ok(accepted);
                }
                Err(errno) if is_shortage(errno) => {
                    local::expect_current("accept")
                        .count(|counters| counters.accept_exhausted += 1);
                    self.rest().await;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    pub(super) fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let accepted = match self.take_ready() {
                Some(accepted) => accepted,
                None => accept_now(self.io.as_fd()),
            };
            match accepted {
                Ok(accepted) => return Ok(self.admit(accepted)),
                Err(errno) if is_skipped(errno) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    pub(super) async fn stop(&self) -> Vec<(TcpStream, SocketAddr)> {
        let local = local::expect_current("stop");
        poll_fn(|cx| {
            self.io.watch().wait_readable(cx);
            match local.reactor.stop_accepting(self.io.token()) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
        // The kernel wakes one waiter for a connection. If that was the request which has just ended, nobody else
        // knows of it: what waits by now is taken here.
        let ready = std::iter::from_fn(|| self.take_ready());
        let ready = ready.flatten().map(|accepted| self.admit(accepted));
        let waiting = std::iter::from_fn(|| self.try_accept().ok());
        ready.chain(waiting.take(BACKLOG_UNKNOWN as usize)).collect()
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_address(&self.io)
    }

    pub(super) fn is_transparent(&self) -> bool {
        self.transparent
    }

    pub(super) fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.io.as_fd().try_clone_to_owned()
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.io.into_fd()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<(TcpStream, SocketAddr), Errno>> {
        let local = local::expect_current("accept");
        loop {
            if !self.may_accept_this_turn(&local) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Poll::Ready(accepted) = self.poll_next(&local, cx) else { return Poll::Pending };
            match accepted {
                Ok(accepted) => {
                    let accepted = self.admit(accepted);
                    if !is_reserved(self.newest.get(), self.accepts_max) {
                        local.count(|counters| counters.accepted += 1);
                    }
                    return Poll::Ready(Ok(accepted));
                }
                Err(errno) if is_skipped(errno) => {
                    local.count(|counters| counters.accept_skipped += 1);
                }
                Err(errno) => return Poll::Ready(Err(errno)),
            }
        }
    }

    /// From the multishot accept where the reactor has one, by a call of our own elsewhere.
    fn poll_next(&self, local: &Local, cx: &Context<'_>) -> Poll<Result<Accepted, Errno>> {
        if let Some(ready) = self.take_ready() {
            return Poll::Ready(ready);
        }
        self.io.register();
        if local.reactor.accepts(self.io.token(), self.has_room()) {
            self.io.watch().wait_readable(cx);
            return Poll::Pending;
        }
        loop {
            if self.io.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
            match self.io.try_receive(accept_now) {
                Ok(accepted) => return Poll::Ready(Ok(accepted)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    return Poll::Ready(Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
                }
            }
        }
    }

    fn take_ready(&self) -> Option<Result<Accepted, Errno>> {
        let Accepts { ready, error, .. } = self.io.watch().accepts.as_deref()?;
        let first = ready.borrow_mut().pop_front();
        match first {
            Some(fd) => Some(with_peer(fd)),
            None => error.take().map(Err),
        }
    }

    fn admit(&self, (fd, peer): Accepted) -> (TcpStream, SocketAddr) {
        self.newest.set(fd.as_raw_fd() as u64);
        (TcpStream::from_fd(fd), peer)
    }

    fn may_accept_this_turn(&self, local: &Local) -> bool {
        if self.turn.replace(local.turn()) != local.turn() {
            self.accepted_in_turn.set(0);
        }
        self.accepted_in_turn.set(self.accepted_in_turn.get() + 1);
        self.accepted_in_turn.get() <= ACCEPTS_PER_TURN_MAX
    }

    /// While the lowest free descriptor is one of the reserve: resets those that wait, and rests.
    async fn keep_reserve(&self) {
        while is_reserved(self.newest.get(), self.accepts_max) {
            self.newest.set(self.lowest_free());
            if !is_reserved(self.newest.get(), self.accepts_max) {
                break;
            }
            self.refuse_waiting();
            local::expect_current("accept").count(|counters| counters.accept_reserve_pauses += 1);
            self.rest().await;
        }
    }

    fn refuse_waiting(&self) {
        let local = local::expect_current("accept");
        // A multishot accept would go on taking what there is.
        if self.io.token().is_some() {
            local.reactor.accepts(self.io.token(), false);
        }
        for _ in 0..REFUSALS_PER_PAUSE_MAX {
            let waiting = self.take_ready().unwrap_or_else(|| accept_now(self.io.as_fd()));
            match waiting {
                Ok((fd, _)) => self.refuse(TcpStream::from_fd(fd)),
                Err(errno) if is_skipped(errno) => {}
                Err(_) => return,
            }
        }
    }

    /// The client learns at once that there is no room.
    fn refuse(&self, stream: TcpStream) {
        stream.abort();
        local::expect_current("accept").count(|counters| counters.accept_refused += 1);
        if let Some(counter) = self.refusals.get() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lowest_free(&self) -> u64 {
        let probe = rustix::io::fcntl_dupfd_cloexec(&self.io, 0);
        probe.map_or(u64::MAX, |descriptor| descriptor.as_raw_fd() as u64)
    }

    /// Whether all that may wait in the kernel could be taken at once.
    fn has_room(&self) -> bool {
        self.newest.get().saturating_add(self.backlog) < self.accepts_max
    }

    async fn rest(&self) {
        let pause = self.pause.get();
        self.pause.set((pause * 2).min(PAUSE_MAX));
        sleep(pause).await;
    }
}

type Accepted = (OwnedFd, SocketAddr);

fn accept_now(fd: BorrowedFd<'_>) -> Result<Accepted, Errno> {
    let (fd, peer) = acceptfrom_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|peer| socket::internet(peer).ok()).ok_or(Errno::CONNABORTED)?;
    Ok((fd, peer))
}

/// A multishot accept does not say who the peer is; one that has gone is no connection.
fn with_peer(fd: OwnedFd) -> Result<Accepted, Errno> {
    let peer = socket::peer_address(&fd).map_err(|_| Errno::CONNABORTED)?;
    Ok((fd, peer))
}

fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// Errors of the connection that was to be accepted, or of the network it came by (accept(2)).
fn is_skipped(errno: Errno) -> bool {
    const SKIPPED: [Errno; 12] = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PERM,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::TIMEDOUT,
    ];
    SKIPPED.contains(&errno)
}

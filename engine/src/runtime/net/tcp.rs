//! TCP connections.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt;

use super::super::descriptors::unless_reserved;
use super::super::netns::NetNamespace;
use super::super::readiness::Readiness;
#[cfg(feature = "sim")]
use super::super::sim::sockets::SimStream;
use super::super::socket;
use super::super::time::timeout;
use super::super::watch::Watch;
use super::super::watched::Watched;
use super::PeerPatience;
use super::pair::{Holds, PairEnd};
use super::stream::{Detached, Stream};

/// How to dial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// `SO_MARK` of every packet, so that redirection lets our own traffic pass.
    pub mark: Option<u32>,
    /// Dial from this address though it is not ours (`IP_TRANSPARENT`, `IP_FREEBIND`).
    pub source: Option<IpAddr>,
    /// Fail when `source` cannot be had, rather than dial from an own address. Without it the
    /// caller looks at [`TcpStream::has_foreign_source`].
    pub source_required: bool,
    /// Give up after this time with [`io::ErrorKind::TimedOut`].
    pub timeout: Option<Duration>,
    /// When its peer is given up once it is there.
    pub patience: PeerPatience,
}

/// A TCP connection. Dropping it closes: with a reset if bytes are unread, cleanly otherwise.
#[derive(Debug)]
pub struct TcpStream {
    io: Stream,
    foreign_source: bool,
}

impl TcpStream {
    /// Dials `destination` from inside `namespace`.
    ///
    /// # Errors
    /// What the network answers; [`io::ErrorKind::TimedOut`] after `options.timeout`.
    pub async fn connect(
        namespace: &NetNamespace,
        options: &ConnectOptions,
        destination: SocketAddr,
    ) -> io::Result<TcpStream> {
        let connecting = TcpStream::connect_without_limit(namespace, options, destination);
        match options.timeout {
            Some(limit) => timeout(limit, connecting).await?,
            None => connecting.await,
        }
    }

    async fn connect_without_limit(
        namespace: &NetNamespace,
        options: &ConnectOptions,
        destination: SocketAddr,
    ) -> io::Result<TcpStream> {
        let destination = socket::canonical(destination);
        #[cfg(feature = "sim")]
        if let Some(namespace) = namespace.as_simulated() {
            let connecting = SimStream::connect(namespace, options, destination);
            let (io, foreign_source) = connecting.await?;
            return Ok(TcpStream { io: Stream::Simulated(io), foreign_source });
        }
        let (fd, foreign_source) = prepare(namespace, options, destination.ip())?;
        match rustix::net::connect(&fd, &destination) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Watched only from here on: before connect(2) a TCP socket counts as hung up.
        let io = Watched::with_watch(fd, Watch::new(Readiness::READABLE));
        connected(&io).await?;
        Ok(TcpStream { io: Stream::Kernel(io), foreign_source })
    }

    /// Takes over a connected, non-blocking socket.
    pub fn from_fd(fd: OwnedFd) -> TcpStream {
        TcpStream { io: Stream::Kernel(Watched::new(fd)), foreign_source: false }
    }

    /// Two ends that are joined in memory and hold so many bytes for each other. They have no descriptors and
    /// no addresses, and stay on their shard.
    #[cfg(test)]
    pub(crate) fn pair(bytes_max: usize) -> (TcpStream, TcpStream) {
        TcpStream::pair_that_tells(bytes_max, [Box::new(|_| ()), Box::new(|_| ())])
    }

    /// The same, and each tells how much it holds.
    pub(crate) fn pair_that_tells(bytes_max: usize, holds: [Holds; 2]) -> (TcpStream, TcpStream) {
        let (one, other) = PairEnd::pair(bytes_max, holds);
        let stream = |end| TcpStream { io: Stream::Joined(Box::new(end)), foreign_source: false };
        (stream(one), stream(other))
    }

    /// Of an end of a pair: since when nothing was read of what was written here and waits.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        match &self.io {
            Stream::Joined(end) => end.waits_since(),
            _ => None,
        }
    }

    /// Of an end of a pair: takes back what was written here and not read; the other end reads an abort in its place.
    pub(crate) fn forget_unread(&self) {
        if let Stream::Joined(end) = &self.io {
            end.forget_unread();
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn simulated(io: SimStream) -> TcpStream {
        TcpStream { io: Stream::Simulated(io), foreign_source: false }
    }

    /// Gives up the socket; what was read stays read.
    ///
    /// # Errors
    /// In a simulation, where there is no descriptor.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        self.io.into_fd()
    }

    /// Makes the connection ready for another shard.
    pub fn detach(self) -> DetachedStream {
        DetachedStream { io: self.io.detach(), foreign_source: self.foreign_source }
    }

    /// Reads what is there. Zero bytes mean that the peer has sent everything it had to send; a
    /// connection that was aborted ends in an error, never in zero bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.try_read(buffer)
    }

    /// As [`try_read`](TcpStream::try_read), into several buffers.
    ///
    /// # Errors
    /// As [`try_read`](TcpStream::try_read).
    pub fn try_readv(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io.try_readv(buffers)
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io.try_write(bytes)
    }

    /// As [`try_write`](TcpStream::try_write), from several buffers.
    ///
    /// # Errors
    /// As [`try_write`](TcpStream::try_write).
    pub fn try_writev(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io.try_writev(buffers)
    }

    /// Ready when a read has hope. One task may wait at a time.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_readable(cx)
    }

    /// Ready when a write has hope. One task may wait at a time.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_writable(cx)
    }

    /// Ready when the connection is over: reset, failed, or closed on both sides. It is noticed
    /// without reading; the peer's end of stream alone does not count.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_closed(cx)
    }

    /// Waits for [`poll_readable`](TcpStream::poll_readable).
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Waits for [`poll_writable`](TcpStream::poll_writable).
    pub async fn writable(&self) {
        poll_fn(|cx| self.poll_writable(cx)).await;
    }

    /// Waits for [`poll_closed`](TcpStream::poll_closed).
    pub async fn closed(&self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// Whether a read has hope, as far as is known.
    pub fn is_readable(&self) -> bool {
        self.io.watch().is_readable()
    }

    /// Whether a write has hope, as far as is known.
    pub fn is_writable(&self) -> bool {
        self.io.watch().is_writable()
    }

    /// Whether the connection is known to be over; see [`poll_closed`](TcpStream::poll_closed).
    pub fn is_hung_up(&self) -> bool {
        self.io.watch().is_closed()
    }

    /// Whether the connection is known to have been aborted: reset by the peer, or timed out.
    pub fn is_aborted(&self) -> bool {
        self.io.watch().is(Readiness::ABORTED.or(Readiness::ERROR))
    }

    /// Whether the peer is known to have sent its last byte, read or not.
    pub fn is_read_closed(&self) -> bool {
        self.io.watch().is(Readiness::READ_CLOSED)
    }

    /// Gives the next read hope without an edge: worth one call after being woken for another
    /// reason.
    pub fn assume_readable(&self) {
        self.io.watch().set(Readiness::READABLE);
    }

    /// Sends the end of our stream; the peer's may go on.
    ///
    /// # Errors
    /// When the connection is over already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.io.shutdown_write()
    }

    /// Has the close, whenever it comes, send a reset, so that the peer cannot mistake it for a
    /// clean end.
    pub fn reset_on_close(&self) {
        self.io.reset_on_close();
    }

    /// Closes with a reset, so that the peer cannot mistake this for a clean end.
    pub fn abort(self) {
        self.reset_on_close();
    }

    /// The error of the connection, if it has one. The kernel tells it once; reads go on to report
    /// an aborted connection as an error.
    ///
    /// # Errors
    /// When the socket cannot be asked.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.take_error()
    }

    /// The peer's address; IPv4 is never shown in IPv6 clothes.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// Our address; IPv4 is never shown in IPv6 clothes.
    ///
    /// # Errors
    /// When the socket cannot be asked.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Where a redirected connection wanted to go; for others, our own address.
    ///
    /// # Errors
    /// When the socket cannot be asked.
    pub fn original_destination(&self) -> io::Result<SocketAddr> {
        self.io.original_destination()
    }

    /// Whether the source address asked for at [`connect`](TcpStream::connect) is in use.
    pub fn has_foreign_source(&self) -> bool {
        self.foreign_source
    }

    /// Bounds what the kernel queues unsent (`TCP_NOTSENT_LOWAT`), so that what is urgent does not
    /// wait behind what is bulky.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_unsent_bytes_max(&self, bytes: u32) -> io::Result<()> {
        self.io.set_unsent_bytes_max(bytes)
    }

    /// Whether an end of a pair in memory has got bytes that were not read; of a socket nobody knows.
    pub(crate) fn has_unread(&self) -> bool {
        matches!(&self.io, Stream::Joined(end) if end.has_unread())
    }

    /// Whether the kernel knows it: an end of a pair in memory it does not.
    pub(crate) fn has_descriptor(&self) -> bool {
        !matches!(self.io, Stream::Joined(_))
    }

    pub(crate) fn io(&self) -> &Stream {
        &self.io
    }
}

/// Waits for the answer to a connect(2).
async fn connected(io: &Watched) -> io::Result<()> {
    loop {
        poll_fn(|cx| io.poll_writable(cx)).await;
        if let Err(errno) = sockopt::socket_error(io)? {
            return Err(errno.into());
        }
        match rustix::net::getpeername(io) {
            Ok(_) => return Ok(()),
            // Not yet: some other edge.
            Err(Errno::NOTCONN) => io.watch().clear(Readiness::WRITABLE),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Makes the socket of a dial; tells whether the foreign source address could be had.
fn prepare(
    namespace: &NetNamespace,
    options: &ConnectOptions,
    destination: IpAddr,
) -> io::Result<(OwnedFd, bool)> {
    let fd = unless_reserved(socket::tcp(namespace, destination)?)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    socket::set_patience(&fd, &options.patience)?;
    socket::set_mark(&fd, options.mark)?;
    let Some(source) = options.source else { return Ok((fd, false)) };
    match socket::bind_foreign(&fd, source) {
        Ok(()) => Ok((fd, true)),
        Err(error) if options.source_required => Err(error),
        // A half-prepared socket is of no use: start anew without the source.
        Err(_) => {
            prepare(namespace, &ConnectOptions { source: None, ..options.clone() }, destination)
        }
    }
}

/// A connection between two shards: it may cross threads, and is watched by none.
#[derive(Debug)]
pub struct DetachedStream {
    io: Detached,
    foreign_source: bool,
}

impl DetachedStream {
    /// A connected, non-blocking socket, as another process hands it over.
    pub fn from_fd(fd: OwnedFd) -> DetachedStream {
        DetachedStream { io: Detached::Kernel(fd), foreign_source: false }
    }

    /// The socket, to be sent to another process.
    ///
    /// # Errors
    /// In a simulation, where there is no descriptor.
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.io {
            Detached::Kernel(fd) => Ok(fd.as_fd()),
            #[cfg(feature = "sim")]
            Detached::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The socket.
    ///
    /// # Errors
    /// In a simulation, where there is no descriptor.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.io {
            Detached::Kernel(fd) => Ok(fd),
            #[cfg(feature = "sim")]
            Detached::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Makes the connection one of this shard.
    pub fn attach(self) -> TcpStream {
        TcpStream { io: self.io.attach(), foreign_source: self.foreign_source }
    }
}

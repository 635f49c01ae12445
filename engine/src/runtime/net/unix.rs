//! Unix sockets: streams, listeners and sequenced packets with descriptors.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, socket_with,
};

use super::super::watch::Watch;
use super::super::watched::Watched;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// Descriptors taken from one packet; the kernel closes what does not fit.
const DESCRIPTORS_PER_PACKET_MAX: usize = 4;

/// A connection-oriented byte stream between two processes of this host.
#[derive(Debug)]
pub struct UnixStream {
    io: Watched,
}

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// When nobody listens there, or its queue is full.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        Ok(UnixStream { io: Watched::new(dial(path.as_ref(), SocketType::STREAM)?) })
    }

    /// Takes over a connected, non-blocking socket.
    pub fn from_fd(fd: OwnedFd) -> UnixStream {
        UnixStream { io: Watched::new(fd) }
    }

    /// Reads what is there; zero bytes are the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.try_read(buffer.len(), |fd| {
            rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(got, _)| got)
        })
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io.try_write(bytes.len(), |fd| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL))
    }

    /// Ready when a read has hope. One task may wait at a time.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_readable(cx)
    }

    /// Ready when a write has hope. One task may wait at a time.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_writable(cx)
    }

    /// Waits for [`poll_readable`](UnixStream::poll_readable).
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Waits for [`poll_writable`](UnixStream::poll_writable).
    pub async fn writable(&self) {
        poll_fn(|cx| self.poll_writable(cx)).await;
    }

    /// Sends the end of our stream.
    ///
    /// # Errors
    /// When the connection is over already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.io, Shutdown::Write)?)
    }
}

/// Listens for Unix streams.
#[derive(Debug)]
pub struct UnixListener {
    io: Watched,
}

impl UnixListener {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    /// When the path exists or cannot be made.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path.as_ref())?)?;
        rustix::net::listen(&fd, 128)?;
        let readable = super::super::readiness::Readiness::READABLE;
        Ok(UnixListener { io: Watched::with_watch(fd, Watch::new(readable)) })
    }

    /// The next connection.
    ///
    /// # Errors
    /// As accept(2); the caller decides whether to go on.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            poll_fn(|cx| self.io.poll_readable(cx)).await;
            match self.io.try_receive(|fd| accept_with(fd, FLAGS)) {
                Ok(fd) => return Ok(UnixStream::from_fd(fd)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Packets that keep their borders and may carry descriptors, as the node agent's protocol has
/// them.
#[derive(Debug)]
pub struct UnixSeqpacket {
    io: Watched,
}

impl UnixSeqpacket {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// When nobody listens there, or its queue is full.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixSeqpacket> {
        Ok(UnixSeqpacket { io: Watched::new(dial(path.as_ref(), SocketType::SEQPACKET)?) })
    }

    /// Takes over a connected, non-blocking socket.
    pub fn from_fd(fd: OwnedFd) -> UnixSeqpacket {
        UnixSeqpacket { io: Watched::new(fd) }
    }

    /// Receives one packet and the descriptors that came with it; zero bytes are the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when none is there, [`io::ErrorKind::InvalidData`] when the
    /// packet or its descriptors did not fit: they are lost then, and the descriptors closed.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PACKET_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = self.io.try_receive(|fd| {
            let mut buffers = [IoSliceMut::new(&mut *buffer)];
            rustix::net::recvmsg(fd, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok((received.bytes, descriptors))
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket is full.
    pub fn try_send(&self, packet: &[u8]) -> io::Result<usize> {
        self.io.try_send(|fd| rustix::net::send(fd, packet, SendFlags::NOSIGNAL))
    }

    /// Ready when a packet may be there. One task may wait at a time.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_readable(cx)
    }

    /// Ready when there may be room for a packet. One task may wait at a time.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_writable(cx)
    }

    /// Waits for [`poll_readable`](UnixSeqpacket::poll_readable).
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Waits for [`poll_writable`](UnixSeqpacket::poll_writable).
    pub async fn writable(&self) {
        poll_fn(|cx| self.poll_writable(cx)).await;
    }
}

/// A Unix connect is done at once, or it fails: `EAGAIN` means that the listener's queue is full.
fn dial(path: &Path, kind: SocketType) -> io::Result<OwnedFd> {
    let fd = socket_with(AddressFamily::UNIX, kind, FLAGS, None)?;
    match rustix::net::connect(&fd, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(fd),
        Err(Errno::AGAIN) => Err(io::ErrorKind::ConnectionRefused.into()),
        Err(errno) => Err(errno.into()),
    }
}

//! The agent's socket: whole packets, and descriptors beside them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::{sleep, timeout};

use super::message::PACKET_BYTES_MAX;

/// The most descriptors the kernel lets one packet have (SCM_MAX_FD): whatever was sent has room, so what is missing was
/// lost because we may not open more.
const DESCRIPTORS_MAX: usize = 253;

/// The agent waits as long for an answer; and what is short for longer is not short for a moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts when the kernel is short of memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Which namespace a descriptor is: what the kernel calls it while somebody holds it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    #[cfg(test)]
    pub(super) fn new(inode: u64) -> Self {
        Self { device: 4, inode }
    }

    fn of(descriptor: &OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(descriptor)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// A packet as it arrived. `N` holds a namespace open.
#[derive(Debug)]
pub(super) struct Packet<N> {
    /// The message.
    pub(super) bytes: Vec<u8>,
    /// What came beside it, and which namespace each is.
    pub(super) namespaces: Vec<(NamespaceId, N)>,
    /// Descriptors were lost, because this process may not open any more.
    pub(super) lost_descriptors: bool,
}

/// What the agent says is a network namespace, held open.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(Arc::new(descriptor))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A connection to the agent.
pub(super) struct Socket {
    /// For the kernel it is a socket of packets; what is asked of it is the same for both kinds.
    socket: UnixDatagram,
}

impl Socket {
    /// Connects to where the agent listens. Never waits: an agent whose queue is full is busy.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let address = SocketAddrUnix::new(path)?;
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
        Ok(Self { socket: UnixDatagram::from_std(socket.into())? })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// When the agent has left, or does not read for too long.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        let send = || {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(rustix::net::send(&self.socket, packet, flags)?)
        };
        let sending = async {
            loop {
                match self.socket.async_io(Interest::WRITABLE, send).await {
                    Err(error) if is_transient(&error) => sleep(SHORTAGE_PAUSE).await,
                    outcome => return outcome.map(drop),
                }
            }
        };
        timeout(PATIENCE, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits for a packet; `None` is the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection is broken, or memory is short for long.
    pub(super) async fn receive(&self) -> io::Result<Option<Packet<Namespace>>> {
        let mut shortages = PATIENCE.as_millis() / SHORTAGE_PAUSE.as_millis();
        loop {
            let receive = || receive(self.socket.as_fd());
            match self.socket.async_io(Interest::READABLE, receive).await {
                Err(error) if is_transient(&error) && shortages > 0 => {
                    shortages -= 1;
                    sleep(SHORTAGE_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Whether the same may work in a moment.
fn is_transient(error: &io::Error) -> bool {
    let transient = [Errno::INTR, Errno::NOBUFS, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    transient.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Packet<Namespace>>> {
    // One byte more than there may be, so that a packet that is too long shows.
    let mut bytes = vec![0; PACKET_BYTES_MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut pieces = [IoSliceMut::new(&mut bytes)];
    let received = rustix::net::recvmsg(socket, &mut pieces, &mut ancillary, flags)?;
    let mut namespaces = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                namespaces.push((NamespaceId::of(&descriptor)?, Namespace::new(descriptor)));
            }
        }
    }
    if received.bytes == 0 && namespaces.is_empty() {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    let lost_descriptors = received.flags.contains(ReturnFlags::CTRUNC);
    Ok(Some(Packet { bytes, namespaces, lost_descriptors }))
}

//! SEQPACKET sockets: one message per packet, and at most one descriptor with it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Bytes of a packet, in both directions: what both sides of the protocol read at most.
pub(crate) const PACKET_BYTES_MAX: usize = 1024;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Listens at a path, until it is dropped; then the path is gone, too.
pub(crate) struct PacketListener {
    socket: UnixListener,
    path: PathBuf,
}

/// One connection. The runtime only watches it: that what it calls a stream keeps packets apart is ours to know.
pub struct PacketSocket {
    socket: UnixStream,
}

impl PacketListener {
    /// Listens at `path`; what an earlier process left there is replaced.
    ///
    /// # Errors
    /// When the path cannot be bound.
    pub(crate) fn bind(path: &Path) -> io::Result<PacketListener> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = new_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let socket = UnixListener::from_std(socket.into())?;
        Ok(PacketListener { socket, path: path.to_owned() })
    }

    /// The next connection.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) async fn accept(&self) -> io::Result<PacketSocket> {
        let (socket, _) = self.socket.accept().await?;
        Ok(PacketSocket { socket })
    }
}

impl Drop for PacketListener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl PacketSocket {
    /// Connects to a listener, as a node proxy does.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<PacketSocket> {
        let socket = new_socket()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(PacketSocket { socket: UnixStream::from_std(socket.into())? })
    }

    /// Sends one packet, with or without a descriptor.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
            if !descriptors.is_empty() {
                let pushed = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
                assert!(pushed, "the space is for one descriptor");
            }
            let flags = SendFlags::NOSIGNAL;
            Ok(rustix::net::sendmsg(&self.socket, &[IoSlice::new(packet)], &mut ancillary, flags)?)
        };
        self.socket.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// The next packet and the descriptors that came with it; `None` is the end.
    ///
    /// # Errors
    /// When the packet does not fit, or the system refuses.
    pub async fn receive(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        self.socket.async_io(Interest::READABLE, || receive_now(&self.socket)).await
    }
}

fn receive_now(socket: &UnixStream) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut packet)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptors = ancillary
        .drain()
        .flat_map(|message| match message {
            rustix::net::RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        let message = format!("a packet of more than {PACKET_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    packet.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((packet, descriptors)))
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?)
}

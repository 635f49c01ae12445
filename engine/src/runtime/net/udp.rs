//! UDP sockets, for DNS.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::super::netns::NetNamespace;
use super::super::socket;
use super::super::watched::Watched;

/// How to make a UDP socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpOptions {
    /// `SO_MARK` of every packet.
    pub mark: Option<u32>,
    /// Share the port. For servers only: on a client's ephemeral port answers may cross.
    pub reuse_port: bool,
}

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    io: Watched,
}

impl UdpSocket {
    /// Makes a socket bound to `address` inside `namespace`.
    ///
    /// # Errors
    /// When the address is taken or the options are refused.
    pub fn bind(
        namespace: &NetNamespace,
        address: SocketAddr,
        options: &UdpOptions,
    ) -> io::Result<UdpSocket> {
        let fd = socket::udp(namespace, address.ip())?;
        if options.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, false)?;
        }
        socket::set_mark(&fd, options.mark)?;
        rustix::net::bind(&fd, &address)?;
        Ok(UdpSocket { io: Watched::new(fd) })
    }

    /// Talks to `peer` only: others' datagrams are not received, and its refusals are errors.
    ///
    /// # Errors
    /// When there is no route.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        Ok(rustix::net::connect(&self.io, &peer)?)
    }

    /// Receives one datagram and its sender; what does not fit the buffer is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when none is there.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (got, sender) = self.io.try_receive(|fd| {
            let received = rustix::net::recvfrom(fd, &mut *buffer, RecvFlags::empty());
            received.map(|(got, _, sender)| (got, sender))
        })?;
        Ok((got, socket::internet(sender.ok_or(io::ErrorKind::InvalidData)?)?))
    }

    /// Sends one datagram to `peer`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket is full.
    pub fn try_send_to(&self, datagram: &[u8], peer: SocketAddr) -> io::Result<usize> {
        self.io.try_send(|fd| rustix::net::sendto(fd, datagram, SendFlags::NOSIGNAL, &peer))
    }

    /// Sends one datagram to the peer of [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket is full.
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.io.try_send(|fd| rustix::net::send(fd, datagram, SendFlags::NOSIGNAL))
    }

    /// Ready when a datagram may be there. One task may wait at a time.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_readable(cx)
    }

    /// Ready when there may be room for a datagram. One task may wait at a time.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_writable(cx)
    }

    /// Waits for [`poll_readable`](UdpSocket::poll_readable).
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Waits for [`poll_writable`](UdpSocket::poll_writable).
    pub async fn writable(&self) {
        poll_fn(|cx| self.poll_writable(cx)).await;
    }

    /// Our address.
    ///
    /// # Errors
    /// When the socket cannot be asked.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_address(&self.io)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

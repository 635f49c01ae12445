//! TCP listeners.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::netns::NetNamespace;
#[cfg(feature = "sim")]
use super::super::sim::sockets::SimListener;
use super::super::socket;
use super::accept::KernelListener;
use super::{PeerPatience, TcpStream};

/// How to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// `SO_MARK` of every packet of the accepted connections.
    pub mark: Option<u32>,
    /// Shards and successive processes share the port.
    pub reuse_port: bool,
    /// Accept connections to addresses that are not ours; see [`TcpListener::is_transparent`].
    pub transparent: bool,
    /// Connections that may wait in the kernel (bounded by `net.core.somaxconn`).
    pub backlog: u32,
    /// When peers of the accepted connections are given up.
    pub patience: PeerPatience,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            mark: None,
            reuse_port: true,
            transparent: false,
            backlog: 1024,
            patience: PeerPatience::default(),
        }
    }
}

/// Whether a socket of another process listens on `address` inside `namespace`; tells whether it takes
/// connections to addresses that are not the host's.
///
/// # Errors
/// When it is something else; the text says what.
pub fn check_listener(
    socket: &OwnedFd,
    namespace: &NetNamespace,
    address: SocketAddr,
) -> io::Result<bool> {
    let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if !rustix::net::sockopt::socket_acceptconn(socket)? {
        return wrong("the socket does not listen".to_owned());
    }
    let found = socket::local_address(socket)?;
    if found != address {
        return wrong(format!("the socket listens on {found}, not on {address}"));
    }
    if NetNamespace::cookie_of(socket)? != namespace.cookie() {
        return wrong("the socket is in another network namespace".to_owned());
    }
    Ok(socket::is_transparent(socket))
}

/// A TCP listener. Accepted connections have `TCP_NODELAY` and keepalive set.
#[derive(Debug)]
pub struct TcpListener {
    io: Listener,
}

#[derive(Debug)]
enum Listener {
    Kernel(KernelListener),
    #[cfg(feature = "sim")]
    Simulated(SimListener),
}

impl TcpListener {
    /// The wildcard address to listen on: dual-stack (`[::]`, IPv4 included), or IPv4 only.
    pub fn wildcard(ipv6: bool, port: u16) -> SocketAddr {
        let any: IpAddr =
            if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        SocketAddr::new(any, port)
    }

    /// Listens on `address` inside `namespace`. It works outside of a runtime too.
    ///
    /// # Errors
    /// When the address is taken or the options are refused; not when `transparent` is, which
    /// [`is_transparent`](TcpListener::is_transparent) tells.
    pub fn bind(
        namespace: &NetNamespace,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<TcpListener> {
        #[cfg(feature = "sim")]
        if let Some(namespace) = namespace.as_simulated() {
            let io = Listener::Simulated(SimListener::bind(namespace, address, options)?);
            return Ok(TcpListener { io });
        }
        let io = Listener::Kernel(KernelListener::bind(namespace, address, options)?);
        Ok(TcpListener { io })
    }

    /// Takes over a listening, non-blocking socket, as another process hands it over.
    pub fn from_fd(fd: OwnedFd) -> TcpListener {
        TcpListener { io: Listener::Kernel(KernelListener::from_fd(fd)) }
    }

    /// The next connection and where it comes from.
    ///
    /// # Errors
    /// Only when the listener is broken: shortages and vanished peers are dealt with here.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.io {
            Listener::Kernel(io) => io.accept().await,
            #[cfg(feature = "sim")]
            Listener::Simulated(io) => {
                io.accept().await.map(|(stream, peer)| (TcpStream::simulated(stream), peer))
            }
        }
    }

    /// Counts in `counter`, too, the connections that are reset because only the descriptor reserve is left.
    pub fn count_refusals_in(&self, counter: Arc<AtomicU64>) {
        match &self.io {
            Listener::Kernel(io) => io.count_refusals_in(counter),
            // No descriptors, no reserve.
            #[cfg(feature = "sim")]
            Listener::Simulated(_) => drop(counter),
        }
    }

    /// A connection that waits already, if any. It drains the queue of a listener about to close.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when none waits; shortages and broken listeners too.
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.io {
            Listener::Kernel(io) => io.try_accept(),
            #[cfg(feature = "sim")]
            Listener::Simulated(io) => {
                io.try_accept().map(|(stream, peer)| (TcpStream::simulated(stream), peer))
            }
        }
    }

    /// Stops taking connections out of the kernel's queue, and returns those that were taken and
    /// not given out, with those of which only this listener was told. What comes from now on is for whoever
    /// else listens on this socket.
    pub async fn stop(&self) -> Vec<(TcpStream, SocketAddr)> {
        match &self.io {
            Listener::Kernel(io) => io.stop().await,
            // Nothing is taken before it is asked for.
            #[cfg(feature = "sim")]
            Listener::Simulated(_) => Vec::new(),
        }
    }

    /// Closes it, and returns what came by then. To drop it is not enough where others listen on the same port: a request
    /// of ours that is still with the kernel would keep it open for a while, and the kernel would go on giving it
    /// connections, which nobody serves.
    pub async fn close(self: Rc<Self>) -> Vec<(TcpStream, SocketAddr)> {
        let mut came = self.stop().await;
        came.extend(std::iter::from_fn(|| self.try_accept().ok()));
        came
    }

    /// The address listened on.
    ///
    /// # Errors
    /// When the socket cannot be asked.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.io {
            Listener::Kernel(io) => io.local_addr(),
            #[cfg(feature = "sim")]
            Listener::Simulated(io) => Ok(io.local_addr()),
        }
    }

    /// Whether connections to addresses that are not ours are accepted.
    pub fn is_transparent(&self) -> bool {
        match &self.io {
            Listener::Kernel(io) => io.is_transparent(),
            #[cfg(feature = "sim")]
            Listener::Simulated(io) => io.is_transparent(),
        }
    }

    /// Another descriptor of the same socket, for another process: what waits in its queue is for
    /// whoever accepts first.
    ///
    /// # Errors
    /// When descriptors are short; in a simulation, where there is none.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        match &self.io {
            Listener::Kernel(io) => io.try_clone_fd(),
            #[cfg(feature = "sim")]
            Listener::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Gives up the socket, to be handed to another process. Connections that were accepted and not
    /// given out are closed: [`stop`](TcpListener::stop) first.
    ///
    /// # Errors
    /// In a simulation, where there is no descriptor.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.io {
            Listener::Kernel(io) => Ok(io.into_fd()),
            #[cfg(feature = "sim")]
            Listener::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

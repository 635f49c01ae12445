//! One network namespace, and sockets opened in it from outside.
//!
//! A socket belongs for ever to the namespace of the thread that made it. So a test in the root
//! namespace can hold a client in one pod and a server in another, and need no process in either.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

/// A named network namespace, held open.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    address: Option<Ipv4Addr>,
    file: File,
}

impl Namespace {
    pub(super) fn open(name: &str, address: Option<Ipv4Addr>) -> Result<Namespace> {
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Namespace { name: name.to_owned(), path, address, file })
    }

    /// The name `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address of the machine.
    ///
    /// # Panics
    /// For the wire, which has none of its own.
    pub fn address(&self) -> IpAddr {
        self.address.expect("this machine has an address").into()
    }

    /// Runs `action` on a fresh thread inside the namespace.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("cannot enter {}", self.name))?;
                Ok(action())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace for good.
    pub fn stay(&self) -> Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter {}", self.name))
    }

    /// Sets a kernel parameter, such as `net/ipv4/ip_forward`, for this namespace.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name);
        self.enter(|| std::fs::write(&path, value))?
            .with_context(|| format!("cannot set {} to {value}", path.display()))
    }

    /// Listens on `port` of every address of the namespace.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        self.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket.listen(4096)?;
            Ok::<_, io::Error>(TcpListener::from(socket))
        })?
        .with_context(|| format!("cannot listen on port {port} in {}", self.name))
    }

    /// Connects from inside the namespace.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_timeout(to, Duration::from_secs(10))
    }

    /// Connects from inside the namespace, waiting at most `patience`.
    pub fn connect_timeout(&self, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&to, patience)).map_err(io::Error::other)?
    }

    /// A socket made inside the namespace, for what the other calls do not cover.
    pub fn socket(&self) -> io::Result<Socket> {
        self.enter(|| Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)))
            .map_err(io::Error::other)?
    }
}

//! Network namespaces: where a workload's sockets are made.
//!
//! A socket belongs for ever to the namespace its thread was in when it called `socket(2)`. So a
//! thread enters the workload's namespace, makes the socket, and comes back; it never asks a ring
//! to make one, because the kernel's worker threads stay in the namespace they were born in. Each
//! socket is then checked against the namespace's cookie, which the kernel never reuses.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::cookie;
#[cfg(feature = "sim")]
use super::sim::namespace::SimNamespace;

/// A network namespace, held open.
#[derive(Clone)]
pub struct NetNamespace {
    inner: Arc<Inner>,
}

enum Inner {
    Kernel {
        fd: OwnedFd,
        cookie: u64,
    },
    #[cfg(feature = "sim")]
    Simulated(SimNamespace),
}

thread_local! {
    /// The namespace this thread lives in and returns to.
    static HOME: RefCell<Option<NetNamespace>> = const { RefCell::new(None) };
}

impl NetNamespace {
    /// The namespace the calling thread lives in: where it was when it first asked.
    ///
    /// # Errors
    /// When `/proc` is not mounted or descriptors are short.
    pub fn current() -> io::Result<NetNamespace> {
        if let Some(home) = HOME.with_borrow(Clone::clone) {
            return Ok(home);
        }
        let fd = OwnedFd::from(File::open("/proc/thread-self/ns/net")?);
        let cookie = cookie::namespace_cookie(&cookie::probe()?)?;
        let home = NetNamespace { inner: Arc::new(Inner::Kernel { fd, cookie }) };
        HOME.set(Some(home.clone()));
        Ok(home)
    }

    /// Opens the namespace behind a path such as `/run/netns/blue` or `/proc/4711/ns/net`.
    ///
    /// # Errors
    /// When the path cannot be opened, is no network namespace, or may not be entered.
    pub fn open(path: impl AsRef<Path>) -> io::Result<NetNamespace> {
        NetNamespace::from_fd(File::open(path)?.into())
    }

    /// Takes a descriptor of a network namespace, such as a node agent sends.
    ///
    /// # Errors
    /// When it is no network namespace, or may not be entered.
    pub fn from_fd(fd: OwnedFd) -> io::Result<NetNamespace> {
        let probe = within(fd.as_fd(), cookie::probe)??;
        let cookie = cookie::namespace_cookie(&probe)?;
        Ok(NetNamespace { inner: Arc::new(Inner::Kernel { fd, cookie }) })
    }

    /// The kernel's number for this namespace; never reused while the host is up.
    pub fn cookie(&self) -> u64 {
        match &*self.inner {
            Inner::Kernel { cookie, .. } => *cookie,
            #[cfg(feature = "sim")]
            Inner::Simulated(SimNamespace { world, index }) => world << 32 | *index as u64,
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn simulated(namespace: SimNamespace) -> NetNamespace {
        NetNamespace { inner: Arc::new(Inner::Simulated(namespace)) }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn as_simulated(&self) -> Option<SimNamespace> {
        match &*self.inner {
            Inner::Kernel { .. } => None,
            Inner::Simulated(namespace) => Some(*namespace),
        }
    }

    /// The number of the namespace a socket is in, as the kernel tells it.
    ///
    /// # Errors
    /// When it is no socket.
    pub fn cookie_of(socket: impl AsFd) -> io::Result<u64> {
        cookie::namespace_cookie(socket)
    }

    /// Runs `work` with the thread inside this namespace. `work` must not await or make threads.
    ///
    /// # Errors
    /// When the namespace may not be entered. Failing to come back aborts the process: a thread in
    /// a foreign namespace would carry one workload's bytes as another's.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        if NetNamespace::current()?.cookie() == self.cookie() {
            return Ok(work());
        }
        within(self.as_fd(), work)
    }
}

fn within<T>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
    let home = NetNamespace::current()?;
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    let _back = Return { home };
    Ok(work())
}

/// Brings the thread home, also when the work panics.
struct Return {
    home: NetNamespace,
}

impl Drop for Return {
    fn drop(&mut self) {
        if let Err(errno) =
            move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network))
        {
            eprintln!("a thread cannot return to its network namespace ({errno}): stopping");
            std::process::abort();
        }
    }
}

impl AsFd for NetNamespace {
    /// # Panics
    /// For a simulated namespace, which has no descriptor.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &*self.inner {
            Inner::Kernel { fd, .. } => fd.as_fd(),
            #[cfg(feature = "sim")]
            Inner::Simulated(_) => panic!("a simulated namespace has no descriptor"),
        }
    }
}

impl PartialEq for NetNamespace {
    fn eq(&self, other: &NetNamespace) -> bool {
        self.cookie() == other.cookie()
    }
}

impl Eq for NetNamespace {}

impl fmt::Debug for NetNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetNamespace({})", self.cookie())
    }
}

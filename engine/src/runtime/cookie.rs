//! The cookie of a network namespace, as the sockets in it tell it.
#![allow(unsafe_code)]
// JUSTIFICATION: SO_NETNS_COOKIE and SIOCGSKNS have no safe wrapper in rustix or socket2; each is one call on an integer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// A socket that is good for asking where it is: it needs no protocol and no address.
pub(crate) fn probe() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// What tells one namespace from another: its cookie, or before Linux 5.14 its inode.
pub(crate) fn namespace_cookie(fd: impl AsFd) -> io::Result<u64> {
    let fd = fd.as_fd();
    match netns_cookie_option(fd) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => namespace_inode(fd),
        cookie => cookie,
    }
}

fn netns_cookie_option(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `fd` is open for the call; the value pointer is valid for writes of `length` bytes,
    // the length pointer for reads and writes of a `socklen_t`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

fn namespace_inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    /// Opens the namespace of a socket (`linux/sockios.h`, Linux 4.10).
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    // SAFETY: `fd` is open for the call, and this request takes no argument.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCGSKNS) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let namespace = unsafe { OwnedFd::from_raw_fd(result) };
    Ok(rustix::fs::fstat(&namespace)?.st_ino)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_older_kernel_tells_namespaces_apart_by_inode() {
        let here = std::fs::metadata("/proc/thread-self/ns/net").expect("proc is mounted").ino();
        let probe = probe().expect("a socket");
        assert_eq!(namespace_inode(probe.as_fd()).expect("SIOCGSKNS"), here);
    }
}

//! Making sockets: in the right namespace, with the right options, checked.
//!
//! Every socket of the data plane comes from [`create`].
#![allow(unsafe_code)]
// JUSTIFICATION: IP_BIND_ADDRESS_NO_PORT and TCP_RTO_MAX_MS have no safe wrapper in rustix or socket2; each is one
// call on an integer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SocketAddrAny, SocketFlags, SocketType, ipproto, socket_with, sockopt,
};
use socket2::SockRef;

use super::cookie::namespace_cookie;
use super::local;
use super::net::{Keepalive, PeerPatience};
use super::netns::NetNamespace;

/// The longest pause before what was sent is sent again, in milliseconds (`linux/tcp.h`, Linux 6.15).
const TCP_RTO_MAX_MS: libc::c_int = 44;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Makes a socket inside `namespace`.
///
/// # Errors
/// Also when the kernel says that the socket is in another namespace: it is closed and counted.
pub(crate) fn create(
    namespace: &NetNamespace,
    family: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
) -> io::Result<OwnedFd> {
    #[cfg(feature = "sim")]
    if namespace.as_simulated().is_some() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let fd = namespace.within(|| socket_with(family, kind, FLAGS, protocol))??;
    verify(&fd, namespace)?;
    Ok(fd)
}

/// Makes a TCP socket for `address` inside `namespace`.
pub(crate) fn tcp(namespace: &NetNamespace, address: IpAddr) -> io::Result<OwnedFd> {
    create(namespace, family(address), SocketType::STREAM, Some(ipproto::TCP))
}

/// Makes a UDP socket for `address` inside `namespace`.
pub(crate) fn udp(namespace: &NetNamespace, address: IpAddr) -> io::Result<OwnedFd> {
    create(namespace, family(address), SocketType::DGRAM, Some(ipproto::UDP))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn verify(fd: &OwnedFd, namespace: &NetNamespace) -> io::Result<()> {
    let found = namespace_cookie(fd)?;
    if found == namespace.cookie() {
        return Ok(());
    }
    if let Some(local) = local::current() {
        local.count(|counters| counters.wrong_namespace += 1);
    }
    let wanted = namespace.cookie();
    Err(io::Error::other(format!("a socket for namespace {wanted} was made in namespace {found}")))
}

/// Lets the kernel choose the port at `connect`, when it knows the destination too, so that one
/// source address has 28,000 ports per destination and not in all.
fn set_bind_address_no_port(fd: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `fd` is open for the call; the value pointer is valid for reads of one `c_int`.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn set_mark(fd: &OwnedFd, mark: Option<u32>) -> io::Result<()> {
    mark.map_or(Ok(()), |mark| SockRef::from(fd).set_mark(mark))
}

/// When the peer of a connection is given up; on a listener it is inherited by every accepted connection.
pub(crate) fn set_patience(fd: &OwnedFd, patience: &PeerPatience) -> io::Result<()> {
    if let Some(Keepalive { idle, interval, probes }) = patience.keepalive {
        sockopt::set_socket_keepalive(fd, true)?;
        sockopt::set_tcp_keepidle(fd, idle)?;
        sockopt::set_tcp_keepintvl(fd, interval)?;
        sockopt::set_tcp_keepcnt(fd, probes)?;
    }
    if let Some(timeout) = patience.user_timeout {
        sockopt::set_tcp_user_timeout(fd, milliseconds(timeout))?;
    }
    match patience.resend_pause_max.map_or(Ok(()), |pause| set_resend_pause_max(fd, pause)) {
        // A kernel before 6.15.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        set => set,
    }
}

fn set_resend_pause_max(fd: &OwnedFd, pause: Duration) -> io::Result<()> {
    let milliseconds = milliseconds(pause);
    // SAFETY: `fd` is open for the call; the value pointer is valid for reads of one `c_int`, which is as large as a `u32`.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_TCP,
            TCP_RTO_MAX_MS,
            (&raw const milliseconds).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Lets a socket of this family use addresses that are not the host's own.
pub(crate) fn set_transparent(fd: &OwnedFd, family_of: IpAddr) -> io::Result<()> {
    let socket = SockRef::from(fd);
    match family_of {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// Whether [`set_transparent`] has been done to a socket.
pub(crate) fn is_transparent(fd: &OwnedFd) -> bool {
    let socket = SockRef::from(fd);
    match sockopt::socket_domain(fd) {
        Ok(AddressFamily::INET) => socket.ip_transparent_v4(),
        _ => socket.ip_transparent_v6(),
    }
    .unwrap_or(false)
}

/// Binds to a source address that need not be the host's own; the port is chosen at connect.
pub(crate) fn bind_foreign(fd: &OwnedFd, source: IpAddr) -> io::Result<()> {
    set_transparent(fd, source)?;
    for _ in 0..FOREIGN_PORT_TRIES {
        let span = u64::from(FOREIGN_PORTS.end - FOREIGN_PORTS.start);
        let port = FOREIGN_PORTS.start + (super::random() % span) as u16;
        match rustix::net::bind(fd, &SocketAddr::new(source, port)) {
            Err(Errno::ADDRINUSE) => {}
            bound => return Ok(bound?),
        }
    }
    set_bind_address_no_port(fd)?;
    Ok(rustix::net::bind(fd, &SocketAddr::new(source, 0))?)
}

/// Ports of a foreign source: below those the client's own kernel gives out. A port the client itself uses
/// towards the same application would make two connections one to connection tracking.
const FOREIGN_PORTS: std::ops::Range<u16> = 1024..10_000;
/// Ports that are tried before the kernel is left to choose.
const FOREIGN_PORT_TRIES: usize = 16;

/// Resets the connection on close, instead of ending it.
pub(crate) fn set_abort_on_close(fd: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(fd, Some(Duration::ZERO))?)
}

/// Where a redirected connection wanted to go: IPv4, IPv6, or nowhere else than here.
pub(crate) fn original_destination(fd: impl AsFd + Copy) -> io::Result<SocketAddr> {
    if let Ok(address) = sockopt::ip_original_dst(fd) {
        return Ok(address.into());
    }
    if let Ok(address) = sockopt::ipv6_original_dst(fd) {
        return Ok(canonical(address.into()));
    }
    local_address(fd)
}

pub(crate) fn local_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    internet(rustix::net::getsockname(fd)?)
}

pub(crate) fn peer_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    let peer = rustix::net::getpeername(fd)?;
    internet(peer.ok_or(io::ErrorKind::NotConnected)?)
}

pub(crate) fn internet(address: SocketAddrAny) -> io::Result<SocketAddr> {
    let address = SocketAddr::try_from(address);
    address.map(canonical).map_err(|_| io::Error::other("not an internet address"))
}

/// An IPv4 address in IPv6 clothes, as dual-stack sockets show it, becomes plain IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RESEND_PAUSE_MAX;

    #[test]
    fn what_was_sent_is_sent_again_before_long() {
        let fd = socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None).expect("one");
        let system = resend_pause_max(&fd);
        set_patience(&fd, &PeerPatience { resend_pause_max: None, ..PeerPatience::default() })
            .expect("set");
        assert_eq!(resend_pause_max(&fd), system);
        // Where the kernel cannot, that stops nobody.
        set_patience(&fd, &PeerPatience::default()).expect("set");
        assert_eq!(resend_pause_max(&fd), system.map(|_| RESEND_PAUSE_MAX));
    }

    /// None where the kernel does not say.
    fn resend_pause_max(fd: &OwnedFd) -> Option<Duration> {
        let mut milliseconds: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `fd` is open for the call; the value pointer is valid for writes of `length` bytes, the length pointer
        // for reads and writes of a `socklen_t`; both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_TCP,
                TCP_RTO_MAX_MS,
                (&raw mut milliseconds).cast(),
                &raw mut length,
            )
        };
        let known = (result == 0).then_some(milliseconds)?;
        Some(Duration::from_millis(u64::try_from(known).expect("a pause is not negative")))
    }

    #[test]
    fn mapped_addresses_become_plain() {
        //   as the kernel says it          what everybody else sees
        for (shown, plain) in [
            ("[::ffff:10.1.0.10]:8080", "10.1.0.10:8080"),
            ("[::1]:80", "[::1]:80"),
            ("10.1.0.10:8080", "10.1.0.10:8080"),
            ("[::10.1.0.10]:8080", "[::10.1.0.10]:8080"),
        ] {
            let shown: SocketAddr = shown.parse().expect("an address");
            assert_eq!(canonical(shown), plain.parse().expect("an address"));
        }
    }
}

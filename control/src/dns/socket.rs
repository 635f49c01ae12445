//! Sockets of the DNS proxy: made inside the workload's namespace, marked, and checked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use ringway_engine::runtime::NetNamespace;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockRef;

/// Connections that wait to be accepted. The kernel clamps it to `somaxconn`.
const BACKLOG: i32 = 128;

/// Where one workload's queries arrive.
pub(super) struct Listening {
    pub(super) udp: Vec<std::net::UdpSocket>,
    pub(super) tcp: Vec<std::net::TcpListener>,
}

/// Listens on the loopback addresses of `namespace`: IPv4's, and IPv6's where there is one.
///
/// Where the port is shared several processes may, so that a successor can begin before its predecessor ends.
pub(super) fn listen(
    namespace: &NetNamespace,
    port: u16,
    is_shared: bool,
    mark: Option<u32>,
    ipv6: bool,
) -> io::Result<Listening> {
    let ipv6 = ipv6 && namespace.within(has_ipv6_loopback)?;
    let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
    addresses.extend(ipv6.then_some(IpAddr::from(Ipv6Addr::LOCALHOST)));
    let mut listening = Listening { udp: Vec::new(), tcp: Vec::new() };
    for address in addresses {
        let address = SocketAddr::new(address, port);
        let udp = create(namespace, address.ip(), SocketType::DGRAM, mark)?;
        bind(&udp, address, is_shared)?;
        listening.udp.push(udp.into());
        let tcp = create(namespace, address.ip(), SocketType::STREAM, mark)?;
        sockopt::set_socket_reuseaddr(&tcp, true)?;
        bind(&tcp, address, is_shared)?;
        rustix::net::listen(&tcp, BACKLOG)?;
        listening.tcp.push(tcp.into());
    }
    Ok(listening)
}

/// A socket for one query to `server`, and the answer to it. Nobody else may have its port: the kernel chooses one at random
/// and gives it to this socket alone.
pub(super) fn connected_udp(
    namespace: &NetNamespace,
    server: SocketAddr,
    mark: Option<u32>,
) -> io::Result<std::net::UdpSocket> {
    let socket = create(namespace, server.ip(), SocketType::DGRAM, mark)?;
    rustix::net::connect(&socket, &server)?;
    Ok(socket.into())
}

/// A socket for a connection to `server`, not connected yet.
pub(super) fn tcp(
    namespace: &NetNamespace,
    server: SocketAddr,
    mark: Option<u32>,
) -> io::Result<std::net::TcpStream> {
    let socket = create(namespace, server.ip(), SocketType::STREAM, mark)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket.into())
}

fn bind(socket: &OwnedFd, address: SocketAddr, is_shared: bool) -> io::Result<()> {
    sockopt::set_socket_reuseport(socket, is_shared)?;
    rustix::net::bind(socket, &address).map_err(|error| {
        io::Error::new(
            io::Error::from(error).kind(),
            format!("DNS cannot listen on {address}: {error}"),
        )
    })
}

fn create(
    namespace: &NetNamespace,
    address: IpAddr,
    kind: SocketType,
    mark: Option<u32>,
) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = namespace.within(|| rustix::net::socket_with(family, kind, flags, None))??;
    let found = NetNamespace::cookie_of(&socket)?;
    if found != namespace.cookie() {
        let wanted = namespace.cookie();
        return Err(io::Error::other(format!(
            "a socket for namespace {wanted} was made in {found}"
        )));
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    Ok(socket)
}

/// Whether the loopback of the calling thread's namespace has an IPv6 address: procfs shows each thread its own.
fn has_ipv6_loopback() -> bool {
    match std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6") {
        Ok(disabled) => disabled.trim() != "1",
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!(target: "dns", %error, "whether there is IPv6 cannot be told: it is taken for granted");
            true
        }
    }
}

//! The same plain TCP relay on other runtimes, for the shoot-out `ringway-bench runtimes`.
//!
//! `runtime-relay RUNTIME LISTEN UPSTREAM CORE[,CORE...]`: accepts, dials the upstream, copies both
//! ways and passes each end on. One thread, runtime and listener for each core; `SO_REUSEPORT`
//! spreads the connections. Each is written in its runtime's best way, as far as we know it.

mod glommio;
mod monoio;
mod tokio;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::FromRawFd;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str =
    "usage: runtime-relay tokio|tokio-256k|monoio|glommio LISTEN UPSTREAM CORE[,CORE...]";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [runtime, listen, upstream, cores] = &arguments[..] else { bail!("{USAGE}") };
    let listen: SocketAddr = listen.parse().context("LISTEN is an address with a port")?;
    let upstream: SocketAddr = upstream.parse().context("UPSTREAM is an address with a port")?;
    let relay: fn(TcpListener, SocketAddr, usize) -> Result<()> = match runtime.as_str() {
        "tokio" => |listener, upstream, _| tokio::relay(listener, upstream, 64 * 1024),
        "tokio-256k" => |listener, upstream, _| tokio::relay(listener, upstream, 256 * 1024),
        "monoio" => |listener, upstream, _| monoio::relay(listener, upstream),
        "glommio" => glommio::relay,
        other => bail!("{other:?} is no runtime; {USAGE}"),
    };
    let mut threads = Vec::new();
    for core in cores.split(',') {
        let id = core.parse().with_context(|| format!("{core:?} is no core; {USAGE}"))?;
        let listener = listener(listen)?;
        threads.push(thread::spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id });
            relay(listener, upstream, id)
        }));
    }
    for thread in threads {
        thread.join().expect("a relay does not panic")?;
    }
    Ok(())
}

/// A non-blocking listener that shares its port with those of the other threads.
fn listener(address: SocketAddr) -> Result<TcpListener> {
    let SocketAddr::V4(v4) = address else { bail!("{address} is no IPv4 address") };
    let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed; a descriptor or -1 comes back.
    let fd = unsafe { libc::socket(libc::AF_INET, flags, 0) };
    ensure!(fd >= 0, "no socket: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    let one: libc::c_int = 1;
    for option in [libc::SO_REUSEADDR, libc::SO_REUSEPORT] {
        // SAFETY: `one` lives through the call and its size is passed.
        let set = unsafe {
            let size = size_of_val(&one) as u32;
            libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const one).cast(), size)
        };
        ensure!(set == 0, "a socket option: {}", std::io::Error::last_os_error());
    }
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: `name` lives through the calls and its size is passed.
    let bound = unsafe {
        libc::bind(fd, (&raw const name).cast(), size_of_val(&name) as u32) | libc::listen(fd, 1024)
    };
    ensure!(bound == 0, "cannot listen on {address}: {}", std::io::Error::last_os_error());
    Ok(listener)
}

//! Ports for engines of tests that run beside each other in one network namespace. No outgoing connection is given one
//! of them, and no other test of the process.

use std::{
    net::TcpListener,
    ops::Range,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use ringway_engine::Ports;

/// Below, many services have their own ports.
const LOWEST: u16 = 10_000;

/// Four that nobody listens on.
pub(crate) fn free_ports() -> Ports {
    let [outbound, inbound_plaintext, hbone, socks5] = [(); 4].map(|()| free_port());
    Ports { outbound, inbound_plaintext, hbone, socks5 }
}

/// One that nobody listens on.
pub(crate) fn free_port() -> u16 {
    static RANGE: LazyLock<Range<u16>> = LazyLock::new(unused_range);
    // Where it begins differs between processes, which may run at the same time.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id() * 101));
    let count = u32::from(RANGE.end - RANGE.start);
    (0..count)
        .map(|_| RANGE.start + (NEXT.fetch_add(1, Ordering::Relaxed) % count) as u16)
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .expect("a free port")
}

/// The ports that the kernel gives to no outgoing connection by itself.
fn unused_range() -> Range<u16> {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let lowest_given = setting.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    match lowest_given {
        Some(end) if end > LOWEST + 1000 => LOWEST..end,
        // Nearly all are given out; then it is as with any other.
        _ => LOWEST..u16::MAX,
    }
}

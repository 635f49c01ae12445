//! Sockets on the runtime: TCP, UDP and Unix, all in one style.
//!
//! `try_*` makes one non-blocking call when there is hope and says `WouldBlock` when there is none;
//! `poll_*` and the awaits of the same name wait until there is hope again. Hope ends with
//! `WouldBlock`, and with a call that took or gave less than it could; the next edge brings it
//! back.

mod accept;
mod listener;
mod pair;
mod stream;
mod tcp;
mod udp;
mod unix;

use std::time::Duration;

pub(crate) use pair::Holds;
pub(crate) use stream::Stream;

pub use listener::{ListenOptions, TcpListener, check_listener};
pub use tcp::{ConnectOptions, DetachedStream, TcpStream};
pub use udp::{UdpOptions, UdpSocket};
pub use unix::{UnixListener, UnixSeqpacket, UnixStream};

/// When a silent peer is declared dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub probes: u32,
}

impl Keepalive {
    /// How long a peer may be silent at most before it is declared dead.
    pub fn patience(&self) -> Duration {
        self.idle + self.interval * self.probes
    }
}

/// What every TCP connection gets unless told otherwise, as in the other ambient data planes.
pub const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(180), interval: Duration::from_secs(180), probes: 9 };

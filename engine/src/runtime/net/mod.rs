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

use crate::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES_MAX, RESEND_PAUSE_MAX};

pub(crate) use pair::Holds;
pub(crate) use stream::Stream;

pub use listener::{ListenOptions, TcpListener, check_listener};
pub use tcp::{ConnectOptions, DetachedStream, TcpStream};
pub use udp::{UdpOptions, UdpSocket};
pub use unix::{UnixListener, UnixSeqpacket, UnixStream};

/// When the peer of a TCP connection is given up that does not answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPatience {
    /// While nothing is on its way to it; none: never.
    pub keepalive: Option<Keepalive>,
    /// How long what was sent may stay unacknowledged, or wait for a peer that takes nothing though it answers
    /// (`TCP_USER_TIMEOUT`); none: as often as the system sends it again, and for ever.
    pub user_timeout: Option<Duration>,
    /// The longest pause before what was sent is sent again (`TCP_RTO_MAX_MS`, Linux 6.15; between one second and two
    /// minutes). With how often the system does that it bounds how long a peer may be gone: unlike `user_timeout`
    /// it leaves those alone that answer, and take nothing. None, or an older kernel: 120 seconds.
    pub resend_pause_max: Option<Duration>,
}

impl Default for PeerPatience {
    /// That of [`limits`](crate::limits).
    fn default() -> Self {
        Self {
            keepalive: Some(Keepalive {
                idle: KEEPALIVE_IDLE,
                interval: KEEPALIVE_INTERVAL,
                probes: KEEPALIVE_PROBES_MAX,
            }),
            user_timeout: None,
            resend_pause_max: Some(RESEND_PAUSE_MAX),
        }
    }
}

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
        self.idle.saturating_add(self.interval.saturating_mul(self.probes))
    }
}

//! How the engine runs: what control tells it once, at its start.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use ringway_protocols::hbone::Settings;

use crate::{
    handover::Way,
    hook::ShardHook,
    limits::{Limits, STREAMS_PER_TUNNEL_MAX, TUNNEL_IDLE_TIMEOUT},
    role::Role,
    runtime::{PeerPatience, ReactorChoice, TcpListener},
};

/// Whether applications see their clients' own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginalSource {
    /// Where the kernel allows it.
    #[default]
    Auto,
    /// Always: a workload on whose host it does not work is not enrolled.
    Always,
    /// Never: they see this host's.
    Never,
}

/// The ports of the capture, inside each workload's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// What workloads open is redirected here.
    pub outbound: u16,
    /// Plaintext that comes in for workloads is redirected here.
    pub inbound_plaintext: u16,
    /// Peers' tunnels come in here.
    pub hbone: u16,
    /// Where SOCKS5 is spoken, on loopback, if it is at all.
    pub socks5: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { outbound: 15001, inbound_plaintext: 15006, hbone: 15008, socks5: 15080 }
    }
}

/// The mark on every packet of ours inside a workload's namespace, by which the redirect rules know
/// them: 0x539.
pub const PACKET_MARK: u32 = 1337;

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// One shard each. A core may be named more than once.
    pub cores: Vec<usize>,
    /// Whether each shard is pinned to its core.
    pub pin: bool,
    /// What the shards wait on.
    pub reactor: ReactorChoice,
    /// See [`Ports`].
    pub ports: Ports,
    /// Whether another process may listen on the same ports at the same time (`SO_REUSEPORT`), as a successor must.
    /// Without it, one shard listens for each workload.
    pub shared_ports: bool,
    /// See [`PACKET_MARK`]; none in dedicated mode.
    pub packet_mark: Option<u32>,
    /// The mark of dials to the workload's own application, when the redirect rules know them by
    /// another than `packet_mark`.
    pub application_mark: Option<u32>,
    /// See [`OriginalSource`].
    pub original_source: OriginalSource,
    /// Whether listeners take IPv6 too.
    pub ipv6: bool,
    /// See [`TunnelOptions`].
    pub tunnels: TunnelOptions,
    /// When the peer of a TCP connection is given up.
    pub patience: PeerPatience,
    /// Whether an answer to CONNECT says whose it is, and what peers say of themselves in theirs is told.
    pub response_baggage: bool,
    /// Whether workloads may also ask for connections by SOCKS5, on [`Ports::socks5`].
    pub socks5: bool,
    /// Whether control resolves the hostnames that [`Engine::next_wanted_hostname`](crate::Engine::next_wanted_hostname)
    /// tells: then a connection that needs one waits for it.
    pub resolver: bool,
    /// Whether the snapshot only tells what was asked for: then a connection waits for what
    /// [`Engine::next_wanted_name`](crate::Engine::next_wanted_name) tells that it lacks.
    pub on_demand: bool,
    /// The bounds an operator has set.
    pub limits: Limits,
    /// What each shard's thread does once its reactor is made, such as giving up what it does not need.
    pub on_start: Option<ShardHook>,
    /// Has the allocator give back what the calling thread has freed; called by a shard most of whose connections
    /// have gone.
    pub collect: Option<fn()>,
}

impl EngineConfig {
    /// By what ways connections of a pod of this role come.
    pub(crate) fn ways_of(&self, role: &Role) -> impl Iterator<Item = Way> + use<> {
        let (socks5, ways) = (self.socks5, role.ways());
        ways.iter().copied().filter(move |way| socks5 || *way != Way::Socks5)
    }

    /// Where every shard listens, in each workload's namespace.
    pub(crate) fn listen_address(&self, way: Way) -> SocketAddr {
        let port = match way {
            Way::Outbound => self.ports.outbound,
            Way::InboundPlaintext => self.ports.inbound_plaintext,
            Way::Hbone => self.ports.hbone,
            // Never for anybody but the workload itself.
            Way::Socks5 => return (Ipv4Addr::LOCALHOST, self.ports.socks5).into(),
        };
        TcpListener::wildcard(self.ipv6, port)
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cores: vec![0],
            pin: true,
            reactor: ReactorChoice::Auto,
            ports: Ports::default(),
            shared_ports: true,
            packet_mark: Some(PACKET_MARK),
            application_mark: None,
            original_source: OriginalSource::default(),
            ipv6: true,
            tunnels: TunnelOptions::default(),
            patience: PeerPatience::default(),
            response_baggage: true,
            socks5: false,
            resolver: false,
            on_demand: false,
            limits: Limits::default(),
            on_start: None,
            collect: None,
        }
    }
}

/// What tunnels ask of their peers, and how they are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelOptions {
    /// What a peer may send on a stream before the application takes it, in bytes, at most: a stream begins with less
    /// ([`Settings::first_window_bytes`]), and gets more where that is taken quickly.
    pub stream_window_bytes: u32,
    /// The same for all streams of a tunnel together. As long as it has room for `streams_max` of at least 65,535, an application
    /// that does not read stalls no other.
    pub connection_window_bytes: u32,
    /// The longest HTTP/2 frame we take, in bytes.
    pub frame_bytes_max: u32,
    /// Connections that share one tunnel. Envoy waypoints allow 100.
    pub streams_max: u16,
    /// How long a tunnel without streams is kept for the next connection.
    pub idle_timeout: Duration,
}

impl TunnelOptions {
    /// What a window may be: at least what a peer may assume before it has heard of ours (RFC 9113 §6.9.2).
    pub const WINDOW_BYTES: RangeInclusive<u32> = 65_535..=(1 << 31) - 1;
    /// What the longest frame may be (RFC 9113 §6.5.2).
    pub const FRAME_BYTES: RangeInclusive<u32> = 16_384..=(1 << 24) - 1;

    /// Whether all of it can be asked of a peer.
    ///
    /// # Errors
    /// What cannot, and what could.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let in_range = |what, value, range: &RangeInclusive<u32>| {
            let (least, most) = (*range.start(), *range.end());
            if range.contains(&value) {
                Ok(())
            } else {
                Err(OutOfRange { what, value, least, most })
            }
        };
        in_range("stream window", self.stream_window_bytes, &Self::WINDOW_BYTES)?;
        in_range("connection window", self.connection_window_bytes, &Self::WINDOW_BYTES)?;
        in_range("frame size", self.frame_bytes_max, &Self::FRAME_BYTES)?;
        in_range("number of streams of a tunnel", self.streams_max.into(), &(1..=65_535))
    }

    /// As HTTP/2 settings of the side that `defaults` are of.
    pub(crate) fn settings(&self, defaults: Settings) -> Settings {
        Settings {
            stream_window_bytes: self.stream_window_bytes,
            connection_window_bytes: self.connection_window_bytes,
            frame_bytes_max: self.frame_bytes_max,
            ..defaults
        }
    }
}

impl Default for TunnelOptions {
    fn default() -> Self {
        let settings = Settings::client();
        Self {
            stream_window_bytes: settings.stream_window_bytes,
            connection_window_bytes: settings.connection_window_bytes,
            frame_bytes_max: settings.frame_bytes_max,
            streams_max: STREAMS_PER_TUNNEL_MAX,
            idle_timeout: TUNNEL_IDLE_TIMEOUT,
        }
    }
}

/// A number that HTTP/2 has no room for, or that would leave nothing to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    what: &'static str,
    value: u32,
    least: u32,
    most: u32,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, least, most } = self;
        write!(f, "the {what} {value} is out of range: it must be between {least} and {most}")
    }
}

impl std::error::Error for OutOfRange {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_http2_has_no_room_for_is_refused() {
        let options = TunnelOptions::default;
        assert_eq!(options().check(), Ok(()));
        //  what                                                                    told
        let rows = [
            (TunnelOptions { stream_window_bytes: 65_534, ..options() }, "stream window 65534"),
            (
                TunnelOptions { connection_window_bytes: 1 << 31, ..options() },
                "connection window 2147483648",
            ),
            (TunnelOptions { frame_bytes_max: 1 << 24, ..options() }, "frame size 16777216"),
            (TunnelOptions { streams_max: 0, ..options() }, "number of streams of a tunnel 0"),
        ];
        for (options, told) in rows {
            let error = options.check().expect_err(told).to_string();
            assert!(error.starts_with(&format!("the {told} is out of range")), "{error}");
        }
    }
}

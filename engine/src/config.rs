//! How the engine runs: what control tells it once, at its start.

use std::net::SocketAddr;

use crate::{
    handover::Way,
    hook::ShardHook,
    limits::Limits,
    runtime::{ReactorChoice, TcpListener},
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
}

impl Default for Ports {
    fn default() -> Self {
        Self { outbound: 15001, inbound_plaintext: 15006, hbone: 15008 }
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
    /// See [`PACKET_MARK`]; none in dedicated mode.
    pub packet_mark: Option<u32>,
    /// The mark of dials to the workload's own application, when the redirect rules know them by
    /// another than `packet_mark`.
    pub application_mark: Option<u32>,
    /// See [`OriginalSource`].
    pub original_source: OriginalSource,
    /// Whether listeners take IPv6 too.
    pub ipv6: bool,
    /// The bounds an operator has set.
    pub limits: Limits,
    /// What each shard's thread does once its reactor is made, such as giving up what it does not need.
    pub on_start: Option<ShardHook>,
    /// Has the allocator give back what the calling thread has freed; called by a shard most of whose connections
    /// have gone.
    pub collect: Option<fn()>,
}

impl EngineConfig {
    /// Where every shard listens, in each workload's namespace.
    pub(crate) fn listen_address(&self, way: Way) -> SocketAddr {
        let port = match way {
            Way::Outbound => self.ports.outbound,
            Way::InboundPlaintext => self.ports.inbound_plaintext,
            Way::Hbone => self.ports.hbone,
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
            packet_mark: Some(PACKET_MARK),
            application_mark: None,
            original_source: OriginalSource::default(),
            ipv6: true,
            limits: Limits::default(),
            on_start: None,
            collect: None,
        }
    }
}

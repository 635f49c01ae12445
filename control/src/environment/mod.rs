//! What a process in ztunnel's place is told: by its environment, and by the mesh's file.
//!
//! ```text
//!   ./etc/istio/config/mesh  <  PROXY_CONFIG  <  variables
//!            └──────── Environment::read ────────▶ ZtunnelConfig: a typed field for each, and where each came from
//! ```
//!
//! Names, defaults and forms are ztunnel's. What differs: every mistake is told at once, and an empty variable is one
//! that is not set, except `XDS_ADDRESS`, where it means that there is no control plane.
//!
//! **Invariant:** a variable that is not in the [`table`] is not read, so `docs/environment.md` names every one.

mod dump;
#[cfg(feature = "waypoint")]
mod l7;
mod layers;
mod node;
mod page;
mod proxy_config;
mod read;
mod reader;
mod servers;
pub mod table;
mod threads;
mod traffic;
mod unread;
mod values;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ringway_engine::TunnelOptions;
use ringway_engine::runtime::PeerPatience;

use crate::grpc::Endpoint;
use crate::run::WorkloadName;
use crate::source::{
    Cores, Hardening, Listen, LogConfig, Mode, NodeConfig, OriginalSource, Reactor, Redirect,
    Source,
};

#[cfg(feature = "waypoint")]
pub use self::l7::L7Config;
pub use self::node::NodeDescription;
pub use self::page::documentation;
pub use self::read::{Environment, MESH_FILE};
pub use self::reader::{Mistake, Origin, Setting};
pub use self::threads::WorkerThreads;
pub use self::unread::{TWINS, unread};

/// Everything a process in ztunnel's place is told.
#[derive(Clone, Debug)]
pub struct ZtunnelConfig {
    /// Whether connections are carried; otherwise only DNS is answered.
    pub proxy: bool,
    /// Whom it serves.
    pub mode: Mode,
    /// The workload of a dedicated process; there it is always given, with its service account.
    pub workload: Option<WorkloadName>,
    /// The node, its networks and clusters, and what the control plane is told of it.
    pub node: NodeDescription,
    /// The cluster's domain, of service names.
    pub cluster_domain: String,
    /// Where the mesh is described, if anywhere.
    pub discovery: Option<Endpoint>,
    /// Whether workloads are learned of when they are asked for.
    pub on_demand: bool,
    /// Who signs certificates; `None`: the embedded authority does.
    pub certificate_authority: Option<Endpoint>,
    /// The lifetime that is asked for.
    pub certificate_lifetime: Duration,
    /// A file of revocation lists.
    pub revocation_list: Option<PathBuf>,
    /// Whether only post-quantum key exchange is spoken.
    pub post_quantum_only: bool,
    /// Workloads, services and policies from a file or a text.
    pub local: Option<Source>,
    /// The namespace whose service is meant where several have one name.
    pub preferred_service_namespace: Option<String>,
    /// Where the DNS proxy listens in each pod, if there is one.
    pub dns: Option<DnsAddress>,
    /// The socket of the CNI plugin.
    pub cni_socket: PathBuf,
    /// The mark of every packet of ours.
    pub packet_mark: Option<u32>,
    /// Whether listening sockets may be shared with the process that comes next.
    pub port_reuse: bool,
    /// Whether applications see the client's address.
    pub original_source: OriginalSource,
    /// Whether to listen on IPv6 too.
    pub ipv6: bool,
    /// When peers that do not answer are given up.
    pub peer_patience: PeerPatience,
    /// What tunnels ask of peers, and how they are shared.
    pub tunnels: TunnelOptions,
    /// Whether every pod has a SOCKS5 server.
    pub socks5: bool,
    /// Whether applications that ask for the PROXY protocol are reached at their loopback address.
    pub localhost_application_tunnel: bool,
    /// Whether baggage is sent in responses, and used.
    pub response_baggage: bool,
    /// Whether each policy's part in a decision is logged.
    pub log_policies: bool,
    /// How many threads carry connections.
    pub worker_threads: usize,
    /// The Gateway that the pod of this process belongs to, where it is a waypoint's or gateway's.
    pub gateway: Option<String>,
    /// What the downward API says of this container's CPUs, where it is a waypoint's or gateway's.
    pub cpu_limit: Option<usize>,
    /// How long open connections may go on at the end.
    pub drain_deadline: Duration,
    /// The process's own servers.
    pub listen: Listen,
    /// What is logged, and how.
    pub log: LogConfig,
    /// What threads wait on.
    pub reactor: Reactor,
    /// What the process gives up.
    pub hardening: Hardening,
    /// The embedded authority's directory, where no other signs.
    pub ca_directory: PathBuf,
    /// Where the control socket is.
    pub state_directory: PathBuf,
    /// Every setting with its value and origin, for people; secrets are not shown.
    pub settings: Vec<Setting>,
    /// What is not as was asked for.
    pub warnings: Vec<String>,
}

/// Where the DNS proxy listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsAddress {
    /// On this port of the loopback addresses the pod has.
    Loopback(u16),
    /// Here.
    Address(SocketAddr),
}

/// Why the environment cannot be used: every mistake in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentError {
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for EnvironmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        write!(
            f,
            "the environment has {count} {mistakes}; docs/environment.md names every variable"
        )?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for EnvironmentError {}

impl ZtunnelConfig {
    /// The same as settings of a node, for what both kinds of run share. Redirect rules are the CNI plugin's.
    pub fn node_config(&self) -> NodeConfig {
        NodeConfig {
            name: self.node.node_name.as_deref().unwrap_or_default().into(),
            mode: self.mode,
            cores: Cores::Count(self.worker_threads),
            pin_cores: false,
            reactor: self.reactor,
            trust_domain: self.node.trust_domain.as_str().into(),
            cluster_domain: self.cluster_domain.as_str().into(),
            cluster: self.node.cluster.as_str().into(),
            network: self.node.network.as_str().into(),
            drain_deadline: self.drain_deadline,
            hardening: self.hardening,
            redirect: Redirect::None,
            packet_mark: self.packet_mark,
            original_source: self.original_source,
            ipv6: self.ipv6,
            listen: self.listen,
            log: self.log.clone(),
            ..NodeConfig::default()
        }
    }
}

/// An address is compared and shown as what it is.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

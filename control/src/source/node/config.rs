//! What the process itself is told: the settings of a `Node` document, with their defaults.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::limits::Limits;

use super::{DRAIN_DEADLINE_MAX, LEAF_LIFETIME_MAX, LEAF_LIFETIME_MIN, shown};
use crate::telemetry::log::LogFilter;

/// The settings of one node. [`NodeConfig::default`] is what a Node document without any key would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The name of this node; workloads of the same name's `node` are on this host.
    pub name: Arc<str>,
    /// Whether one process serves many workloads or one.
    pub mode: Mode,
    /// Which cores the shards run on.
    pub cores: Cores,
    /// Whether each shard stays on its core.
    pub pin_cores: bool,
    /// How shards wait for their sockets.
    pub reactor: Reactor,
    /// The trust domain of the identities of this node's workloads.
    pub trust_domain: Arc<str>,
    /// The domain under which Services have their host names.
    pub cluster_domain: Arc<str>,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Arc<str>,
    /// The name of the cluster, a part of every workload's id.
    pub cluster: Arc<str>,
    /// The network this node is in; workloads of other networks are not reached directly.
    pub network: Arc<str>,
    /// `region/zone/subzone` of this node.
    pub locality: Arc<str>,
    /// Where identities come from.
    pub certificate_authority: CertificateAuthorityConfig,
    /// Whether a tunnel to a peer we know may begin with a ticket instead of certificates.
    pub session_resumption: bool,
    /// How long open connections may go on after the process was told to stop.
    pub drain_deadline: Duration,
    /// Whether the process gives up what it does not need.
    pub hardening: Hardening,
    /// How connections of workloads come to Ringway.
    pub redirect: Redirect,
    /// Put on every packet of Ringway's own sockets in a workload's namespace, so that it is not captured again.
    /// `None`: no mark.
    pub packet_mark: Option<u32>,
    /// Whether applications see the client's address.
    pub original_source: OriginalSource,
    /// Whether to listen on IPv6 too.
    pub ipv6: bool,
    /// The bounds that are not the defaults.
    pub limits: Limits,
    /// Whether workloads ask us for names, and whom we ask.
    pub dns: DnsConfig,
    /// The ports of the data plane, in every captured namespace.
    pub ports: Ports,
    /// The addresses of the process's own servers.
    pub listen: Listen,
    /// What is logged, and how.
    pub log: LogConfig,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            name: Arc::default(),
            mode: Mode::Shared,
            cores: Cores::Automatic,
            pin_cores: true,
            reactor: Reactor::Auto,
            trust_domain: "cluster.local".into(),
            cluster_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            cluster: "Kubernetes".into(),
            network: Arc::default(),
            locality: Arc::default(),
            certificate_authority: CertificateAuthorityConfig::default(),
            session_resumption: true,
            drain_deadline: Duration::from_secs(5),
            hardening: Hardening::Auto,
            redirect: Redirect::Auto,
            packet_mark: Mode::Shared.packet_mark(),
            original_source: OriginalSource::Auto,
            ipv6: true,
            limits: Limits::default(),
            dns: DnsConfig::default(),
            ports: Ports::default(),
            listen: Listen::default(),
            log: LogConfig::default(),
        }
    }
}

impl NodeConfig {
    /// What a Node document could not say either, for what was given elsewhere.
    ///
    /// # Errors
    /// A sentence that begins with the setting.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: Duration, least: Duration, most: Duration| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("{name}: expected a duration from {} to {}", shown(least), shown(most)))
        };
        within("drainDeadline", self.drain_deadline, Duration::ZERO, DRAIN_DEADLINE_MAX)?;
        let lifetime = self.certificate_authority.leaf_lifetime;
        within(
            "certificateAuthority.leafLifetime",
            lifetime,
            LEAF_LIFETIME_MIN,
            LEAF_LIFETIME_MAX,
        )?;
        LogFilter::parse(&self.log.level).map_err(|error| format!("log.level: {error}"))?;
        self.listen.conflict().map_or(Ok(()), |message| Err(format!("listen: {message}")))
    }
}

/// How many workloads a process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The workloads of a host, each in a network namespace of its own.
    Shared,
    /// One workload, in whose network namespace the process lives.
    Dedicated,
}

impl Mode {
    /// The mark that is used when none is given. A process that lives in the workload's namespace is told apart by
    /// its user instead.
    pub fn packet_mark(self) -> Option<u32> {
        match self {
            Mode::Shared => Some(1337),
            Mode::Dedicated => None,
        }
    }
}

/// The cores shards run on, one shard on each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// As many as the CPU quota of the process allows.
    Automatic,
    /// So many, wherever.
    Count(usize),
    /// Exactly these.
    List(Vec<usize>),
}

/// How shards wait for their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reactor {
    /// io_uring where the kernel and the container allow it, else epoll.
    Auto,
    /// io_uring, or fail.
    Ring,
    /// epoll.
    Epoll,
}

/// Whether the process gives up what it does not need: capabilities, system calls, core files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardening {
    /// What can be given up is; the rest is told.
    Auto,
    /// Nothing is.
    Off,
    /// Everything is, or the process does not start.
    Required,
}

/// How connections of workloads come to Ringway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// nftables where it works, else iptables.
    Auto,
    /// nftables, or fail.
    Nftables,
    /// iptables, or fail.
    Iptables,
    /// Somebody else installs the rules.
    None,
}

/// Whether applications see the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalSource {
    /// Where the process may bind foreign addresses.
    Auto,
    /// Always; a connection for which that fails is refused.
    Always,
    /// Never.
    Never,
}

/// The embedded certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateAuthorityConfig {
    /// Where its keys and certificates are.
    pub directory: PathBuf,
    /// How long the certificate of a workload is valid.
    pub leaf_lifetime: Duration,
    /// Files of revocation lists, beside the one in the directory.
    pub revocation_lists: Vec<PathBuf>,
    /// The socket of a SPIFFE agent that gives the identities, in place of the embedded authority.
    pub workload_api: Option<PathBuf>,
}

impl Default for CertificateAuthorityConfig {
    fn default() -> CertificateAuthorityConfig {
        CertificateAuthorityConfig {
            directory: "/var/lib/ringway/ca".into(),
            leaf_lifetime: Duration::from_secs(24 * 60 * 60),
            revocation_lists: Vec::new(),
            workload_api: None,
        }
    }
}

/// What is done about names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Whether workloads' queries come to us.
    pub capture: bool,
    /// Where the name servers of all other names are.
    pub resolv_conf: PathBuf,
    /// The namespace whose services go before others of the same name.
    pub preferred_namespace: Option<Arc<str>>,
}

impl Default for DnsConfig {
    fn default() -> DnsConfig {
        DnsConfig {
            capture: false,
            resolv_conf: "/etc/resolv.conf".into(),
            preferred_namespace: None,
        }
    }
}

/// The ports of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Connections that workloads open.
    pub outbound: u16,
    /// Connections to workloads that do not come through a tunnel.
    pub inbound: u16,
    /// Tunnels. Every node of a mesh uses the same.
    pub tunnel: u16,
    /// Queries for names, where they are captured.
    pub dns: u16,
}

impl Default for Ports {
    fn default() -> Ports {
        Ports { outbound: 15001, inbound: 15006, tunnel: 15008, dns: 15053 }
    }
}

/// The addresses of the process's own servers; `None`: the server is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What the process knows and does; for the operator of the host only.
    pub admin: Option<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
    /// Whether the process is ready.
    pub readiness: Option<SocketAddr>,
}

impl Listen {
    /// Which two servers want the same address, as a sentence.
    pub(super) fn conflict(&self) -> Option<String> {
        let servers =
            [("admin", self.admin), ("metrics", self.metrics), ("readiness", self.readiness)];
        let given: Vec<_> = servers.iter().filter_map(|(name, at)| Some((name, (*at)?))).collect();
        let clash = |one: SocketAddr, other: SocketAddr| {
            let wide = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.port() != 0 && (wide || one.ip() == other.ip())
        };
        given.iter().enumerate().find_map(|(index, (name, at))| {
            let (other, _) = given[..index].iter().find(|(_, other)| clash(*other, *at))?;
            Some(format!("`{other}` and `{name}` cannot both listen on port {}", at.port()))
        })
    }
}

impl Default for Listen {
    fn default() -> Listen {
        let any = |port| Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
        let admin = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
        Listen { admin: Some(admin), metrics: any(15020), readiness: any(15021) }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or levels by target: `info`, `info,access=off`.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { level: "info".into(), format: LogFormat::Plain }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Columns separated by tabs.
    Plain,
    /// One JSON object a line.
    Json,
}

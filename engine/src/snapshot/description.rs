//! A workload as it is first told: all plain fields, for loaders to fill in.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_protocols::identity::IdentityError;

use super::address::{GatewayAddress, NamespacedHostname};
use super::vocabulary::{
    ApplicationTunnelProtocol, Health, NetworkMode, TunnelProtocol, WorkloadType,
};

/// The trust domain of a workload that names none.
pub const TRUST_DOMAIN_DEFAULT: &str = "cluster.local";
/// The service account of a workload that names none.
pub const SERVICE_ACCOUNT_DEFAULT: &str = "default";
/// The cluster of a workload that names none.
pub const CLUSTER_DEFAULT: &str = "Kubernetes";

/// Everything that is told about a workload, as a loader first has it.
#[derive(Clone, Debug)]
pub struct WorkloadDescription {
    /// The primary key. Contains `//Pod/` when the workload is a pod.
    pub uid: String,
    /// The name, a pod's name mostly.
    pub name: String,
    /// The namespace; must not be empty.
    pub namespace: String,
    /// The service account; empty for [`SERVICE_ACCOUNT_DEFAULT`].
    pub service_account: String,
    /// The trust domain; empty for [`TRUST_DOMAIN_DEFAULT`].
    pub trust_domain: String,
    /// The network its addresses belong to.
    pub network: String,
    /// The cluster; empty for [`CLUSTER_DEFAULT`].
    pub cluster: String,
    /// The host it runs on.
    pub node: String,
    /// Region, zone and subzone of that host.
    pub locality: Locality,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The hostname to resolve when it has no address.
    pub hostname: String,
    /// How it is reached.
    pub protocol: TunnelProtocol,
    /// Whose addresses it has.
    pub network_mode: NetworkMode,
    /// Whether it is ready.
    pub health: Health,
    /// Its share of connections among the endpoints of a service; 0 for none.
    pub capacity: u32,
    /// Told by the control plane and repeated in dumps; decides nothing.
    pub native_tunnel: bool,
    /// The name of what made it, for telemetry.
    pub workload_name: String,
    /// What made it, for telemetry.
    pub workload_type: WorkloadType,
    /// Its canonical service, for telemetry.
    pub canonical_name: String,
    /// The revision of that, for telemetry.
    pub canonical_revision: String,
    /// The services it is an endpoint of.
    pub services: Vec<Membership>,
    /// The waypoint before it.
    pub waypoint: Option<GatewayAddress>,
    /// The gateway through which other networks reach it.
    pub network_gateway: Option<GatewayAddress>,
    /// What its proxy does for the application before the first byte.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// The names of the policies that select it.
    pub authorization_policies: Vec<String>,
}

impl Default for WorkloadDescription {
    fn default() -> WorkloadDescription {
        WorkloadDescription {
            uid: String::new(),
            name: String::new(),
            namespace: String::new(),
            service_account: String::new(),
            trust_domain: String::new(),
            network: String::new(),
            cluster: String::new(),
            node: String::new(),
            locality: Locality::default(),
            addresses: Vec::new(),
            hostname: String::new(),
            protocol: TunnelProtocol::default(),
            network_mode: NetworkMode::default(),
            health: Health::default(),
            capacity: 1,
            native_tunnel: false,
            workload_name: String::new(),
            workload_type: WorkloadType::default(),
            canonical_name: String::new(),
            canonical_revision: String::new(),
            services: Vec::new(),
            waypoint: None,
            network_gateway: None,
            application_tunnel: None,
            authorization_policies: Vec::new(),
        }
    }
}

/// Where a host stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone within it.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub subzone: Arc<str>,
}

/// That a workload is an endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The service.
    pub service: NamespacedHostname,
    /// The ports of the workload behind the ports of the service, where they are known.
    pub ports: Box<[PortMapping]>,
}

impl Membership {
    /// The workload's own port behind a port of the service.
    pub fn target_port(&self, service_port: u16) -> Option<u16> {
        self.ports
            .iter()
            .find(|mapping| mapping.service_port == service_port && mapping.target_port > 0)
            .map(|mapping| mapping.target_port)
    }
}

/// A port of a service and the workload's port behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortMapping {
    /// What clients connect to.
    pub service_port: u16,
    /// What the workload listens on.
    pub target_port: u16,
}

/// What a proxy does for its application before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// What it writes.
    pub protocol: ApplicationTunnelProtocol,
    /// The port that replaces the one that was asked for.
    pub port: Option<u16>,
}

/// A description no workload can be made of.
#[derive(Debug, PartialEq, Eq)]
pub enum WorkloadError {
    /// The uid is empty, so nothing could ever refer to the workload.
    NoUid,
    /// Namespace, service account or trust domain make no identity.
    Identity(IdentityError),
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkloadError::NoUid => f.write_str("a workload needs a uid"),
            WorkloadError::Identity(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WorkloadError {}

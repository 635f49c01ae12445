//! A workload, kept small: 150,000 of them must fit.
//!
//! What many workloads share (everything their deployment says, everything their host says) is held
//! once, in a [`WorkloadKind`] and a [`Placement`] that an [`Interner`](super::Interner) hands out. What is left per
//! workload is its uid, its addresses and a few bytes.
//!
//! A loader fills in a [`WorkloadDescription`], all plain fields, and lets the interner make the [`Workload`].

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_protocols::identity::{Identity, IdentityError};

use super::address::{GatewayAddress, NamespacedHostname, key_of};
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

/// What all workloads of one deployment share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKind {
    /// The identity, alone in a list: what a peer that dials the workload expects.
    pub(crate) identities: Arc<[Identity]>,
    pub(crate) workload_name: Arc<str>,
    pub(crate) workload_type: WorkloadType,
    pub(crate) canonical_name: Arc<str>,
    pub(crate) canonical_revision: Arc<str>,
    pub(crate) services: Box<[Membership]>,
    pub(crate) waypoint: Option<Box<GatewayAddress>>,
    pub(crate) network_gateway: Option<Box<GatewayAddress>>,
    pub(crate) application_tunnel: Option<ApplicationTunnel>,
    pub(crate) authorization_policies: Box<[Box<str>]>,
}

/// What all workloads of one host share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    pub(crate) network: Arc<str>,
    pub(crate) cluster: Arc<str>,
    pub(crate) node: Arc<str>,
    pub(crate) locality: Locality,
}

/// A process that is part of the mesh, or known to it.
#[derive(Clone)]
pub struct Workload {
    uid: Box<str>,
    addresses: Addresses,
    kind: Arc<WorkloadKind>,
    placement: Arc<Placement>,
    rare: Option<Box<Rare>>,
    capacity: u32,
    /// The name is the end of the uid, mostly; then this is its length.
    name_bytes: u16,
    protocol: TunnelProtocol,
    health: Health,
    network_mode: NetworkMode,
    native_tunnel: bool,
}

const _: () = assert!(size_of::<Workload>() <= 80, "with its two counts it fits 96 bytes");

/// One address needs no allocation of its own.
#[derive(Clone, Debug)]
enum Addresses {
    One(IpAddr),
    Many(Box<[IpAddr]>),
}

/// What few workloads have.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// The name, when the uid does not end in it.
    name: Option<Box<str>>,
    hostname: Box<str>,
}

impl Workload {
    pub(super) fn new(
        description: WorkloadDescription,
        kind: Arc<WorkloadKind>,
        placement: Arc<Placement>,
    ) -> Workload {
        let WorkloadDescription { uid, name, addresses, hostname, .. } = description;
        let name_bytes = u16::try_from(name.len()).ok().filter(|_| uid.ends_with(&name));
        let rare = (name_bytes.is_none() || !hostname.is_empty()).then(|| {
            let name = name_bytes.is_none().then(|| name.into_boxed_str());
            Box::new(Rare { name, hostname: hostname.into_boxed_str() })
        });
        Workload {
            // Copied to size: a text that was put together keeps its larger block when it is shrunk.
            uid: uid.as_str().into(),
            addresses: Addresses::of(addresses),
            kind,
            placement,
            rare,
            capacity: description.capacity,
            name_bytes: name_bytes.unwrap_or(0),
            protocol: description.protocol,
            health: description.health,
            network_mode: description.network_mode,
            native_tunnel: description.native_tunnel,
        }
    }

    /// The primary key.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Whether the uid says that this is a pod.
    pub fn is_pod(&self) -> bool {
        self.uid.contains("//Pod/")
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self.rare.as_deref() {
            Some(Rare { name: Some(name), .. }) => name,
            _ => &self.uid[self.uid.len() - usize::from(self.name_bytes)..],
        }
    }

    /// The identity that its connections carry and that its peers expect.
    pub fn identity(&self) -> &Identity {
        &self.kind.identities[0]
    }

    /// The identity as the list that a TLS client expects one of.
    pub fn identities(&self) -> &Arc<[Identity]> {
        &self.kind.identities
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.identity().namespace()
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        self.identity().service_account()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        self.identity().trust_domain()
    }

    /// The network its addresses belong to.
    pub fn network(&self) -> &Arc<str> {
        &self.placement.network
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<str> {
        &self.placement.cluster
    }

    /// The host it runs on.
    pub fn node(&self) -> &Arc<str> {
        &self.placement.node
    }

    /// Where that host stands.
    pub fn locality(&self) -> &Locality {
        &self.placement.locality
    }

    /// Its addresses, none of them an IPv4 address mapped into IPv6.
    pub fn addresses(&self) -> &[IpAddr] {
        self.addresses.as_slice()
    }

    /// The hostname to resolve when there is no address; empty for none.
    pub fn hostname(&self) -> &str {
        self.rare.as_deref().map_or("", |rare| &rare.hostname)
    }

    /// How it is reached.
    pub fn protocol(&self) -> TunnelProtocol {
        self.protocol
    }

    /// Whose addresses it has.
    pub fn network_mode(&self) -> NetworkMode {
        self.network_mode
    }

    /// Whether it is ready.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Its share of connections among the endpoints of a service.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Told by the control plane and repeated in dumps.
    pub fn native_tunnel(&self) -> bool {
        self.native_tunnel
    }

    /// The name of what made it.
    pub fn workload_name(&self) -> &Arc<str> {
        &self.kind.workload_name
    }

    /// What made it.
    pub fn workload_type(&self) -> WorkloadType {
        self.kind.workload_type
    }

    /// Its canonical service.
    pub fn canonical_name(&self) -> &Arc<str> {
        &self.kind.canonical_name
    }

    /// The revision of its canonical service.
    pub fn canonical_revision(&self) -> &Arc<str> {
        &self.kind.canonical_revision
    }

    /// The services it is an endpoint of.
    pub fn services(&self) -> &[Membership] {
        &self.kind.services
    }

    /// Its membership in a service, if it is an endpoint of it.
    pub fn membership(&self, service: &NamespacedHostname) -> Option<&Membership> {
        self.kind.services.iter().find(|membership| membership.service == *service)
    }

    /// The waypoint before it.
    pub fn waypoint(&self) -> Option<&GatewayAddress> {
        self.kind.waypoint.as_deref()
    }

    /// The gateway through which other networks reach it.
    pub fn network_gateway(&self) -> Option<&GatewayAddress> {
        self.kind.network_gateway.as_deref()
    }

    /// What its proxy does for the application before the first byte.
    pub fn application_tunnel(&self) -> Option<ApplicationTunnel> {
        self.kind.application_tunnel
    }

    /// The names of the policies that select it.
    pub fn authorization_policies(&self) -> impl ExactSizeIterator<Item = &str> {
        self.kind.authorization_policies.iter().map(|name| &**name)
    }

    /// What it shares with its host; the same pointer for workloads of one interner.
    pub(crate) fn placement(&self) -> &Arc<Placement> {
        &self.placement
    }

    /// What it shares with its deployment; the same pointer for workloads of one interner.
    pub fn kind(&self) -> &Arc<WorkloadKind> {
        &self.kind
    }

    pub(crate) fn key(&self) -> u64 {
        Workload::key_of(&self.uid)
    }

    pub(crate) fn key_of(uid: &str) -> u64 {
        key_of(uid)
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("uid", &self.uid)
            .field("addresses", &self.addresses())
            .field("identity", self.identity())
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl Addresses {
    fn of(mut addresses: Vec<IpAddr>) -> Addresses {
        for ip in &mut addresses {
            *ip = ip.to_canonical();
        }
        match *addresses {
            [ip] => Addresses::One(ip),
            _ => Addresses::Many(addresses.into_boxed_slice()),
        }
    }

    fn as_slice(&self) -> &[IpAddr] {
        match self {
            Addresses::One(ip) => std::slice::from_ref(ip),
            Addresses::Many(ips) => ips,
        }
    }
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

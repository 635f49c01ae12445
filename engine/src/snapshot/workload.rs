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

use ringway_protocols::identity::Identity;

use super::address::{GatewayAddress, NamespacedHostname, key_of};
use super::description::{ApplicationTunnel, Locality, Membership, WorkloadDescription};
use super::vocabulary::{Health, NetworkMode, TunnelProtocol, WorkloadType};

/// What all workloads of one deployment share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKind {
    /// The identity, alone in a list: what a peer that dials the workload expects.
    pub(crate) identities: Arc<[Identity]>,
    /// None: each workload's own name. What nothing made, or what has no label, stands for itself, and shares the rest all
    /// the same.
    pub(crate) workload_name: Option<Arc<str>>,
    pub(crate) workload_type: WorkloadType,
    /// None: each workload's own name.
    pub(crate) canonical_name: Option<Arc<str>>,
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
    pub fn workload_name(&self) -> &str {
        self.kind.workload_name.as_deref().unwrap_or_else(|| self.name())
    }

    /// What made it.
    pub fn workload_type(&self) -> WorkloadType {
        self.kind.workload_type
    }

    /// Its canonical service.
    pub fn canonical_name(&self) -> &str {
        self.kind.canonical_name.as_deref().unwrap_or_else(|| self.name())
    }

    /// [`Workload::workload_name`] to keep: nothing is copied but a name of its own.
    pub fn shared_workload_name(&self) -> Arc<str> {
        self.kind.workload_name.clone().unwrap_or_else(|| self.name().into())
    }

    /// [`Workload::canonical_name`] to keep: nothing is copied but a name of its own.
    pub fn shared_canonical_name(&self) -> Arc<str> {
        self.kind.canonical_name.clone().unwrap_or_else(|| self.name().into())
    }

    /// Whether its own name says more of it than its kind does: two of one kind are told apart by it then.
    pub(crate) fn stands_for_itself(&self) -> bool {
        self.kind.workload_name.is_none() || self.kind.canonical_name.is_none()
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

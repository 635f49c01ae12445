//! What the data plane knows about the world, at one moment.
//!
//! Control builds the next [`Snapshot`] from the last one and publishes it; a connection is decided on exactly
//! one. A snapshot is a handful of persistent trees: its clone is a handful of reference counts, and a
//! change to one workload among 150,000 copies a few nodes, so both generations share the rest.
//!
//! Workloads say which services they are endpoints of; services say how endpoints are chosen. The relation
//! is kept whichever of the two comes first, goes or comes back.
//!
//! **Invariant:** what a decision hands out ([`Arc<Workload>`], [`Arc<Service>`]) holds no tree, so a shard that
//! drops one frees a few hundred bytes at most. Whole snapshots are dropped by control.

mod address;
mod answered;
mod authorization;
mod change;
mod credentials;
mod description;
mod endpoints;
mod footprint;
mod index;
mod interner;
mod local;
mod policy;
mod question;
mod resolutions;
mod service;
mod settings;
mod tree;
mod vocabulary;
mod workload;

use std::fmt;
use std::sync::Arc;

pub use self::address::{
    Cidr, GatewayAddress, GatewayDestination, NamespacedHostname, NetworkAddress, NetworkCidr,
    NotNamespacedHostname,
};
pub use self::authorization::Facts;
pub(crate) use self::authorization::{CompiledPolicy, Selected};
pub use self::credentials::Credentials;
pub use self::description::{
    ApplicationTunnel, CLUSTER_DEFAULT, Locality, Membership, PortMapping, SERVICE_ACCOUNT_DEFAULT,
    TRUST_DOMAIN_DEFAULT, WorkloadDescription, WorkloadError,
};
pub(crate) use self::endpoints::{Endpoint, Endpoints};
pub use self::footprint::Footprint;
pub use self::interner::Interner;
pub use self::local::{LocalName, Locals, WorkloadKey};
pub use self::policy::{
    AuthorizationPolicy, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    ServiceAccountMatch, TextMatch,
};
pub use self::service::{LoadBalancer, Service, ServicePort, SubjectAltName, WeightedWaypoint};
pub use self::settings::Settings;
pub use self::tree::{Entry, Range, Tree};
pub use self::vocabulary::{
    AppProtocol, ApplicationTunnelProtocol, Health, HealthPolicy, IpFamilies, LoadBalancerMode,
    NetworkMode, Scope, TunnelProtocol, Visibility, WorkloadType,
};
pub use self::workload::{Placement, Workload, WorkloadKind};

pub use self::answered::AnsweredNames;
pub use self::resolutions::Resolutions;

use self::authorization::Policies;
use self::index::{Index, RangeLengths};

/// One generation of everything that decisions depend on.
#[derive(Clone)]
pub struct Snapshot {
    generation: u64,
    settings: Arc<Settings>,
    credentials: Index<Credentials>,

    workloads: Index<Workload>,
    workloads_by_address: Index<Workload>,
    workloads_by_hostname: Index<Workload>,
    /// Those of this host, by what a node agent calls them.
    locals: Index<Workload>,
    resolutions: Resolutions,
    /// Where only what was asked for is told.
    answered: AnsweredNames,

    services: Index<Service>,
    services_by_vip: Index<Service>,
    services_by_cidr_vip: Index<Service>,
    services_by_hostname: Index<Service>,
    /// The lengths of prefixes that `services_by_cidr_vip` holds any of.
    cidr_vip_lengths: Arc<RangeLengths>,
    policies: Policies,
    /// Of every service that any workload names, whether it is there or not.
    endpoints: Index<Endpoints>,
    #[cfg(feature = "waypoint")]
    http: Option<Arc<Http>>,
}

/// What is configured at L7, in the form in which it is asked.
#[cfg(feature = "waypoint")]
pub type Http = ringway_http::Tables;

impl Snapshot {
    /// An empty world, seen from this network.
    pub fn new(network: &str) -> Snapshot {
        Snapshot {
            generation: 0,
            settings: Arc::new(Settings::new(network)),
            credentials: Index::default(),
            workloads: Index::default(),
            workloads_by_address: Index::default(),
            workloads_by_hostname: Index::default(),
            locals: Index::default(),
            resolutions: Resolutions::default(),
            answered: AnsweredNames::default(),
            services: Index::default(),
            services_by_vip: Index::default(),
            services_by_cidr_vip: Index::default(),
            services_by_hostname: Index::default(),
            cidr_vip_lengths: Arc::default(),
            policies: Policies::default(),
            endpoints: Index::default(),
            #[cfg(feature = "waypoint")]
            http: None,
        }
    }

    /// The number of this generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The same world under another number.
    pub fn with_generation(mut self, generation: u64) -> Snapshot {
        self.generation = generation;
        self
    }

    /// What is configured at L7, for pods that are waypoints or gateways.
    #[cfg(feature = "waypoint")]
    pub fn http(&self) -> Option<&Arc<Http>> {
        self.http.as_ref()
    }

    /// The same world with this configured at L7.
    #[cfg(feature = "waypoint")]
    pub fn with_http(mut self, http: Option<Arc<Http>>) -> Snapshot {
        self.http = http;
        self
    }

    /// What this process is told about itself.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells this process about itself.
    pub fn set_settings(&mut self, settings: Settings) {
        let same_locals = self.settings.locals == settings.locals;
        self.settings = Arc::new(settings);
        if !same_locals {
            self.find_locals();
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("settings", &self.settings)
            .field("workloads", &self.workloads.len())
            .field("services", &self.services.len())
            .field("credentials", &self.credentials.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

//! A service: a name, the addresses clients use for it, and how its endpoints are chosen.

use std::fmt;
use std::net::IpAddr;

use ringway_protocols::identity::Identity;

use super::address::{GatewayAddress, NamespacedHostname, NetworkAddress, NetworkCidr};
use super::vocabulary::{
    AppProtocol, HealthPolicy, IpFamilies, LoadBalancerMode, Scope, Visibility,
};

/// A service. Its endpoints are not listed here: workloads say which services they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The primary key: namespace and hostname.
    pub id: NamespacedHostname,
    /// The short name.
    pub name: Box<str>,
    /// Its virtual addresses.
    pub vips: Box<[NetworkAddress]>,
    /// Its virtual ranges of addresses.
    pub cidr_vips: Box<[NetworkCidr]>,
    /// Its ports.
    pub ports: Box<[ServicePort]>,
    /// How an endpoint is chosen.
    pub load_balancer: LoadBalancer,
    /// The waypoint before it.
    pub waypoint: Option<GatewayAddress>,
    /// Several waypoints that share its connections; with any weight over zero they replace `waypoint`.
    pub weighted_waypoints: Box<[WeightedWaypoint]>,
    /// Whether an ingress gateway goes through the waypoint too; told for waypoints, decides nothing here.
    pub ingress_use_waypoint: bool,
    /// Names its endpoints may present besides their own identities.
    pub subject_alt_names: Box<[SubjectAltName]>,
    /// Which addresses of its workloads it uses.
    pub ip_families: IpFamilies,
    /// Whether it goes before other services of the same address or hostname.
    pub canonical: bool,
    /// Who sees it.
    pub visibility: Visibility,
}

impl Service {
    /// A service with a name, seen by everybody, and nothing else.
    pub fn new(id: NamespacedHostname) -> Service {
        let name = id.hostname().split('.').next().unwrap_or_default().into();
        Service {
            id,
            name,
            vips: Box::default(),
            cidr_vips: Box::default(),
            ports: Box::default(),
            load_balancer: LoadBalancer::default(),
            waypoint: None,
            weighted_waypoints: Box::default(),
            ingress_use_waypoint: false,
            subject_alt_names: Box::default(),
            ip_families: IpFamilies::default(),
            canonical: false,
            visibility: Visibility::default(),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.id.namespace()
    }

    /// The hostname.
    pub fn hostname(&self) -> &str {
        self.id.hostname()
    }

    /// Its port of this number.
    pub fn port(&self, service_port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.service_port == service_port)
    }

    /// Whether clients of `namespace` see it.
    pub fn is_visible_to(&self, namespace: &str) -> bool {
        self.visibility == Visibility::Public || self.namespace() == namespace
    }

    /// The virtual address to show for it: on this network rather than another, IPv4 rather than IPv6.
    pub fn vip_for(&self, network: &str) -> Option<IpAddr> {
        let badness = |vip: &&NetworkAddress| (*vip.network != *network, vip.ip.is_ipv6());
        self.vips.iter().min_by_key(badness).map(|vip| vip.ip)
    }
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// What clients connect to.
    pub service_port: u16,
    /// What endpoints listen on; 0 when each endpoint says so itself (a named port).
    pub target_port: u16,
    /// What is spoken there.
    pub app_protocol: AppProtocol,
}

/// How an endpoint of a service is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancer {
    /// How endpoints are narrowed down.
    pub mode: LoadBalancerMode,
    /// What an endpoint should have in common with the client, the most important first.
    pub routing_preferences: Box<[Scope]>,
    /// Which workloads are endpoints.
    pub health_policy: HealthPolicy,
}

/// One of several waypoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedWaypoint {
    /// Where it is.
    pub destination: GatewayAddress,
    /// Its share of the connections.
    pub weight: u32,
}

/// A name a service's endpoints may present; only SPIFFE identities are ever matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectAltName {
    text: Box<str>,
    identity: Option<Identity>,
}

impl SubjectAltName {
    /// The name as it was told.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The identity it is, if it is one.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

impl From<&str> for SubjectAltName {
    fn from(text: &str) -> SubjectAltName {
        SubjectAltName { text: text.into(), identity: Identity::parse(text).ok() }
    }
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

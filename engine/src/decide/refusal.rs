//! Why a connection was refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ringway_protocols::hbone::Authority;

use crate::snapshot::{GatewayDestination, NamespacedHostname, Workload};

/// Why a connection was refused, before anything was dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The connection would come back to one of our own ports. A client is probing, or capture is misconfigured.
    SelfCall,
    /// No endpoint of the service can be used: none is healthy, reachable and serves this port.
    NoHealthyUpstream {
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// The waypoint that must be passed is not known. It was deleted, or not yet told to us.
    UnknownWaypoint {
        /// Its name.
        waypoint: Box<GatewayDestination>,
    },
    /// The waypoint that must be passed is known but none of its endpoints can be used.
    NoHealthyWaypoint {
        /// Its name.
        waypoint: Box<GatewayDestination>,
    },
    /// The destination is a workload on another network, and workloads there are reached by service only.
    NoServiceForTarget {
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// The workload has no address that could be dialled, nor a gateway through which it is reached.
    NoValidDestination {
        /// Its name.
        workload: Box<str>,
    },
    /// The workload has only a hostname, and what that resolves to is not known.
    Unresolved {
        /// Its name.
        workload: Box<str>,
        /// Its hostname.
        hostname: Box<str>,
    },
    /// The gateway to the workload's network is not known. It was deleted, or not yet told to us.
    UnknownGateway {
        /// Its name.
        gateway: Box<GatewayDestination>,
    },
    /// The gateway to the workload's network is known but none of its endpoints can be used.
    NoHealthyGateway {
        /// Its name.
        gateway: Box<GatewayDestination>,
    },
    /// The service says of no identity that its endpoints may have it, and behind a network's gateway nothing else
    /// tells them from others.
    NoIdentities {
        /// The service.
        service: NamespacedHostname,
    },
    /// The hostname is none that can be asked for through a network's gateway: a wildcard, or not in canonical form.
    HostnameNotAsked {
        /// The hostname.
        hostname: Box<str>,
    },
    /// A peer asked for an address that is not this workload's. It acts on stale knowledge, or is probing.
    IpMismatch {
        /// The address the peer reached.
        local: IpAddr,
        /// The address it asked for.
        authority: IpAddr,
    },
    /// A peer asked for a hostname that no service visible here has.
    UnknownHostname {
        /// The hostname.
        hostname: Box<str>,
    },
    /// A peer asked for a service that this workload is not an endpoint of, nor a waypoint for.
    NotAnEndpoint {
        /// The workload's name.
        workload: Box<str>,
        /// The service.
        service: NamespacedHostname,
    },
    /// A peer asked a waypoint for what names another waypoint, or none. It acts on stale knowledge, or is probing.
    NotFronted {
        /// What it asked for.
        authority: Box<Authority>,
    },
    /// A peer asked for a port for which neither the service nor the workload names the port behind it.
    UnknownPort {
        /// The service.
        service: NamespacedHostname,
        /// Its port.
        port: u16,
    },
    /// A policy denies the connection.
    Denied {
        /// The policy, as `namespace/name`.
        policy: Box<str>,
        /// Which of its rules matched, counted from 0.
        rule: usize,
    },
    /// Policies say whom to allow, and none of them says this client.
    NotAllowed,
    /// The workload names a policy that nobody has told us of. It was misspelled, or the control plane has not
    /// delivered it yet.
    UnknownPolicy {
        /// The policy, as `namespace/name`.
        policy: Box<str>,
    },
}

impl Refusal {
    /// The status a peer's CONNECT is answered with.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::IpMismatch { .. }
            | Refusal::NotAnEndpoint { .. }
            | Refusal::NotFronted { .. } => 400,
            Refusal::Denied { .. } | Refusal::NotAllowed | Refusal::UnknownPolicy { .. } => 401,
            Refusal::SelfCall
            | Refusal::NoHealthyUpstream { .. }
            | Refusal::UnknownWaypoint { .. }
            | Refusal::NoHealthyWaypoint { .. }
            | Refusal::NoServiceForTarget { .. }
            | Refusal::NoValidDestination { .. }
            | Refusal::Unresolved { .. }
            | Refusal::UnknownGateway { .. }
            | Refusal::NoHealthyGateway { .. }
            | Refusal::NoIdentities { .. }
            | Refusal::HostnameNotAsked { .. }
            | Refusal::UnknownHostname { .. }
            | Refusal::UnknownPort { .. } => 503,
        }
    }

    /// Whether it is policies that refused.
    pub fn is_by_policy(&self) -> bool {
        matches!(self, Refusal::Denied { .. } | Refusal::NotAllowed | Refusal::UnknownPolicy { .. })
    }

    /// The policy that refused, as `namespace/name`, and which of its rules, where one policy did.
    pub fn policy(&self) -> Option<(&str, Option<usize>)> {
        match self {
            Refusal::Denied { policy, rule } => Some((policy, Some(*rule))),
            Refusal::UnknownPolicy { policy } => Some((policy, None)),
            _ => None,
        }
    }

    pub(super) fn no_valid_destination(workload: &Workload) -> Refusal {
        Refusal::NoValidDestination { workload: workload.name().into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::SelfCall => f.write_str("attempted recursive call to ourselves"),
            Refusal::NoHealthyUpstream { destination } => {
                write!(f, "no healthy upstream: {destination}")
            }
            Refusal::UnknownWaypoint { waypoint } => write!(f, "unknown waypoint: {waypoint}"),
            Refusal::NoHealthyWaypoint { waypoint } => {
                write!(f, "no healthy upstream: waypoint {waypoint}")
            }
            Refusal::NoServiceForTarget { destination } => {
                write!(f, "no service for target address: {destination}")
            }
            Refusal::NoValidDestination { workload } => {
                write!(f, "no valid routing destination for workload: {workload}")
            }
            Refusal::Unresolved { workload, hostname } => {
                write!(f, "hostname {hostname} of workload {workload} is not resolved")
            }
            Refusal::UnknownGateway { gateway } => {
                write!(f, "unknown network gateway: {gateway}")
            }
            Refusal::NoHealthyGateway { gateway } => {
                write!(f, "no healthy upstream: network gateway {gateway}")
            }
            Refusal::NoIdentities { service } => write!(
                f,
                "service {service} names no identity (subjectAltNames) for its endpoints on \
                 another network"
            ),
            Refusal::HostnameNotAsked { hostname } => {
                write!(f, "hostname {hostname} cannot be asked for through a network gateway")
            }
            Refusal::IpMismatch { local, authority } => {
                write!(f, "ip mismatch: {local} != {authority}")
            }
            Refusal::UnknownHostname { hostname } => {
                write!(f, "no service with hostname: {hostname}")
            }
            Refusal::NotAnEndpoint { workload, service } => {
                write!(f, "workload {workload} is not an endpoint of service {service}")
            }
            Refusal::NotFronted { authority } => {
                write!(f, "this is not the waypoint of {authority}")
            }
            Refusal::UnknownPort { service, port } => {
                write!(f, "no target port for port {port} of service {service}")
            }
            Refusal::Denied { policy, .. } => write!(f, "explicitly denied by: {policy}"),
            Refusal::NotAllowed => f.write_str("allow policies exist, but none allowed"),
            Refusal::UnknownPolicy { policy } => {
                write!(f, "the workload names a policy that is not known: {policy}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

//! Finds the workload that stands for an address, a service or a waypoint, and the port to reach it on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringway_protocols::identity::Identity;

use super::address::address_of;
use super::balance;
use super::chance::Chance;
use super::refusal::Refusal;
use crate::snapshot::{
    Endpoint, GatewayAddress, GatewayDestination, IpFamilies, LoadBalancerMode, Service, Snapshot,
    Workload,
};

/// A question, with everything that its answer depends on.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) source: &'a Workload,
    /// Workloads that were dialled in vain.
    pub(super) except: &'a [Arc<Workload>],
    pub(super) chance: Chance,
}

/// What an address stands for.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A workload.
    Upstream(Upstream<'a>),
    /// Nothing that we know, or nothing that can be used.
    Nothing,
    /// A service that wants its traffic to go where it was going.
    Passthrough,
}

/// A workload that was chosen.
#[derive(Clone, Debug)]
pub(super) struct Upstream<'a> {
    pub(super) workload: &'a Arc<Workload>,
    /// The service through which it was found.
    pub(super) service: Option<&'a Arc<Service>>,
    pub(super) port: u16,
    /// What was asked for, to which its own address should be similar.
    original: IpAddr,
}

/// What an endpoint is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be the destination: the service must list the port.
    Destination,
    /// To be the waypoint: its application tunnel may serve the port without the service listing it.
    Waypoint,
}

impl<'a> Query<'a> {
    /// The workload that stands for an address: an endpoint of the best service there, or else the workload
    /// that has the address.
    pub(super) fn upstream(
        &mut self,
        network: &str,
        address: SocketAddr,
        purpose: Purpose,
    ) -> Found<'a> {
        let namespace = self.source.namespace();
        if let Some(service) = self.snapshot.service_by_vip(network, address.ip(), namespace) {
            return self.endpoint(service, address, purpose);
        }
        match self.snapshot.workload_by_address(network, address.ip()) {
            Some(workload) => self.workload(workload, address),
            None => Found::Nothing,
        }
    }

    /// A workload itself, unless it was dialled in vain.
    pub(super) fn workload(&self, workload: &'a Arc<Workload>, address: SocketAddr) -> Found<'a> {
        if self.was_dialled_in_vain(workload) {
            return Found::Nothing;
        }
        let (original, port) = (address.ip(), address.port());
        Found::Upstream(Upstream { workload, service: None, port, original })
    }

    /// The waypoint to pass on the way to `destination`.
    pub(super) fn waypoint(
        &mut self,
        gateway: &GatewayAddress,
        destination: SocketAddr,
    ) -> Result<Upstream<'a>, Refusal> {
        let waypoint = || Box::new(gateway.destination.clone());
        match self.gateway(gateway, destination, Purpose::Waypoint) {
            Some(Found::Upstream(upstream)) => Ok(upstream),
            Some(_) => Err(Refusal::NoHealthyWaypoint { waypoint: waypoint() }),
            None => Err(Refusal::UnknownWaypoint { waypoint: waypoint() }),
        }
    }

    /// What joins the network of `workload` to ours, on the way to `destination`.
    pub(super) fn network_gateway(
        &mut self,
        workload: &'a Workload,
        destination: SocketAddr,
    ) -> Result<Upstream<'a>, Refusal> {
        let Some(named) = workload.network_gateway() else {
            return Err(Refusal::no_valid_destination(workload));
        };
        let gateway = || Box::new(named.destination.clone());
        // The port of a gateway is its service's to list, like that of any destination.
        match self.gateway(named, destination, Purpose::Destination) {
            Some(Found::Upstream(upstream)) => Ok(upstream),
            Some(_) => Err(Refusal::NoHealthyGateway { gateway: gateway() }),
            None => Err(Refusal::UnknownGateway { gateway: gateway() }),
        }
    }

    /// The workload that stands for a gateway of either kind; none when nobody has told us of it.
    fn gateway(
        &mut self,
        gateway: &GatewayAddress,
        destination: SocketAddr,
        purpose: Purpose,
    ) -> Option<Found<'a>> {
        let port = gateway.hbone_mtls_port;
        match &gateway.destination {
            GatewayDestination::Address(address) => {
                let at = SocketAddr::new(address.ip, port);
                self.is_known(gateway).then(|| self.upstream(&address.network, at, purpose))
            }
            GatewayDestination::Hostname(name) => {
                let at = SocketAddr::new(destination.ip(), port);
                if let Some(service) = self.snapshot.service(name) {
                    return Some(self.endpoint(service, at, purpose));
                }
                let workload = self.snapshot.workload_by_hostname(name)?;
                Some(self.workload(workload, at))
            }
        }
    }

    /// The waypoint a service wants this connection to pass, if any.
    pub(super) fn waypoint_of(&mut self, service: &'a Service) -> Option<&'a GatewayAddress> {
        let weights = service.weighted_waypoints.iter().map(|one| u64::from(one.weight)).sum();
        let mut offset = self.chance.below(weights);
        let drawn = service.weighted_waypoints.iter().find(|one| {
            let is_it = offset < u64::from(one.weight);
            offset = offset.saturating_sub(u64::from(one.weight));
            is_it
        });
        drawn.map(|one| &one.destination).or(service.waypoint.as_ref())
    }

    /// The address at which to dial a workload that was chosen. One that is on another network has none but for a
    /// gateway, which is dialled from without.
    pub(super) fn address(&mut self, upstream: &Upstream<'a>) -> Result<IpAddr, Refusal> {
        let workload = upstream.workload;
        let families = upstream.families();
        address_of(self.snapshot, workload, families, upstream.original, &mut self.chance)
            .ok_or_else(|| match workload.hostname() {
                "" => Refusal::no_valid_destination(workload),
                hostname => Refusal::Unresolved {
                    workload: workload.name().into(),
                    hostname: hostname.into(),
                },
            })
    }

    /// Chooses an endpoint that can be reached; or else one that cannot, for the refusal to name.
    pub(super) fn endpoint(
        &mut self,
        service: &'a Arc<Service>,
        address: SocketAddr,
        purpose: Purpose,
    ) -> Found<'a> {
        if service.load_balancer.mode == LoadBalancerMode::Passthrough {
            return Found::Passthrough;
        }
        let Some(endpoints) = self.snapshot.endpoints_named(&service.id) else {
            return Found::Nothing;
        };
        let serves = |endpoint: &Endpoint| self.serves(service, endpoint, address.port(), purpose);
        let can_be_reached =
            |endpoint: &Endpoint| serves(endpoint) && self.reaches(service, endpoint, address.ip());
        let mut chance = self.chance.clone();
        let chosen = balance::choose(endpoints, self.source, &mut chance, can_be_reached)
            .or_else(|| balance::choose(endpoints, self.source, &mut chance, serves));
        self.chance = chance;
        let upstream = chosen.and_then(|endpoint| {
            Some(Upstream {
                workload: endpoint.workload(),
                service: Some(service),
                port: target_port(service, endpoint, address.port(), purpose)?,
                original: address.ip(),
            })
        });
        upstream.map_or(Found::Nothing, Found::Upstream)
    }

    /// Every endpoint that can be reached; the nearest by the service's own word, or if `everywhere`, all.
    #[cfg(feature = "waypoint")]
    pub(super) fn endpoints(
        &self,
        service: &'a Arc<Service>,
        address: SocketAddr,
        everywhere: bool,
    ) -> Vec<Upstream<'a>> {
        let purpose = Purpose::Destination;
        if service.load_balancer.mode == LoadBalancerMode::Passthrough {
            return Vec::new();
        }
        let Some(endpoints) = self.snapshot.endpoints_named(&service.id) else { return Vec::new() };
        let can_be_reached = |endpoint: &Endpoint| {
            self.serves(service, endpoint, address.port(), purpose)
                && self.reaches(service, endpoint, address.ip())
        };
        let found = match everywhere {
            true => endpoints.ready().iter().filter(|endpoint| can_be_reached(endpoint)).collect(),
            false => balance::nearest(endpoints, self.source, can_be_reached),
        };
        let upstreams = found.into_iter().filter_map(|endpoint| {
            Some(Upstream {
                workload: endpoint.workload(),
                service: Some(service),
                port: target_port(service, endpoint, address.port(), purpose)?,
                original: address.ip(),
            })
        });
        upstreams.collect()
    }

    /// Whether an endpoint is one for this port.
    fn serves(&self, service: &Service, endpoint: &Endpoint, port: u16, purpose: Purpose) -> bool {
        let workload = endpoint.workload();
        let has_address = !workload.addresses().is_empty() || !workload.hostname().is_empty();
        let has_gateway = !self.is_on_our_network(workload) && workload.network_gateway().is_some();
        (has_address || has_gateway)
            && !self.was_dialled_in_vain(workload)
            && target_port(service, endpoint, port, purpose).is_some()
    }

    /// Whether it is known where an endpoint is dialled.
    fn reaches(&self, service: &Service, endpoint: &Endpoint, original: IpAddr) -> bool {
        let (workload, families) = (endpoint.workload(), service.ip_families);
        if self.is_on_our_network(workload) {
            let mut any = Chance::new(0);
            address_of(self.snapshot, workload, families, original, &mut any).is_some()
        } else {
            workload.network_gateway().is_some_and(|gateway| self.is_known(gateway))
        }
    }

    fn is_known(&self, gateway: &GatewayAddress) -> bool {
        knows(self.snapshot, gateway, self.source.namespace())
    }

    pub(super) fn is_on_our_network(&self, workload: &Workload) -> bool {
        workload.network() == self.source.network()
    }

    fn was_dialled_in_vain(&self, workload: &Workload) -> bool {
        self.except.iter().any(|other| other.uid() == workload.uid())
    }
}

/// Whether anybody has told us of a gateway of either kind.
pub(super) fn knows(snapshot: &Snapshot, gateway: &GatewayAddress, client_namespace: &str) -> bool {
    match &gateway.destination {
        GatewayDestination::Address(at) => {
            snapshot.service_by_vip(&at.network, at.ip, client_namespace).is_some()
                || snapshot.workload_by_address(&at.network, at.ip).is_some()
        }
        GatewayDestination::Hostname(name) => {
            snapshot.service(name).is_some() || snapshot.workload_by_hostname(name).is_some()
        }
    }
}

impl Upstream<'_> {
    /// Who may answer at that workload's proxy: it, or anybody its service names.
    pub(super) fn expected(&self) -> Arc<[Identity]> {
        let own = self.workload.identities();
        let named = || {
            let names = self.service.into_iter().flat_map(|service| &service.subject_alt_names);
            names.filter_map(|name| name.identity()).filter(|name| !own.contains(name))
        };
        match named().next() {
            None => Arc::clone(own),
            Some(_) => named().chain(own.iter()).cloned().collect(),
        }
    }

    /// Who may answer behind a network's gateway: whom its service names, and nobody else.
    pub(super) fn expected_of_service(&self) -> Arc<[Identity]> {
        let names = self.service.into_iter().flat_map(|service| &service.subject_alt_names);
        names.filter_map(|name| name.identity()).cloned().collect()
    }

    fn families(&self) -> IpFamilies {
        self.service.map(|service| service.ip_families).unwrap_or_default()
    }
}

/// The workload's port behind a port of the service: the endpoint's own word first, then the service's.
fn target_port(
    service: &Service,
    endpoint: &Endpoint,
    service_port: u16,
    purpose: Purpose,
) -> Option<u16> {
    let listed = service.port(service_port);
    if purpose == Purpose::Destination && listed.is_none() {
        return None;
    }
    let tunnel = endpoint.workload().application_tunnel();
    let is_waypoints_own = listed.is_none() && tunnel.is_none();
    if purpose == Purpose::Waypoint && is_waypoints_own {
        return None;
    }
    let of_service = listed.map(|port| port.target_port).filter(|&port| port > 0);
    let of_tunnel = tunnel
        .filter(|tunnel| purpose == Purpose::Waypoint && tunnel.port.is_some())
        .map(|_| service_port);
    endpoint.membership().target_port(service_port).or(of_service).or(of_tunnel)
}

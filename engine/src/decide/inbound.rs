//! What an inbound connection is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ringway_protocols::hbone::Authority;

use super::refusal::Refusal;
use crate::snapshot::{
    ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Service, Snapshot, Workload,
};

/// What an inbound connection is connected to.
#[derive(Clone, Debug)]
pub struct InboundTarget {
    /// What to dial.
    pub address: SocketAddr,
    /// Whether the dial may come from the client's address. Over loopback it may not.
    pub as_client: bool,
    /// What policies see as the destination: the workload's own address and the port that is dialled.
    pub destination: SocketAddr,
    /// The destination to announce in a PROXY protocol header before the first byte, if there is to be one.
    pub proxy_protocol: Option<SocketAddr>,
    /// The service to announce with it: the one whose name or address the client asked for.
    pub announced_service: Option<Arc<Service>>,
    /// The service the client named, when it named one. See [`inbound_service`] otherwise.
    pub destination_service: Option<Arc<Service>>,
}

/// Decides what a CONNECT for `authority` that reached `local` at `local_address` is connected to.
///
/// # Errors
/// [`Refusal`], with the status to answer.
pub fn inbound_tunnel(
    snapshot: &Snapshot,
    local: &Workload,
    local_address: IpAddr,
    authority: &Authority,
) -> Result<InboundTarget, Refusal> {
    let local_address = local_address.to_canonical();
    let (announced, port, service) = match authority {
        Authority::Address(address) => {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            if !is_ours(snapshot, local, local_address, address.ip()) {
                let authority = address.ip();
                return Err(Refusal::IpMismatch { local: local_address, authority });
            }
            (address, address.port(), None)
        }
        Authority::Hostname { host, port } => {
            let service = service_named(snapshot, local, host)?;
            let target_port = target_port(service, local, *port)?;
            let vip = service.vip_for(local.network()).unwrap_or(local_address);
            (SocketAddr::new(vip, *port), target_port, Some(service))
        }
    };
    if snapshot.settings().is_own_port(port) {
        return Err(Refusal::SelfCall);
    }
    let tunnel = local.application_tunnel();
    let port = tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port);
    let writes_header =
        tunnel.is_some_and(|tunnel| tunnel.protocol == ApplicationTunnelProtocol::Proxy);
    let over_loopback = writes_header && snapshot.settings().application_tunnel_over_loopback;
    let announced_service = writes_header
        .then(|| service.or_else(|| service_at(snapshot, local, announced.ip())).cloned())
        .flatten();
    let dialled = if over_loopback { loopback_like(local_address) } else { local_address };
    Ok(InboundTarget {
        address: SocketAddr::new(dialled, port),
        as_client: !over_loopback,
        destination: SocketAddr::new(local_address, port),
        proxy_protocol: writes_header.then_some(announced),
        announced_service,
        destination_service: service.cloned(),
    })
}

/// Decides what a connection without a tunnel, on its way to `original_destination`, is connected to.
///
/// # Errors
/// [`Refusal::SelfCall`] when that is a port of ours.
pub fn inbound_plaintext(
    snapshot: &Snapshot,
    local: &Workload,
    original_destination: SocketAddr,
) -> Result<InboundTarget, Refusal> {
    let destination =
        SocketAddr::new(original_destination.ip().to_canonical(), original_destination.port());
    if snapshot.settings().is_own_port(destination.port()) {
        return Err(Refusal::SelfCall);
    }
    Ok(InboundTarget {
        address: destination,
        as_client: true,
        destination,
        proxy_protocol: None,
        announced_service: None,
        destination_service: inbound_service(snapshot, local, destination.port(), None).cloned(),
    })
}

/// The service that has this address, if no workload does.
fn service_at<'a>(
    snapshot: &'a Snapshot,
    local: &Workload,
    address: IpAddr,
) -> Option<&'a Arc<Service>> {
    match snapshot.workload_by_address(local.network(), address) {
        Some(_) => None,
        None => snapshot.service_by_vip(local.network(), address, local.namespace()),
    }
}

/// The service that a client of `local` most likely meant, for telemetry: the one it says it called, if
/// `local` is an endpoint of that; or else the first whose port leads to `port`.
pub fn inbound_service<'a>(
    snapshot: &'a Snapshot,
    local: &Workload,
    port: u16,
    forwarded_host: Option<&str>,
) -> Option<&'a Arc<Service>> {
    let services = || {
        local
            .services()
            .iter()
            .filter_map(|membership| Some((membership, snapshot.service(&membership.service)?)))
    };
    if let Some(host) = forwarded_host
        && let Some((_, service)) = services().find(|(_, service)| service.hostname() == host)
    {
        return Some(service);
    }
    let leads_there = |service: &Service| {
        let ports = service.ports.iter();
        ports.map(|listed| listed.service_port).any(|service_port| {
            target_port(service, local, service_port).is_ok_and(|target| target == port)
        })
    };
    services().find(|(_, service)| leads_there(service)).map(|(_, service)| service)
}

/// Whether `workload` is what `gateway` names, or an endpoint of it.
pub(super) fn is_part_of(
    snapshot: &Snapshot,
    gateway: &GatewayAddress,
    workload: &Workload,
) -> bool {
    let (service, other) = named_by(snapshot, gateway, workload.namespace());
    service.is_some_and(|service| workload.membership(&service.id).is_some())
        || other.is_some_and(|other| other.uid() == workload.uid())
}

/// The service and the workload that `gateway` names, as far as anybody has told us.
pub(super) fn named_by<'a>(
    snapshot: &'a Snapshot,
    gateway: &GatewayAddress,
    client_namespace: &str,
) -> (Option<&'a Arc<Service>>, Option<&'a Arc<Workload>>) {
    match &gateway.destination {
        GatewayDestination::Address(at) => (
            snapshot.service_by_vip(&at.network, at.ip, client_namespace),
            snapshot.workload_by_address(&at.network, at.ip),
        ),
        GatewayDestination::Hostname(name) => {
            (snapshot.service(name), snapshot.workload_by_hostname(name))
        }
    }
}

/// Whether a CONNECT for this address may end here: it is ours, or our application tells for itself, or
/// we are the waypoint of what has it.
fn is_ours(
    snapshot: &Snapshot,
    local: &Workload,
    local_address: IpAddr,
    authority: IpAddr,
) -> bool {
    if authority == local_address || local.application_tunnel().is_some() {
        return true;
    }
    let network = local.network();
    if let Some(workload) = snapshot.workload_by_address(network, authority) {
        return workload.waypoint().is_some_and(|gateway| is_part_of(snapshot, gateway, local));
    }
    snapshot
        .service_by_vip(network, authority, local.namespace())
        .is_some_and(|service| is_waypoint_of(snapshot, service, local))
}

pub(super) fn is_waypoint_of(snapshot: &Snapshot, service: &Service, local: &Workload) -> bool {
    let weighted = service.weighted_waypoints.iter().filter(|one| one.weight > 0);
    let mut gateways = weighted.map(|one| &one.destination).chain(&service.waypoint);
    gateways.any(|gateway| is_part_of(snapshot, gateway, local))
}

/// The service of this hostname that may end here: the best that `local` is an endpoint of; or else the
/// best of all, if our application tells for itself or we are its waypoint.
fn service_named<'a>(
    snapshot: &'a Snapshot,
    local: &Workload,
    hostname: &str,
) -> Result<&'a Arc<Service>, Refusal> {
    let namespace = local.namespace();
    let is_endpoint = |service: &Service| local.membership(&service.id).is_some();
    if let Some(service) = snapshot.service_by_hostname_if(hostname, namespace, is_endpoint) {
        return Ok(service);
    }
    let Some(service) = snapshot.service_by_hostname(hostname, namespace) else {
        return Err(Refusal::UnknownHostname { hostname: hostname.into() });
    };
    if local.application_tunnel().is_some() || is_waypoint_of(snapshot, service, local) {
        return Ok(service);
    }
    Err(Refusal::NotAnEndpoint { workload: local.name().into(), service: service.id.clone() })
}

fn target_port(service: &Service, local: &Workload, port: u16) -> Result<u16, Refusal> {
    let of_endpoint =
        local.membership(&service.id).and_then(|membership| membership.target_port(port));
    let of_service = || service.port(port).map(|port| port.target_port).filter(|&port| port > 0);
    of_endpoint
        .or_else(of_service)
        .ok_or_else(|| Refusal::UnknownPort { service: service.id.clone(), port })
}

fn loopback_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

//! What a snapshot lacks to decide about a connection, where workloads and services are told only when they are asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringway_protocols::hbone::Authority;

use super::inbound::{inbound_tunnel, named_by};
use super::refusal::Refusal;
use super::upstream::knows;
use crate::snapshot::{GatewayAddress, GatewayDestination, Service, Snapshot, Workload};

/// Endpoints of a service whose gateways are looked at; the others are asked about when it is their turn.
const ENDPOINTS_LOOKED_AT: usize = 64;

/// The name to ask about next, before it can be decided where the connection goes: that of the destination, then that of
/// a waypoint on the way, then that of the gateway to what is on another network. None when everything is there, or was
/// asked about and is not there.
pub fn missing(snapshot: &Snapshot, source: &Workload, destination: SocketAddr) -> Option<String> {
    let (network, ip) = (source.network(), destination.ip().to_canonical());
    if ip.is_loopback() {
        return None;
    }
    let namespace = source.namespace();
    let workload = snapshot.workload_by_address(network, ip);
    let service = snapshot.service_by_vip(network, ip, namespace);
    if workload.is_none() && service.is_none() {
        return unanswered(snapshot, format!("{network}/{ip}"));
    }
    let waypoints = || waypoints_of(service, workload);
    // Who is behind a waypoint is for that to find.
    let endpoints = service.filter(|_| waypoints().next().is_none());
    let endpoints = endpoints.into_iter().flat_map(|service| endpoints_of(snapshot, service));
    let next = waypoints().flat_map(|waypoint| standing_for(snapshot, waypoint, namespace));
    let gateways = endpoints
        .chain(next)
        .filter(|workload| workload.network() != network)
        .filter_map(|workload| workload.network_gateway());
    unknown(snapshot, waypoints().chain(gateways), namespace)
}

/// The same before it can be decided whether a CONNECT for `authority` that reached `local` at `local_address` may end
/// here: the name of what is asked for, then that of its waypoint, which `local` may prove to be.
pub fn missing_inbound(
    snapshot: &Snapshot,
    local: &Workload,
    local_address: IpAddr,
    authority: &Authority,
) -> Option<String> {
    use Refusal::{IpMismatch, NotAnEndpoint, UnknownHostname};
    let decided = inbound_tunnel(snapshot, local, local_address, authority);
    let Err(IpMismatch { .. } | NotAnEndpoint { .. } | UnknownHostname { .. }) = decided else {
        return None;
    };
    let (network, namespace) = (local.network(), local.namespace());
    let (service, workload) = match authority {
        Authority::Address(address) => {
            let ip = address.ip().to_canonical();
            let workload = snapshot.workload_by_address(network, ip);
            let service = snapshot.service_by_vip(network, ip, namespace);
            if workload.is_none() && service.is_none() {
                let name = || unanswered(snapshot, format!("{network}/{ip}"));
                return (!ip.is_loopback()).then(name).flatten();
            }
            (service.filter(|_| workload.is_none()), workload)
        }
        // Only of its own services it is known in which namespace they are.
        Authority::Hostname { host, .. } => {
            let own = local.services().iter().map(|membership| &membership.service);
            let mut untold =
                own.filter(|name| name.hostname() == &**host && snapshot.service(name).is_none());
            if let Some(name) = untold.find_map(|name| unanswered(snapshot, name.to_string())) {
                return Some(name);
            }
            (snapshot.service_by_hostname(host, namespace), None)
        }
    };
    unknown(snapshot, waypoints_of(service, workload), namespace)
}

/// The waypoints that a connection to these may have to pass.
fn waypoints_of<'a>(
    service: Option<&'a Arc<Service>>,
    workload: Option<&'a Arc<Workload>>,
) -> impl Iterator<Item = &'a GatewayAddress> {
    let weighted = service.into_iter().flat_map(|service| &service.weighted_waypoints);
    let weighted = weighted.filter(|one| one.weight > 0).map(|one| &one.destination);
    let one = service.and_then(|service| service.waypoint.as_ref());
    weighted.chain(one).chain(workload.and_then(|workload| workload.waypoint()))
}

fn endpoints_of<'a>(
    snapshot: &'a Snapshot,
    service: &Service,
) -> impl Iterator<Item = &'a Arc<Workload>> {
    let endpoints = snapshot.endpoints_named(&service.id);
    let endpoints = endpoints.into_iter().flat_map(|endpoints| endpoints.ready().iter());
    endpoints.take(ENDPOINTS_LOOKED_AT).map(|endpoint| endpoint.workload())
}

/// Who may be dialled for a gateway of either kind, as far as it was told.
fn standing_for<'a>(
    snapshot: &'a Snapshot,
    gateway: &GatewayAddress,
    namespace: &str,
) -> impl Iterator<Item = &'a Arc<Workload>> {
    let (service, workload) = named_by(snapshot, gateway, namespace);
    let endpoints = service.into_iter().flat_map(move |service| endpoints_of(snapshot, service));
    endpoints.chain(workload.filter(|_| service.is_none()))
}

/// The name of the first of these that nobody has told us of and that was not asked about.
fn unknown<'a>(
    snapshot: &Snapshot,
    mut gateways: impl Iterator<Item = &'a GatewayAddress>,
    namespace: &str,
) -> Option<String> {
    gateways.find_map(|gateway| match knows(snapshot, gateway, namespace) {
        true => None,
        false => unanswered(snapshot, name_of(gateway)),
    })
}

fn unanswered(snapshot: &Snapshot, name: String) -> Option<String> {
    (!snapshot.is_answered(&name)).then_some(name)
}

fn name_of(gateway: &GatewayAddress) -> String {
    match &gateway.destination {
        GatewayDestination::Address(at) => format!("{}/{}", at.network, at.ip),
        GatewayDestination::Hostname(name) => name.to_string(),
    }
}

//! What a snapshot lacks to decide about a connection, where workloads and services are told only when they are asked for.

use std::net::SocketAddr;

use super::upstream::knows;
use crate::snapshot::{GatewayAddress, GatewayDestination, Service, Snapshot, Workload};

/// Endpoints of a service whose gateways are looked at; the others are asked about when it is their turn.
const ENDPOINTS_LOOKED_AT: usize = 64;

/// The name to ask about next, before it can be decided where the connection goes: that of the destination, then that of
/// a waypoint or gateway on the way. None when everything is there, or was asked about and is not there.
pub fn missing(snapshot: &Snapshot, source: &Workload, destination: SocketAddr) -> Option<String> {
    let (network, ip) = (source.network(), destination.ip().to_canonical());
    if ip.is_loopback() {
        return None;
    }
    let workload = snapshot.workload_by_address(network, ip);
    let service = snapshot.service_by_vip(network, ip, source.namespace());
    let unanswered = |name: String| (!snapshot.is_answered(&name)).then_some(name);
    if workload.is_none() && service.is_none() {
        return unanswered(format!("{network}/{ip}"));
    }
    let waypoints = service.into_iter().flat_map(|service| waypoints_of(service));
    let waypoint = workload.and_then(|workload| workload.waypoint());
    let endpoints = service.and_then(|service| snapshot.endpoints_named(&service.id));
    let endpoints = endpoints.into_iter().flat_map(|endpoints| endpoints.ready().iter());
    let elsewhere = endpoints
        .take(ENDPOINTS_LOOKED_AT)
        .map(|endpoint| endpoint.workload())
        .filter(|workload| workload.network() != network)
        .filter_map(|workload| workload.network_gateway());
    let namespace = source.namespace();
    waypoints
        .chain(waypoint)
        .chain(elsewhere)
        .filter(|gateway| !knows(snapshot, gateway, namespace))
        .find_map(|gateway| unanswered(name_of(gateway)))
}

fn waypoints_of(service: &Service) -> impl Iterator<Item = &GatewayAddress> {
    let weighted = service.weighted_waypoints.iter().map(|one| &one.destination);
    service.waypoint.iter().chain(weighted)
}

fn name_of(gateway: &GatewayAddress) -> String {
    match &gateway.destination {
        GatewayDestination::Address(at) => format!("{}/{}", at.network, at.ip),
        GatewayDestination::Hostname(name) => name.to_string(),
    }
}

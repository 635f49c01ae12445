//! Tables of decisions.

mod authorize;
mod balance;
#[cfg(feature = "waypoint")]
mod fronted;
mod inbound;
mod invariants;
mod missing;
mod networks;
mod outbound;
mod waypoints;

use ringway_protocols::identity::Identity;

use super::*;
use crate::snapshot::fixture::{With, gateway, mesh, pod, port, serves, service};
use crate::snapshot::{
    LoadBalancerMode, Service, Snapshot, SubjectAltName, TunnelProtocol, WorkloadDescription,
};

struct Row {
    name: &'static str,
    mesh: Snapshot,
    destination: &'static str,
    want: &'static str,
}

/// A row of the table: in a mesh of these pods (and the client) and services, where does this go?
fn row<const P: usize, const S: usize>(
    name: &'static str,
    pods: [WorkloadDescription; P],
    services: [Service; S],
    destination: &'static str,
    want: &'static str,
) -> Row {
    let pods = pods.into_iter().chain([pod("client", "10.1.0.99")]);
    Row { name, mesh: mesh(pods, services), destination, want }
}

fn check(rows: impl IntoIterator<Item = Row>) {
    for Row { name, mesh, destination, want } in rows {
        assert_eq!(from_client(&mesh, destination), want, "{name}");
    }
}

fn web() -> WorkloadDescription {
    pod("web-1", "10.1.0.1").with(|pod| pod.services = vec![serves("web", [])])
}

fn web_service() -> Service {
    service("web", "10.2.0.1")
}

fn tcp(pod: &mut WorkloadDescription) {
    pod.protocol = TunnelProtocol::Tcp;
}

fn passthrough(service: &mut Service) {
    service.load_balancer.mode = LoadBalancerMode::Passthrough;
}

fn elsewhere(pod: &mut WorkloadDescription) {
    pod.network = "n2".to_owned();
    pod.network_gateway = Some(gateway("10.8.0.1"));
}

/// What joins the network of those elsewhere to the client's.
fn gateway_pod() -> WorkloadDescription {
    pod("gateway-1", "10.8.0.1")
}

fn named_by_service(service: &mut Service) {
    let names = ["spiffe://cluster.local/ns/shop/sa/web", "web.example"];
    service.subject_alt_names = names.map(SubjectAltName::from).into();
}

fn waypoint_pod() -> WorkloadDescription {
    pod("waypoint-1", "10.1.0.40").with(|pod| pod.services = vec![serves("waypoint", [])])
}

fn waypoint_service() -> Service {
    service("waypoint", "10.2.0.40").with(|service| service.ports = Box::new([port(15008, 15008)]))
}

fn through_waypoint(service: &mut Service) {
    service.waypoint = Some(gateway("shop/waypoint"));
}

/// A route or a refusal on one line: how, to whom, asking for what; the workload dialled; the service meant.
fn tell(result: &Result<Route, Refusal>) -> String {
    let route = match result {
        Ok(route) => route,
        Err(refusal) => return format!("refused: {refusal}"),
    };
    let how = match &route.next_hop {
        NextHop::Tunnel { peer, expected, authority } => {
            format!("tunnel {peer} as {} for {authority}", names_of(expected))
        }
        NextHop::DoubleTunnel { gateway, expected, authority, expected_inside } => format!(
            "tunnel {gateway} as {}, in it one as {}, both for {authority}",
            names_of(expected),
            names_of(expected_inside)
        ),
        NextHop::Direct { address } => format!("direct {address}"),
        NextHop::PassThrough { address } => format!("pass {address}"),
    };
    let workload = route.destination_workload.as_ref().map_or("-", |workload| workload.name());
    let service = route.destination_service.as_ref().map_or("-", |service| &*service.name);
    format!("{how} | {workload} | {service}")
}

fn names_of(identities: &[Identity]) -> String {
    let name = |one: &Identity| format!("{}/{}", one.namespace(), one.service_account());
    identities.iter().map(name).collect::<Vec<_>>().join(" or ")
}

/// Where `shop/client`, at 10.1.0.99, gets when it connects to `destination`.
fn from_client(snapshot: &Snapshot, destination: &str) -> String {
    from(snapshot, "client", destination)
}

fn from(snapshot: &Snapshot, name: &str, destination: &str) -> String {
    let source = snapshot.workload_by_uid(&format!("c1//Pod/shop/{name}")).unwrap();
    tell(&outbound(snapshot, source, destination.parse().unwrap(), 7))
}

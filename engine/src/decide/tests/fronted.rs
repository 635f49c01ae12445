//! What a waypoint is asked for, and where it sends that.

use std::net::SocketAddr;

use ringway_protocols::hbone::Authority;

use super::{through_waypoint, waypoint_pod, waypoint_service, web, web_service};
use crate::decide::{Fronted, NextHop, behind_waypoint, fronted};
use crate::snapshot::Snapshot;
use crate::snapshot::fixture::{With, gateway, mesh, pod, port, service};

fn world() -> Snapshot {
    let guarded = pod("guarded", "10.1.0.7").with(|pod| pod.waypoint = Some(gateway("10.1.0.40")));
    let other = service("other", "10.2.0.2").with(|it| it.ports = Box::new([port(80, 80)]));
    mesh(
        [web(), waypoint_pod(), guarded, pod("free", "10.1.0.8")],
        [web_service().with(through_waypoint), waypoint_service(), other],
    )
}

fn asked(snapshot: &Snapshot, authority: &str) -> String {
    let local = snapshot.workload_by_uid(&waypoint_pod().uid).expect("it is there");
    let authority = Authority::parse(authority).expect("well formed");
    match fronted(snapshot, local, &authority) {
        Ok(Fronted::Service(service, port)) => format!("{}:{port}", service.hostname()),
        Ok(Fronted::Workload(workload, address)) => format!("{} at {address}", workload.name()),
        Err(refusal) => refusal.status().to_string(),
    }
}

#[test]
fn only_what_names_the_waypoint_is_behind_it() {
    let snapshot = world();
    let rows = [
        ("a service by its address", "10.2.0.1:80", "web.example:80"),
        ("a service by its name", "web.example:80", "web.example:80"),
        ("a port that it does not have", "10.2.0.1:81", "503"),
        ("a service without a waypoint", "10.2.0.2:80", "400"),
        ("the same by its name", "other.example:80", "400"),
        ("a workload", "10.1.0.7:8080", "guarded at 10.1.0.7:8080"),
        ("a workload without a waypoint", "10.1.0.8:8080", "400"),
        ("an endpoint of the service, which names none itself", "10.1.0.1:80", "400"),
        ("nobody", "10.9.9.9:80", "400"),
    ];
    for (name, authority, want) in rows {
        assert_eq!(asked(&snapshot, authority), want, "{name}");
    }
}

#[test]
fn what_a_waypoint_sends_goes_to_no_other_waypoint() {
    let snapshot = world();
    let local = snapshot.workload_by_uid(&waypoint_pod().uid).expect("it is there");
    let web = snapshot.services().find(|service| service.hostname() == "web.example");
    let web = web.expect("it is there");
    let route = behind_waypoint(&snapshot, local, web, 80, 7, &[]).expect("an endpoint");
    let endpoint: SocketAddr = "10.1.0.1:8080".parse().expect("an address");
    assert!(
        matches!(&route.next_hop, NextHop::Tunnel { authority: Authority::Address(to), .. } if *to == endpoint),
        "{route:?}"
    );
    let in_vain = [route.destination_workload.expect("a workload")];
    behind_waypoint(&snapshot, local, web, 80, 7, &in_vain).expect_err("nobody is left");
}

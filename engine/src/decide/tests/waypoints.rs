//! Waypoints: found in every way they can be named, and never bypassed.

use super::{
    check, elsewhere, from, from_client, gateway_pod, named_by_service, passthrough, row, tcp,
    through_waypoint, waypoint_pod, waypoint_service, web, web_service,
};
use crate::decide::outbound;
use crate::snapshot::fixture::{With, gateway, ips, mesh, pod, port, serves, service};
use crate::snapshot::{
    ApplicationTunnel, ApplicationTunnelProtocol, Service, SubjectAltName, WeightedWaypoint,
    WorkloadDescription,
};

fn behind(waypoint: &'static str) -> impl FnOnce(&mut Service) {
    move |service| service.waypoint = Some(gateway(waypoint))
}

fn guarded_by(waypoint: &'static str) -> impl FnOnce(&mut WorkloadDescription) {
    move |pod| pod.waypoint = Some(gateway(waypoint))
}

#[test]
fn waypoints_of_services() {
    let want = "tunnel 10.1.0.40:15008 as shop/waypoint for 10.2.0.1:80 | waypoint-1 | web";
    let odd_port =
        || waypoint_pod().with(|pod| pod.services = vec![serves("waypoint", [(15008, 25008)])]);
    let sandwiched = |port| {
        let protocol = ApplicationTunnelProtocol::Proxy;
        waypoint_pod()
            .with(|pod| pod.application_tunnel = Some(ApplicationTunnel { protocol, port }))
    };
    let web_only = || waypoint_service().with(|service| service.ports = Box::new([port(80, 80)]));
    check([
        row(
            "by hostname of a service",
            [web(), waypoint_pod()],
            [web_service().with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            want,
        ),
        row(
            "by address of a service",
            [web(), waypoint_pod()],
            [web_service().with(behind("10.2.0.40")), waypoint_service()],
            "10.2.0.1:80",
            want,
        ),
        row(
            "by address of a workload",
            [web(), waypoint_pod()],
            [web_service().with(behind("10.1.0.40"))],
            "10.2.0.1:80",
            want,
        ),
        row(
            "by hostname of a workload",
            [web(), waypoint_pod().with(|pod| pod.hostname = "alone.example".to_owned())],
            [web_service().with(behind("shop/alone"))],
            "10.2.0.1:80",
            want,
        ),
        row(
            "even when the service itself has no endpoint",
            [waypoint_pod()],
            [web_service().with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            want,
        ),
        row(
            "on the port that its endpoint names",
            [odd_port()],
            [web_service().with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            "tunnel 10.1.0.40:25008 as shop/waypoint for 10.2.0.1:80 | waypoint-1 | web",
        ),
        row(
            "one that hides behind our own proxy need not list the port",
            [sandwiched(Some(15088))],
            [web_service().with(through_waypoint), web_only()],
            "10.2.0.1:80",
            want,
        ),
        row(
            "but then its tunnel must name one",
            [sandwiched(None)],
            [web_service().with(through_waypoint), web_only()],
            "10.2.0.1:80",
            "refused: no healthy upstream: waypoint shop/waypoint.example",
        ),
        row(
            "one that does not list the port and has no tunnel cannot be used",
            [waypoint_pod()],
            [web_service().with(through_waypoint), web_only()],
            "10.2.0.1:80",
            "refused: no healthy upstream: waypoint shop/waypoint.example",
        ),
        row(
            "an unknown hostname is never bypassed",
            [web()],
            [web_service().with(through_waypoint)],
            "10.2.0.1:80",
            "refused: unknown waypoint: shop/waypoint.example",
        ),
        row(
            "an unknown address is never bypassed",
            [web()],
            [web_service().with(behind("10.2.0.40"))],
            "10.2.0.1:80",
            "refused: unknown waypoint: /10.2.0.40",
        ),
        row(
            "one without endpoints is never bypassed",
            [web()],
            [web_service().with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            "refused: no healthy upstream: waypoint shop/waypoint.example",
        ),
        row(
            "one that passes everything through is no waypoint",
            [web(), waypoint_pod()],
            [web_service().with(through_waypoint), waypoint_service().with(passthrough)],
            "10.2.0.1:80",
            "refused: no healthy upstream: waypoint shop/waypoint.example",
        ),
        row(
            "one on another network is reached through its gateway, and asked for the service's name",
            [web(), waypoint_pod().with(elsewhere), gateway_pod()],
            [
                web_service().with(through_waypoint),
                waypoint_service().with(|service| {
                    let name = "spiffe://cluster.local/ns/shop/sa/waypoint";
                    service.subject_alt_names = Box::new([SubjectAltName::from(name)]);
                }),
            ],
            "10.2.0.1:80",
            "tunnel 10.8.0.1:15008 as shop/gateway, in it one as shop/waypoint, both for \
             web.example:80 | gateway-1 | web",
        ),
        row(
            "behind a gateway the names are the waypoint's service's, and no others",
            [waypoint_pod().with(elsewhere), gateway_pod()],
            [web_service().with(named_by_service).with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            "refused: service shop/waypoint.example names no identity (subjectAltNames) for its \
             endpoints on another network",
        ),
        row(
            "one on another network whose gateway nobody knows is not bypassed",
            [web(), waypoint_pod().with(elsewhere)],
            [web_service().with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            "refused: unknown network gateway: /10.8.0.1",
        ),
        row(
            "its address is of the family the client used",
            [waypoint_pod().with(|pod| pod.addresses = ips("fd00::40 10.1.0.40"))],
            [web_service().with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            want,
        ),
        row(
            "or of the family of its own address",
            [waypoint_pod().with(|pod| pod.addresses = ips("10.1.0.40 fd00::40"))],
            [
                web_service().with(behind("fd00::f")),
                service("waypoint", "fd00::f")
                    .with(|service| service.ports = Box::new([port(15008, 15008)])),
            ],
            "10.2.0.1:80",
            "tunnel [fd00::40]:15008 as shop/waypoint for 10.2.0.1:80 | waypoint-1 | web",
        ),
    ]);
}

#[test]
fn weighted_waypoints() {
    let weighted = |weights: [(&str, u32); 2]| {
        web_service().with(behind("shop/waypoint")).with(|service| {
            service.weighted_waypoints = weights
                .map(|(name, weight)| WeightedWaypoint { destination: gateway(name), weight })
                .into();
        })
    };
    let names = ["blue", "green", "waypoint"];
    let pods = || {
        names.into_iter().zip(1..).map(|(name, n)| {
            pod(&format!("{name}-1"), &format!("10.1.0.{n}"))
                .with(|pod| pod.services = vec![serves(name, [])])
        })
    };
    let services = || {
        names.map(|name| {
            service(name, "").with(|service| service.ports = Box::new([port(15008, 15008)]))
        })
    };
    //  name                                  weights                             of 4000: blue, green, waypoint
    let rows = [
        ("in proportion", [("shop/blue", 3), ("shop/green", 1)], [3000, 1000, 0]),
        ("weight 0 never", [("shop/blue", 0), ("shop/green", 7)], [0, 4000, 0]),
        ("all 0: the single one", [("shop/blue", 0), ("shop/green", 0)], [0, 0, 4000]),
    ];
    for (name, weights, want) in rows {
        let mesh = mesh(
            pods().chain([pod("client", "10.1.0.99")]),
            services().into_iter().chain([weighted(weights)]),
        );
        let client = mesh.workload_by_uid("c1//Pod/shop/client").unwrap();
        let mut got = [0i32; 3];
        for random in 0..4000 {
            let destination = "10.2.0.1:80".parse().unwrap();
            let route = outbound(&mesh, client, destination, random).unwrap();
            let chosen = route.destination_workload.unwrap();
            got[names.iter().position(|name| chosen.name().starts_with(name)).unwrap()] += 1;
        }
        for (got, want) in got.into_iter().zip(want) {
            let allowed = if want % 4000 == 0 { 0 } else { 150 };
            assert!((got - want).abs() <= allowed, "{name}: {got} for {want}");
        }
    }
    let gone = mesh([pod("client", "10.1.0.99")], [weighted([("shop/blue", 1), ("shop/blue", 1)])]);
    assert_eq!(
        from_client(&gone, "10.2.0.1:80"),
        "refused: unknown waypoint: shop/blue.example",
        "the one that was drawn is not bypassed through another"
    );
}

#[test]
fn waypoints_of_workloads() {
    check([
        row(
            "a workload's waypoint is asked for the workload's address",
            [web().with(guarded_by("shop/waypoint")), waypoint_pod()],
            [waypoint_service()],
            "10.1.0.1:9000",
            "tunnel 10.1.0.40:15008 as shop/waypoint for 10.1.0.1:9000 | waypoint-1 | -",
        ),
        row(
            "a workload found through a service is not sent to its own waypoint",
            [web().with(guarded_by("shop/waypoint")), waypoint_pod()],
            [web_service(), waypoint_service()],
            "10.2.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:8080 | web-1 | web",
        ),
        row(
            "a TCP workload's waypoint is not bypassed",
            [web().with(tcp).with(guarded_by("shop/waypoint")), waypoint_pod()],
            [waypoint_service()],
            "10.1.0.1:9000",
            "tunnel 10.1.0.40:15008 as shop/waypoint for 10.1.0.1:9000 | waypoint-1 | -",
        ),
        row(
            "a waypoint on another network cannot be asked for an address of this one",
            [
                web().with(guarded_by("shop/waypoint")),
                waypoint_pod().with(elsewhere),
                gateway_pod(),
            ],
            [waypoint_service()],
            "10.1.0.1:9000",
            "refused: no service for target address: 10.1.0.1:9000",
        ),
        row(
            "an unknown waypoint of a workload is never bypassed",
            [web().with(guarded_by("shop/waypoint"))],
            [],
            "10.1.0.1:9000",
            "refused: unknown waypoint: shop/waypoint.example",
        ),
    ]);
    let guarded = |waypoint| {
        mesh([web().with(guarded_by(waypoint)), waypoint_pod(), impostor()], [waypoint_service()])
    };
    let direct = "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:9000 | web-1 | -";
    let again = "tunnel 10.1.0.40:15008 as shop/waypoint for 10.1.0.1:9000 | waypoint-1 | -";
    for waypoint in ["shop/waypoint", "10.2.0.40", "10.1.0.40"] {
        let mesh = guarded(waypoint);
        assert_eq!(
            from(&mesh, "waypoint-1", "10.1.0.1:9000"),
            direct,
            "the waypoint itself is not sent to itself again ({waypoint})"
        );
        assert_eq!(
            from(&mesh, "waypoint-7", "10.1.0.1:9000"),
            again,
            "the right identity at another address is no waypoint ({waypoint})"
        );
    }
}

/// A pod with the waypoint's identity that is not part of the waypoint.
fn impostor() -> WorkloadDescription {
    pod("waypoint-7", "10.1.0.47")
}

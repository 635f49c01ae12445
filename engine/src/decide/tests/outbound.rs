//! Where connections go, row by row.

use std::sync::Arc;

use super::{from, from_client, tell};
use crate::decide::outbound_except;
use crate::snapshot::fixture::{With, cidr, gateway, ips, mesh, named, pod, port, serves, service};
use crate::snapshot::{
    ApplicationTunnel, ApplicationTunnelProtocol, Health, HealthPolicy, IpFamilies,
    LoadBalancerMode, Membership, NetworkCidr, NetworkMode, PortMapping, Service, Snapshot,
    SubjectAltName, TunnelProtocol, Visibility, WeightedWaypoint, WorkloadDescription,
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

#[test]
fn workloads_by_their_address() {
    check([
        row(
            "an unknown destination is passed through",
            [],
            [],
            "192.0.2.7:443",
            "pass 192.0.2.7:443 | - | -",
        ),
        row(
            "an HBONE workload is tunnelled to",
            [web()],
            [],
            "10.1.0.1:9000",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:9000 | web-1 | -",
        ),
        row(
            "an HBONE workload on the same node is tunnelled to all the same",
            [web().with(|pod| pod.node = String::new())],
            [],
            "10.1.0.1:9000",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:9000 | web-1 | -",
        ),
        row(
            "a TCP workload is reached directly",
            [web().with(tcp)],
            [],
            "10.1.0.1:9000",
            "direct 10.1.0.1:9000 | web-1 | -",
        ),
        row(
            "a mapped IPv4 address is the IPv4 address",
            [web()],
            [],
            "[::ffff:10.1.0.1]:9000",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:9000 | web-1 | -",
        ),
        row(
            "an IPv6 workload is tunnelled to by IPv6",
            [web().with(|pod| pod.addresses = ips("10.1.0.1 fd00::1"))],
            [],
            "[fd00::1]:9000",
            "tunnel [fd00::1]:15008 as shop/web for [fd00::1]:9000 | web-1 | -",
        ),
        row(
            "a workload on its host's network is not found by the host's address",
            [web().with(|pod| pod.network_mode = NetworkMode::HostNetwork)],
            [],
            "10.1.0.1:9000",
            "pass 10.1.0.1:9000 | - | -",
        ),
        row(
            "a workload of the same address on another network is not meant",
            [web().with(|pod| pod.network = "n2".to_owned())],
            [],
            "10.1.0.1:9000",
            "pass 10.1.0.1:9000 | - | -",
        ),
        row(
            "an unhealthy workload is still found by its address",
            [web().with(|pod| pod.health = Health::Unhealthy)],
            [],
            "10.1.0.1:9000",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:9000 | web-1 | -",
        ),
    ]);
}

#[test]
fn calls_to_ourselves() {
    check([
        row("our outbound port on loopback", [], [], "127.0.0.1:15001", REFUSED_SELF),
        row("our plaintext port on loopback", [], [], "127.0.0.9:15006", REFUSED_SELF),
        row("our HBONE port on IPv6 loopback", [], [], "[::1]:15008", REFUSED_SELF),
        row("loopback in disguise", [], [], "[::ffff:127.0.0.1]:15001", REFUSED_SELF),
        row("another port on loopback", [], [], "127.0.0.1:80", "pass 127.0.0.1:80 | - | -"),
        row(
            "our port elsewhere is somebody else's",
            [],
            [],
            "192.0.2.7:15001",
            "pass 192.0.2.7:15001 | - | -",
        ),
    ]);
}

const REFUSED_SELF: &str = "refused: attempted recursive call to ourselves";

#[test]
fn services_by_their_address() {
    let own_ports = |ports| web().with(|pod| pod.services = vec![serves("web", [ports])]);
    check([
        row(
            "the target port is the service's",
            [web()],
            [web_service()],
            "10.2.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:8080 | web-1 | web",
        ),
        row(
            "the target port is the endpoint's own, when it has one",
            [own_ports((80, 9090))],
            [web_service()],
            "10.2.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:9090 | web-1 | web",
        ),
        row(
            "a named port is the endpoint's to know",
            [own_ports((80, 9090))],
            [web_service().with(|service| service.ports = Box::new([port(80, 0)]))],
            "10.2.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:9090 | web-1 | web",
        ),
        row(
            "a named port that no endpoint knows",
            [web()],
            [web_service().with(|service| service.ports = Box::new([port(80, 0)]))],
            "10.2.0.1:80",
            "refused: no healthy upstream: 10.2.0.1:80",
        ),
        row(
            "a port that the service does not list",
            [own_ports((81, 9090))],
            [web_service()],
            "10.2.0.1:81",
            "refused: no healthy upstream: 10.2.0.1:81",
        ),
        row(
            "a service without endpoints",
            [],
            [web_service()],
            "10.2.0.1:80",
            "refused: no healthy upstream: 10.2.0.1:80",
        ),
        row(
            "a service whose only endpoint is unhealthy",
            [web().with(|pod| pod.health = Health::Unhealthy)],
            [web_service()],
            "10.2.0.1:80",
            "refused: no healthy upstream: 10.2.0.1:80",
        ),
        row(
            "unless it allows all",
            [web().with(|pod| pod.health = Health::Unhealthy)],
            [web_service()
                .with(|service| service.load_balancer.health_policy = HealthPolicy::AllowAll)],
            "10.2.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:8080 | web-1 | web",
        ),
        row(
            "an endpoint of capacity 0 is never chosen",
            [web().with(|pod| pod.capacity = 0)],
            [web_service()],
            "10.2.0.1:80",
            "refused: no healthy upstream: 10.2.0.1:80",
        ),
        row(
            "a TCP endpoint is reached directly",
            [web().with(tcp)],
            [web_service()],
            "10.2.0.1:80",
            "direct 10.1.0.1:8080 | web-1 | web",
        ),
        row(
            "a workload on its host's network is reached through its service",
            [web().with(|pod| pod.network_mode = NetworkMode::HostNetwork)],
            [web_service()],
            "10.2.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:8080 | web-1 | web",
        ),
        row(
            "a service by a range of addresses",
            [web()],
            [web_service().with(|service| {
                let network = "".into();
                service.cidr_vips = Box::new([NetworkCidr { network, cidr: cidr("10.5.0.0/16") }]);
            })],
            "10.5.6.7:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:8080 | web-1 | web",
        ),
        row(
            "another namespace's private service is not there",
            [web()],
            [Service { id: named("bank", "web"), ..web_service() }
                .with(|service| service.visibility = Visibility::Namespace)],
            "10.2.0.1:80",
            "pass 10.2.0.1:80 | - | -",
        ),
        row(
            "names the service adds may answer too; those that are no identities may not",
            [web()],
            [web_service().with(|service| {
                service.subject_alt_names = [
                    "spiffe://cluster.local/ns/shop/sa/blue",
                    "web.example",
                    "spiffe://cluster.local/ns/shop/sa/web",
                ]
                .map(SubjectAltName::from)
                .into();
            })],
            "10.2.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/blue or shop/web for 10.1.0.1:8080 | web-1 | web",
        ),
    ]);
}

#[test]
fn passthrough_services() {
    check([
        row(
            "go where they were going",
            [web()],
            [web_service().with(passthrough)],
            "10.2.0.1:80",
            "pass 10.2.0.1:80 | - | web",
        ),
        row(
            "go through their waypoint if they have one",
            [waypoint_pod()],
            [web_service().with(passthrough).with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            "tunnel 10.1.0.40:15008 as shop/waypoint for 10.2.0.1:80 | waypoint-1 | web",
        ),
        row(
            "do not take workloads of the mesh out of it",
            [web()],
            [service("all", "").with(passthrough).with(|service| {
                let network = "".into();
                service.cidr_vips = Box::new([NetworkCidr { network, cidr: cidr("10.0.0.0/8") }]);
            })],
            "10.1.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:80 | web-1 | -",
        ),
    ]);
}

#[test]
fn an_address_that_a_workload_and_a_service_share() {
    let shared = || service("web", "10.1.0.1");
    let backend = || pod("back-1", "10.1.0.2").with(|pod| pod.services = vec![serves("web", [])]);
    check([
        row(
            "leads to an endpoint of the service",
            [pod("web-1", "10.1.0.1"), backend()],
            [shared()],
            "10.1.0.1:80",
            "tunnel 10.1.0.2:15008 as shop/back for 10.1.0.2:8080 | back-1 | web",
        ),
        row(
            "but not to its waypoint: the workload was meant",
            [pod("web-1", "10.1.0.1"), backend(), waypoint_pod()],
            [shared().with(through_waypoint), waypoint_service()],
            "10.1.0.1:80",
            "tunnel 10.1.0.2:15008 as shop/back for 10.1.0.2:8080 | back-1 | web",
        ),
        row(
            "leads to the workload, and not past the mesh, when the service has no endpoint",
            [pod("web-1", "10.1.0.1")],
            [shared()],
            "10.1.0.1:80",
            "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:80 | web-1 | -",
        ),
    ]);
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
            "one on another network needs its gateway",
            [web(), waypoint_pod().with(elsewhere)],
            [web_service().with(through_waypoint), waypoint_service()],
            "10.2.0.1:80",
            "refused: workload waypoint-1 is on network \"n2\", and tunnels through a network \
             gateway (double HBONE) are not built yet",
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
            let route = outbound_except(&mesh, client, destination, random, &[]).unwrap();
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

#[test]
fn other_networks() {
    let far = || web().with(elsewhere);
    let near = || pod("near-1", "10.1.0.2").with(|pod| pod.services = vec![serves("web", [])]);
    let refused = "refused: workload web-1 is on network \"n2\", and tunnels through a network \
                   gateway (double HBONE) are not built yet";
    let lost = "refused: no valid routing destination for workload: web-1";
    check([
        row("through a gateway", [far()], [web_service()], "10.2.0.1:80", refused),
        row(
            "through a gateway, without an address of its own",
            [far().with(|pod| pod.addresses.clear())],
            [web_service()],
            "10.2.0.1:80",
            refused,
        ),
        row(
            "without a gateway",
            [far().with(|pod| pod.network_gateway = None)],
            [web_service()],
            "10.2.0.1:80",
            lost,
        ),
        row(
            "without a gateway or an address",
            [far().with(|pod| pod.network_gateway = None).with(|pod| pod.addresses.clear())],
            [web_service()],
            "10.2.0.1:80",
            "refused: no healthy upstream: 10.2.0.1:80",
        ),
        row("never in plaintext", [far().with(tcp)], [web_service()], "10.2.0.1:80", refused),
        row(
            "an endpoint that can be dialled is preferred",
            [far(), near()],
            [web_service()],
            "10.2.0.1:80",
            "tunnel 10.1.0.2:15008 as shop/near for 10.1.0.2:8080 | near-1 | web",
        ),
        row(
            "a workload there is reached by service only",
            [far(), pod("near-1", "10.1.0.2")],
            [service("web", "10.1.0.2")],
            "10.1.0.2:80",
            "refused: no service for target address: 10.1.0.2:80",
        ),
    ]);
}

#[test]
fn which_address_of_a_workload() {
    let dual = |addresses| web().with(|pod| pod.addresses = ips(addresses));
    let families = |families| web_service().with(|service| service.ip_families = families);
    let to_v4 = "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:8080 | web-1 | web";
    let to_v6 = "tunnel [fd00::1]:15008 as shop/web for [fd00::1]:8080 | web-1 | web";
    let both = |service: Service| {
        service.with(|service| {
            service.vips = vips("10.2.0.1 fd00:2::1");
        })
    };
    check([
        row(
            "the family of the call",
            [dual("fd00::1 10.1.0.1")],
            [web_service()],
            "10.2.0.1:80",
            to_v4,
        ),
        row(
            "either family",
            [dual("10.1.0.1 fd00::1")],
            [both(web_service())],
            "[fd00:2::1]:80",
            to_v6,
        ),
        row(
            "the other family when there is no other",
            [dual("fd00::1")],
            [web_service()],
            "10.2.0.1:80",
            to_v6,
        ),
        row(
            "not a family the service excludes",
            [dual("10.1.0.1 fd00::1")],
            [families(IpFamilies::Ipv6)],
            "10.2.0.1:80",
            to_v6,
        ),
        row(
            "IPv4 only",
            [dual("10.1.0.1 fd00::1")],
            [both(families(IpFamilies::Ipv4))],
            "[fd00:2::1]:80",
            to_v4,
        ),
        row("dual", [dual("fd00::1 10.1.0.1")], [families(IpFamilies::Dual)], "10.2.0.1:80", to_v4),
        row(
            "an endpoint that has no address of an allowed family",
            [dual("10.1.0.1")],
            [families(IpFamilies::Ipv6)],
            "10.2.0.1:80",
            "refused: no valid routing destination for workload: web-1",
        ),
        row(
            "an endpoint without any address",
            [dual("")],
            [web_service()],
            "10.2.0.1:80",
            "refused: no healthy upstream: 10.2.0.1:80",
        ),
    ]);
}

fn vips(text: &str) -> Box<[crate::snapshot::NetworkAddress]> {
    ips(text).into_iter().map(|ip| crate::snapshot::NetworkAddress::new("", ip)).collect()
}

#[test]
fn workloads_that_have_only_a_hostname() {
    let named_only = || {
        web().with(|pod| {
            pod.addresses.clear();
            pod.hostname = "vm.example".to_owned();
        })
    };
    let mut mesh = mesh([named_only(), pod("client", "10.1.0.99")], [web_service()]);
    assert_eq!(
        from_client(&mesh, "10.2.0.1:80"),
        "refused: hostname vm.example of workload web-1 is not resolved"
    );
    mesh.set_resolution("vm.example", &ips("fd00::9"));
    assert_eq!(
        from_client(&mesh, "10.2.0.1:80"),
        "tunnel [fd00::9]:15008 as shop/web for [fd00::9]:8080 | web-1 | web",
        "another family is better than none"
    );
    mesh.set_resolution("vm.example", &ips("fd00::9 10.9.0.1 10.9.0.2"));
    let client = Arc::clone(mesh.workload_by_uid("c1//Pod/shop/client").unwrap());
    let mut seen = std::collections::BTreeSet::new();
    for random in 0..64 {
        let route = outbound_except(&mesh, &client, "10.2.0.1:80".parse().unwrap(), random, &[]);
        seen.insert(tell(&route));
    }
    let want = |ip| format!("tunnel {ip}:15008 as shop/web for {ip}:8080 | web-1 | web");
    assert_eq!(seen, [want("10.9.0.1"), want("10.9.0.2")].into(), "any of the client's family");
}

#[test]
fn after_dials_that_failed() {
    let replica = |n: u8| {
        pod(&format!("web-{n}"), &format!("10.1.0.{n}"))
            .with(|pod| pod.services = vec![serves("web", [])])
    };
    let mesh =
        mesh([replica(1), replica(2), replica(3), pod("client", "10.1.0.99")], [web_service()]);
    let client = mesh.workload_by_uid("c1//Pod/shop/client").unwrap();
    for random in 0..50 {
        let mut failed = Vec::new();
        for _ in 0..3 {
            let destination = "10.2.0.1:80".parse().unwrap();
            let route = outbound_except(&mesh, client, destination, random, &failed).unwrap();
            failed.push(route.destination_workload.unwrap());
        }
        let mut names: Vec<&str> = failed.iter().map(|workload| workload.name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["web-1", "web-2", "web-3"], "each is tried once");
        for destination in ["10.2.0.1:80", "10.1.0.1:80"] {
            let none =
                outbound_except(&mesh, client, destination.parse().unwrap(), random, &failed);
            assert_eq!(
                tell(&none),
                format!("refused: no healthy upstream: {destination}"),
                "when all were tried nothing is bypassed"
            );
        }
    }
}

#[test]
fn a_membership_maps_only_ports_that_are_known() {
    let ports = [PortMapping { service_port: 80, target_port: 0 }];
    let membership = Membership { service: named("shop", "web"), ports: Box::new(ports) };
    check([row(
        "a target port of 0 in the workload's own map says nothing",
        [web().with(|pod| pod.services = vec![membership])],
        [web_service()],
        "10.2.0.1:80",
        "tunnel 10.1.0.1:15008 as shop/web for 10.1.0.1:8080 | web-1 | web",
    )]);
}

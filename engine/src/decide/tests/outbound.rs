//! Where connections go, row by row.

use std::sync::Arc;

use super::{
    check, from_client, passthrough, row, tcp, tell, through_waypoint, waypoint_pod,
    waypoint_service, web, web_service,
};
use crate::decide::outbound_except;
use crate::snapshot::fixture::{With, cidr, ips, mesh, named, pod, port, serves, service};
use crate::snapshot::{
    Health, HealthPolicy, IpFamilies, Membership, NetworkAddress, NetworkCidr, NetworkMode,
    PortMapping, Resolutions, Service, SubjectAltName, Visibility,
};

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

fn vips(text: &str) -> Box<[NetworkAddress]> {
    ips(text).into_iter().map(|ip| NetworkAddress::new("", ip)).collect()
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
    let resolves_to = |addresses: &str| {
        let mut resolutions = Resolutions::default();
        resolutions.set("vm.example", &ips(addresses));
        resolutions
    };
    mesh.set_resolutions(resolves_to("fd00::9"));
    assert_eq!(
        from_client(&mesh, "10.2.0.1:80"),
        "tunnel [fd00::9]:15008 as shop/web for [fd00::9]:8080 | web-1 | web",
        "another family is better than none"
    );
    mesh.set_resolutions(resolves_to("fd00::9 10.9.0.1 10.9.0.2"));
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

//! Other networks: through their gateways, by service, to whom the service names.

use super::{
    check, elsewhere, gateway_pod, named_by_service, passthrough, row, tcp, web, web_service,
};
use crate::decide::{outbound, outbound_except};
use crate::snapshot::fixture::{With, gateway, ips, mesh, named, pod, port, serves, service};
use crate::snapshot::{
    GatewayDestination, LoadBalancerMode, NetworkAddress, Scope, Service, Snapshot,
    WorkloadDescription,
};

const THROUGH: &str = "tunnel 10.8.0.1:15008 as shop/gateway, in it one as shop/web, both for \
                       web.example:80 | gateway-1 | web";

fn far() -> WorkloadDescription {
    web().with(elsewhere)
}

fn behind(gateway_name: &str) -> WorkloadDescription {
    far().with(|pod| pod.network_gateway = Some(gateway(gateway_name)))
}

fn near() -> WorkloadDescription {
    pod("near-1", "10.1.0.2").with(|pod| pod.services = vec![serves("web", [])])
}

fn there() -> Service {
    web_service().with(named_by_service)
}

#[test]
fn through_a_gateway() {
    let gateway_service = |target| {
        service("gateway", "").with(|service| service.ports = Box::new([port(15008, target)]))
    };
    let serving = || gateway_pod().with(|pod| pod.services = vec![serves("gateway", [])]);
    check([
        row("by address", [far(), gateway_pod()], [there()], "10.2.0.1:80", THROUGH),
        row(
            "by address, on the other network",
            [
                far().with(|pod| {
                    let address = NetworkAddress::new("n2", ips("10.8.0.1")[0]);
                    pod.network_gateway.as_mut().unwrap().destination =
                        GatewayDestination::Address(address);
                }),
                gateway_pod().with(|pod| pod.network = "n2".to_owned()),
            ],
            [there()],
            "10.2.0.1:80",
            THROUGH,
        ),
        row(
            "without an address of its own",
            [far().with(|pod| pod.addresses.clear()), gateway_pod()],
            [there()],
            "10.2.0.1:80",
            THROUGH,
        ),
        row(
            "never in plaintext",
            [far().with(tcp), gateway_pod()],
            [there()],
            "10.2.0.1:80",
            THROUGH,
        ),
        row(
            "by hostname of a service, on the port that it maps",
            [behind("shop/gateway"), serving()],
            [there(), gateway_service(15009)],
            "10.2.0.1:80",
            "tunnel 10.8.0.1:15009 as shop/gateway, in it one as shop/web, both for \
             web.example:80 | gateway-1 | web",
        ),
        row(
            "by hostname of a workload",
            [behind("shop/alone"), gateway_pod().with(|pod| pod.hostname = "alone.example".into())],
            [there()],
            "10.2.0.1:80",
            THROUGH,
        ),
        row(
            "a service that does not list the port is no way",
            [behind("shop/gateway"), serving()],
            [there(), service("gateway", "")],
            "10.2.0.1:80",
            "refused: no healthy upstream: network gateway shop/gateway.example",
        ),
        row(
            "one that passes everything through is no gateway",
            [behind("shop/gateway"), serving()],
            [there(), gateway_service(15008).with(passthrough)],
            "10.2.0.1:80",
            "refused: no healthy upstream: network gateway shop/gateway.example",
        ),
        row(
            "an unknown address",
            [far()],
            [there()],
            "10.2.0.1:80",
            "refused: unknown network gateway: /10.8.0.1",
        ),
        row(
            "an unknown hostname",
            [behind("shop/gateway")],
            [there()],
            "10.2.0.1:80",
            "refused: unknown network gateway: shop/gateway.example",
        ),
    ]);
}

#[test]
fn what_is_refused() {
    check([
        row(
            "a workload there without a gateway",
            [far().with(|pod| pod.network_gateway = None)],
            [there()],
            "10.2.0.1:80",
            "refused: no valid routing destination for workload: web-1",
        ),
        row(
            "without a gateway or an address",
            [far().with(|pod| pod.network_gateway = None).with(|pod| pod.addresses.clear())],
            [there()],
            "10.2.0.1:80",
            "refused: no healthy upstream: 10.2.0.1:80",
        ),
        row(
            "a service that does not say who its endpoints are: behind a gateway anybody could be one",
            [far(), gateway_pod()],
            [web_service()],
            "10.2.0.1:80",
            "refused: service shop/web.example names no identity (subjectAltNames) for its \
             endpoints on another network",
        ),
        row(
            "a hostname that no CONNECT can ask for",
            [
                far().with(|pod| {
                    pod.services[0].service = named("shop", "*.web");
                }),
                gateway_pod(),
            ],
            [Service { id: named("shop", "*.web"), ..there() }],
            "10.2.0.1:80",
            "refused: hostname *.web.example cannot be asked for through a network gateway",
        ),
        row(
            "a workload there, by its address",
            [far(), pod("near-1", "10.1.0.2"), gateway_pod()],
            [service("web", "10.1.0.2").with(named_by_service)],
            "10.1.0.2:80",
            "refused: no service for target address: 10.1.0.2:80",
        ),
    ]);
}

#[test]
fn which_of_two_networks() {
    let to_near = "tunnel 10.1.0.2:15008 as shop/near or shop/web for 10.1.0.2:8080 | near-1 | web";
    let to_near_named = to_near.replace("shop/near or shop/web", "shop/web or shop/near");
    let both = |service: Service| mesh([far(), near(), gateway_pod(), client()], [service]);
    let ranked = || {
        there().with(|service| {
            service.load_balancer.mode = LoadBalancerMode::Failover;
            service.load_balancer.routing_preferences = Box::new([Scope::Network, Scope::Region]);
        })
    };
    assert_eq!(destinations(&both(there())), [THROUGH, &to_near_named], "either, unranked");
    assert_eq!(destinations(&both(ranked())), [&*to_near_named], "ours first");
    let none_here = mesh([far(), gateway_pod(), client()], [ranked()]);
    assert_eq!(destinations(&none_here), [THROUGH], "theirs when there is none here");
    let unknown = mesh([far(), near(), client()], [there()]);
    assert_eq!(destinations(&unknown), [&*to_near_named], "nobody knows the gateway");
}

#[test]
fn a_gateway_that_cannot_be_dialled() {
    let replica = |n: u8| {
        pod(&format!("gateway-{n}"), &format!("10.8.0.{n}"))
            .with(|pod| pod.services = vec![serves("gateway", [])])
    };
    let service =
        service("gateway", "").with(|service| service.ports = Box::new([port(15008, 15008)]));
    let mesh = mesh([behind("shop/gateway"), replica(1), replica(2), client()], [there(), service]);
    let source = mesh.workload_by_uid("c1//Pod/shop/client").unwrap();
    let destination = "10.2.0.1:80".parse().unwrap();
    let mut failed = Vec::new();
    for _ in 0..2 {
        let route = outbound_except(&mesh, source, destination, 7, &failed).unwrap();
        failed.push(route.destination_workload.unwrap());
    }
    let mut names: Vec<_> = failed.iter().map(|workload| workload.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["gateway-1", "gateway-2"], "another one is tried");
    let refusal = outbound_except(&mesh, source, destination, 7, &failed).unwrap_err();
    assert_eq!(refusal.to_string(), "no healthy upstream: network gateway shop/gateway.example");
}

fn client() -> WorkloadDescription {
    pod("client", "10.1.0.99")
}

/// Everywhere the client may get, sorted.
fn destinations(mesh: &Snapshot) -> Vec<String> {
    let source = mesh.workload_by_uid("c1//Pod/shop/client").unwrap();
    let to = "10.2.0.1:80".parse().unwrap();
    let seen: std::collections::BTreeSet<_> =
        (0..64).map(|random| super::tell(&outbound(mesh, source, to, random))).collect();
    seen.into_iter().rev().collect()
}

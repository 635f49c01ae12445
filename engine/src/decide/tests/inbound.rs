//! What inbound connections are connected to, row by row.

use ringway_protocols::hbone::Authority;

use crate::decide::{InboundTarget, Refusal, inbound_plaintext, inbound_service, inbound_tunnel};
use crate::snapshot::fixture::{With, gateway, ips, mesh, named, pod, port, serves, service};
use crate::snapshot::{
    ApplicationTunnel, ApplicationTunnelProtocol, Service, Snapshot, Visibility, WeightedWaypoint,
    WorkloadDescription,
};

/// A target or a refusal on one line.
fn tell(result: Result<InboundTarget, Refusal>) -> String {
    let target = match result {
        Ok(target) => target,
        Err(refusal) => return format!("{}: {refusal}", refusal.status()),
    };
    let mut told = format!("dial {} | {}", target.address, target.destination);
    if !target.as_client {
        told += " | as ourselves";
    }
    if let Some(announced) = target.proxy_protocol {
        told += &format!(" | announcing {announced}");
    }
    if let Some(service) = target.announced_service {
        told += &format!(" as {}", service.hostname());
    }
    if let Some(service) = target.destination_service {
        told += &format!(" | {}", service.id);
    }
    told
}

fn authority(text: &str) -> Authority {
    if let Ok(address) = text.parse() {
        return Authority::Address(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap();
    Authority::Hostname { host: host.into(), port: port.parse().unwrap() }
}

/// What a CONNECT for `asked` gets that reaches the pod `web-1`.
fn ask(snapshot: &Snapshot, asked: &str) -> String {
    let local = snapshot.workload_by_uid("c1//Pod/shop/web-1").unwrap();
    let local_address = local.addresses()[0];
    tell(inbound_tunnel(snapshot, local, local_address, &authority(asked)))
}

struct Row {
    name: &'static str,
    mesh: Snapshot,
    authority: &'static str,
    want: &'static str,
}

fn row<const P: usize, const S: usize>(
    name: &'static str,
    pods: [WorkloadDescription; P],
    services: [Service; S],
    authority: &'static str,
    want: &'static str,
) -> Row {
    Row { name, mesh: mesh(pods, services), authority, want }
}

fn check(rows: impl IntoIterator<Item = Row>) {
    for Row { name, mesh, authority, want } in rows {
        assert_eq!(ask(&mesh, authority), want, "{name}");
    }
}

fn web() -> WorkloadDescription {
    pod("web-1", "10.1.0.1").with(|pod| pod.services = vec![serves("web", [])])
}

fn web_service() -> Service {
    service("web", "10.2.0.1")
}

fn tunnel(
    protocol: ApplicationTunnelProtocol,
    port: Option<u16>,
) -> impl Fn(&mut WorkloadDescription) {
    move |pod| pod.application_tunnel = Some(ApplicationTunnel { protocol, port })
}

#[test]
fn addresses() {
    // What a waypoint serves is not its own; `other-1` is behind it in one of several ways.
    let other =
        |waypoint| pod("other-1", "10.1.0.2").with(|pod| pod.waypoint = Some(gateway(waypoint)));
    let behind = |waypoint| {
        service("other", "10.2.0.2").with(|service| service.waypoint = Some(gateway(waypoint)))
    };
    let weighted = |weight| {
        service("other", "10.2.0.2").with(|service| {
            let destination = gateway("shop/web");
            service.weighted_waypoints = Box::new([WeightedWaypoint { destination, weight }]);
        })
    };
    let ok = "dial 10.1.0.1:8080 | 10.1.0.1:8080";
    let mismatch = "400: ip mismatch: 10.1.0.1 != 10.1.0.2";
    check([
        row("the pod's own", [web()], [], "10.1.0.1:8080", ok),
        row("the pod's own, mapped", [web()], [], "[::ffff:10.1.0.1]:8080", ok),
        row("somebody else's", [web()], [], "10.1.0.2:8080", mismatch),
        row("another pod's", [web(), pod("other-1", "10.1.0.2")], [], "10.1.0.2:8080", mismatch),
        row(
            "a service's, though the pod is its endpoint",
            [web()],
            [web_service()],
            "10.2.0.1:80",
            "400: ip mismatch: 10.1.0.1 != 10.2.0.1",
        ),
        row("loopback", [web()], [], "127.0.0.1:15000", "400: ip mismatch: 10.1.0.1 != 127.0.0.1"),
        row(
            "of a pod it is the waypoint of",
            [web(), other("shop/web")],
            [web_service()],
            "10.1.0.2:8080",
            ok,
        ),
        row(
            "the same by the waypoint's address",
            [web(), other("10.2.0.1")],
            [web_service()],
            "10.1.0.2:8080",
            ok,
        ),
        row("the same by the pod's address", [web(), other("10.1.0.1")], [], "10.1.0.2:8080", ok),
        row(
            "of a pod with another waypoint",
            [web(), other("shop/gate")],
            [web_service(), service("gate", "10.2.0.3")],
            "10.1.0.2:8080",
            mismatch,
        ),
        row(
            "of a pod with an unknown waypoint",
            [web(), other("shop/gate")],
            [],
            "10.1.0.2:8080",
            mismatch,
        ),
        row(
            "of a service it is the waypoint of",
            [web()],
            [web_service(), behind("shop/web")],
            "10.2.0.2:8080",
            ok,
        ),
        row("by weight", [web()], [web_service(), weighted(1)], "10.2.0.2:8080", ok),
        row(
            "by weight 0",
            [web()],
            [web_service(), weighted(0)],
            "10.2.0.2:8080",
            "400: ip mismatch: 10.1.0.1 != 10.2.0.2",
        ),
        row(
            "anybody's, when the application tells for itself",
            [web().with(tunnel(ApplicationTunnelProtocol::None, None))],
            [],
            "10.1.0.2:8080",
            ok,
        ),
        row(
            "on a port of ours",
            [web()],
            [],
            "10.1.0.1:15006",
            "503: attempted recursive call to ourselves",
        ),
    ]);
}

#[test]
fn hostnames() {
    let own_port = || web().with(|pod| pod.services = vec![serves("web", [(80, 9090)])]);
    let named_port = || web_service().with(|service| service.ports = Box::new([port(80, 0)]));
    let gate =
        || service("gate", "10.2.0.3").with(|service| service.waypoint = Some(gateway("shop/web")));
    let of = |namespace: &str| Service { id: named(namespace, "web"), ..web_service() };
    let private = |service: &mut Service| service.visibility = Visibility::Namespace;
    let in_bank = || {
        let mut membership = serves("web", []);
        membership.service = named("bank", "web");
        pod("web-1", "10.1.0.1").with(|pod| pod.services = vec![membership])
    };
    let ok = "dial 10.1.0.1:8080 | 10.1.0.1:8080 | shop/web.example";
    let own = "dial 10.1.0.1:9090 | 10.1.0.1:9090 | shop/web.example";
    check([
        row("the service's target port", [web()], [web_service()], "web.example:80", ok),
        row("the endpoint's own", [own_port()], [web_service()], "web.example:80", own),
        row("a named port", [own_port()], [named_port()], "web.example:80", own),
        row(
            "a named port that the endpoint does not know",
            [web()],
            [named_port()],
            "web.example:80",
            "503: no target port for port 80 of service shop/web.example",
        ),
        row(
            "a port that the service does not list",
            [web()],
            [web_service()],
            "web.example:81",
            "503: no target port for port 81 of service shop/web.example",
        ),
        row("unknown", [web()], [], "web.example:80", "503: no service with hostname: web.example"),
        row(
            "of a service whose endpoint it is not",
            [web()],
            [service("bank", "10.2.0.9")],
            "bank.example:80",
            "400: workload web-1 is not an endpoint of service shop/bank.example",
        ),
        row(
            "of a service whose waypoint it is",
            [web()],
            [web_service(), gate()],
            "gate.example:80",
            "dial 10.1.0.1:8080 | 10.1.0.1:8080 | shop/gate.example",
        ),
        row(
            "of any service, when the application tells for itself",
            [web().with(tunnel(ApplicationTunnelProtocol::None, None))],
            [service("bank", "10.2.0.9")],
            "bank.example:80",
            "dial 10.1.0.1:8080 | 10.1.0.1:8080 | shop/bank.example",
        ),
        row(
            "of several services: the one it is an endpoint of",
            [in_bank()],
            [of("shop"), of("bank")],
            "web.example:80",
            "dial 10.1.0.1:8080 | 10.1.0.1:8080 | bank/web.example",
        ),
        row(
            "of another namespace's private service",
            [in_bank()],
            [of("bank").with(private)],
            "web.example:80",
            "503: no service with hostname: web.example",
        ),
        row(
            "leading to a port of ours",
            [web()],
            [web_service().with(|service| service.ports = Box::new([port(80, 15001)]))],
            "web.example:80",
            "503: attempted recursive call to ourselves",
        ),
    ]);
}

#[test]
fn application_tunnels() {
    use ApplicationTunnelProtocol::{None as Plain, Proxy};
    let v6 = |pod: &mut WorkloadDescription| pod.addresses = ips("fd00::1");
    check([
        row(
            "protocol NONE changes the port only",
            [web().with(tunnel(Plain, Some(15088)))],
            [],
            "10.1.0.1:8080",
            "dial 10.1.0.1:15088 | 10.1.0.1:15088",
        ),
        row(
            "PROXY goes over loopback and announces what was asked for",
            [web().with(tunnel(Proxy, Some(15088)))],
            [],
            "10.2.0.7:8080",
            "dial 127.0.0.1:15088 | 10.1.0.1:15088 | as ourselves | announcing 10.2.0.7:8080",
        ),
        row(
            "of the pod's family",
            [web().with(v6).with(tunnel(Proxy, Some(15088)))],
            [],
            "[fd00::2]:80",
            "dial [::1]:15088 | [fd00::1]:15088 | as ourselves | announcing [fd00::2]:80",
        ),
        row(
            "without a port it keeps the one that was asked for",
            [web().with(tunnel(Proxy, None))],
            [],
            "10.1.0.1:8080",
            "dial 127.0.0.1:8080 | 10.1.0.1:8080 | as ourselves | announcing 10.1.0.1:8080",
        ),
        row(
            "a hostname is announced as the service's IPv4 address and port",
            [web().with(tunnel(Proxy, Some(15088)))],
            [service("web", "fd00:2::1 10.2.0.1")],
            "web.example:80",
            "dial 127.0.0.1:15088 | 10.1.0.1:15088 | as ourselves | announcing 10.2.0.1:80 \
             as web.example | shop/web.example",
        ),
        row(
            "a service without any address is announced at the pod's",
            [web().with(tunnel(Proxy, Some(15088)))],
            [service("web", "")],
            "web.example:80",
            "dial 127.0.0.1:15088 | 10.1.0.1:15088 | as ourselves | announcing 10.1.0.1:80 \
             as web.example | shop/web.example",
        ),
        row(
            "an address that is a service's is announced with its name",
            [web().with(tunnel(Proxy, Some(15088)))],
            [service("books", "10.2.0.7")],
            "10.2.0.7:80",
            "dial 127.0.0.1:15088 | 10.1.0.1:15088 | as ourselves | announcing 10.2.0.7:80 \
             as books.example",
        ),
        row(
            "an address that a workload has is not",
            [web().with(tunnel(Proxy, Some(15088))), pod("back-1", "10.1.0.2")],
            [service("books", "10.1.0.2")],
            "10.1.0.2:80",
            "dial 127.0.0.1:15088 | 10.1.0.1:15088 | as ourselves | announcing 10.1.0.2:80",
        ),
        row(
            "the tunnel's own port may be one of ours, the one asked for may not",
            [web().with(tunnel(Proxy, Some(15008)))],
            [],
            "10.1.0.1:15008",
            "503: attempted recursive call to ourselves",
        ),
    ]);
    let mut at_the_pod = mesh([web().with(tunnel(Proxy, Some(15088)))], []);
    let mut settings = at_the_pod.settings().clone();
    settings.application_tunnel_over_loopback = false;
    at_the_pod.set_settings(settings);
    assert_eq!(
        ask(&at_the_pod, "10.1.0.1:8080"),
        "dial 10.1.0.1:15088 | 10.1.0.1:15088 | announcing 10.1.0.1:8080",
        "when loopback is switched off"
    );
}

#[test]
fn plaintext() {
    let mesh = mesh([web()], [web_service()]);
    let local = mesh.workload_by_uid("c1//Pod/shop/web-1").unwrap();
    let rows = [
        ("goes on", "10.1.0.1:8080", "dial 10.1.0.1:8080 | 10.1.0.1:8080 | shop/web.example"),
        ("to a port of no service", "10.1.0.1:9000", "dial 10.1.0.1:9000 | 10.1.0.1:9000"),
        ("mapped is plain", "[::ffff:10.1.0.1]:9000", "dial 10.1.0.1:9000 | 10.1.0.1:9000"),
        ("not to our ports", "10.1.0.1:15001", "503: attempted recursive call to ourselves"),
        ("wherever they are", "192.0.2.1:15008", "503: attempted recursive call to ourselves"),
    ];
    for (name, destination, want) in rows {
        let target = inbound_plaintext(&mesh, local, destination.parse().unwrap());
        assert_eq!(tell(target), want, "{name}");
    }
}

#[test]
fn the_service_that_was_meant() {
    let both = pod("web-1", "10.1.0.1")
        .with(|pod| pod.services = vec![serves("blue", []), serves("green", [(80, 9090)])]);
    let mesh =
        mesh([both], [service("blue", ""), service("green", ""), service("other", "10.2.0.9")]);
    let local = mesh.workload_by_uid("c1//Pod/shop/web-1").unwrap();
    let rows = [
        ("the one the client names", 8080, Some("green.example"), Some("green")),
        ("not one it is no endpoint of", 8080, Some("other.example"), Some("blue")),
        ("the one whose port leads there", 9090, None, Some("green")),
        ("the first of several", 8080, None, Some("blue")),
        ("none when no port leads there", 7, None, None),
    ];
    for (name, port, host, want) in rows {
        let service = inbound_service(&mesh, local, port, host);
        assert_eq!(service.map(|service| &*service.name), want, "{name}");
    }
}

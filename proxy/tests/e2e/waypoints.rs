//! Waypoints and network gateways: connections that go through somebody, and come from somebody.
//!
//! What stands for Envoy is an application behind Ringway itself, as a sandwiched waypoint is: it gets who called and
//! what was asked for in a PROXY header, and passes the bytes on.
//!
//! | pod       | what it is here                                                     |
//! |-----------|---------------------------------------------------------------------|
//! | client    | who asks                                                            |
//! | server    | who answers, behind a waypoint or on another network                |
//! | server-2  | the waypoint, or another server on the other network                |
//! | neighbour | a waypoint without the PROXY protocol, or the other network's gateway |

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use ringway_bench::lab::Namespace;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::support::{
    Application, CLIENT, Mesh, MeshBuilder, PATIENCE, SERVER, dies_without_data, echo_once,
    prepare, try_connect,
};
use crate::{on_both_reactors, under_a_control_plane, under_a_control_plane_on_epoll};

on_both_reactors! {
    a_waypoint_by_whatever_name_is_between_client_and_server,
    a_service_on_another_network_is_reached_through_its_gateway,
}

under_a_control_plane! {
    a_waypoint_by_whatever_name_is_between_client_and_server,
    a_service_on_another_network_is_reached_through_its_gateway,
    a_waypoint_asks_on_demand_whose_it_is,
    a_waypoint_on_another_network_is_reached_on_demand,
}

under_a_control_plane_on_epoll! {
    a_waypoint_asks_on_demand_whose_it_is,
    a_waypoint_on_another_network_is_reached_on_demand,
}

const WAYPOINT: &str = "spiffe://cluster.local/ns/default/sa/waypoint";

/// Where the waypoint's application is told who calls.
const WAYPOINT_PORT: u16 = 15088;

/// Where the plain waypoint's is.
const PLAIN_PORT: u16 = 8088;

/// Where the gateway's application is.
const GATEWAY_PORT: u16 = 15443;

fn workload(name: &str, host: &str, address: &str, more: &str) -> String {
    let account = if name == "server-2" { "waypoint" } else { name };
    format!(
        "- uid: Kubernetes//Pod/default/{name}\n  name: {name}\n  namespace: default\n  \
         serviceAccount: {account}\n  trustDomain: cluster.local\n  clusterId: Kubernetes\n  node: {host}\n  \
         workloadIps: [\"{address}\"]\n  protocol: HBONE\n{more}"
    )
}

fn service(name: &str, vip: &str, more: &str) -> String {
    format!(
        "- name: {name}\n  namespace: default\n  hostname: {name}.default.svc.cluster.local\n  \
         vips: [\"{vip}\"]\n{more}"
    )
}

/// The server, and services of it, are behind a waypoint that each names in another way.
fn world_with_waypoints() -> String {
    let by = |destination: &str| {
        format!("waypoint: {{destination: {destination}, hboneMtlsPort: 15008}}\n")
    };
    let member = "  services: {}\n";
    let of_server: String = ["by-address", "by-service", "by-workload", "plain"]
        .iter()
        .map(|name| format!("    default/{name}.default.svc.cluster.local: {{80: 8080}}\n"))
        .collect();
    let mut text = "workloads:\n".to_owned();
    text += &workload("client", "host-a", "10.1.0.10", member);
    let plain = format!("  applicationTunnel: {{protocol: NONE, port: {PLAIN_PORT}}}\n{member}");
    text += &workload("neighbour", "host-a", "10.1.0.11", &plain);
    let behind = format!(
        "  {}  authorizationPolicies: [default/waypoint-only]\n  services:\n{of_server}",
        by("/10.2.0.11")
    );
    text += &workload("server", "host-b", "10.2.0.10", &behind);
    let waypoint = format!(
        "  hostname: waypoint.example\n  applicationTunnel: {{protocol: PROXY, port: {WAYPOINT_PORT}}}\n  \
         services:\n    default/waypoint.default.svc.cluster.local: {{15008: 15008}}\n"
    );
    text += &workload("server-2", "host-b", "10.2.0.11", &waypoint);
    text += "services:\n";
    let ports = "  ports: {80: 8080}\n";
    for (name, vip, destination) in [
        ("by-address", "/10.96.0.1", "/10.2.0.11"),
        ("by-service", "/10.96.0.2", "default/waypoint.default.svc.cluster.local"),
        ("by-workload", "/10.96.0.3", "default/waypoint.example"),
        ("plain", "/10.96.0.4", "/10.1.0.11"),
    ] {
        text += &service(name, vip, &format!("{ports}  {}", by(destination)));
    }
    text += &service("waypoint", "/10.96.0.9", "  ports: {15008: 15008}\n");
    text += "policies:\n- name: waypoint-only\n  namespace: default\n  scope: WorkloadSelector\n  action: Allow\n  \
             dryRun: false\n  rules:\n  - - - principals: [!Exact cluster.local/ns/default/sa/waypoint]\n";
    text
}

fn a_waypoint_by_whatever_name_is_between_client_and_server(way: &str) {
    let mesh = Mesh::with(way).world(&world_with_waypoints()).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let (told, heard) = channel();
    let server = mesh.address("server", 8080);
    let passes_on = move |_: &Call| server;
    let _waypoint = relay(mesh.at("server-2"), mesh.at("server-2"), WAYPOINT_PORT, told, passes_on);

    // A workload's waypoint, and those of services.
    for asked in [server, vip(1), vip(2), vip(3)] {
        echo_once(mesh.at("client"), asked).unwrap_or_else(|error| {
            panic!("{asked}: {error}\n{}\n{}", mesh.a.process.log(), mesh.b.process.log())
        });
        let call = heard.recv_timeout(PATIENCE).unwrap();
        assert!(call.accepted_from.ip().is_loopback(), "by loopback: {}", call.accepted_from);
        assert_eq!(call.source.ip(), mesh.at("client").address());
        assert_eq!(call.destination, asked, "what the client dialled");
        assert_eq!(call.identity.as_deref(), Some(CLIENT));
        let record = mesh.a.record("the client's connection", |record| {
            record.get("direction") == "outbound"
                && record.get("dst.hbone_addr") == asked.to_string()
        });
        assert_eq!(record.get("dst.addr"), "10.2.0.11:15008", "{record:?}");
        assert_eq!(record.get("dst.workload"), "server-2", "{record:?}");
        assert_eq!(record.get("dst.identity"), WAYPOINT, "{record:?}");
    }
    // It went on from there as the waypoint, and past no waypoint again.
    let record = mesh.b.record("the waypoint's connection", |record| {
        record.get("direction") == "inbound" && record.get("dst.addr") == "10.2.0.10:15008"
    });
    assert_eq!(record.get("src.identity"), WAYPOINT, "{record:?}");
    assert_eq!(record.get("dst.identity"), SERVER, "{record:?}");
    // Nobody else is let in: this one goes around it, because neighbour is not captured at the port of tunnels.
    let around = try_connect(mesh.at("stranger"), server);
    assert!(dies_without_data(around), "without the waypoint");

    // A waypoint that wants no PROXY header is dialled at its own address, as the client.
    let plain = Application::http(mesh.at("neighbour"), PLAIN_PORT, "plain waypoint");
    let (_, body) = crate::support::http_get(mesh.at("client"), vip(4), "/").unwrap();
    assert_eq!(body, "plain waypoint was asked from 10.1.0.10");
    assert_eq!(plain.accepted(), 1);
}

fn vip(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 96, 0, last], 80))
}

/// Client and gateway are on one host, the servers on the other, on another network. One service names the gateway by
/// its address, the other by that of a service with other ports.
fn world_of_two_networks() -> String {
    let by = |destination: &str, port: u16| {
        format!("networkGateway: {{destination: {destination}, hboneMtlsPort: {port}}}\n")
    };
    let mut text = "workloads:\n".to_owned();
    text += &workload("client", "host-a", "10.1.0.10", "  network: n1\n  services: {}\n");
    let gateway = format!(
        "  network: n1\n  applicationTunnel: {{protocol: PROXY, port: {GATEWAY_PORT}}}\n  services:\n    \
         default/gateway.default.svc.cluster.local: {{15018: 15008}}\n"
    );
    text += &workload("neighbour", "host-a", "10.1.0.11", &gateway);
    for (name, address, destination, port) in [
        ("server", "10.2.0.10", "n1/10.1.0.11", 15008),
        ("server-2", "10.2.0.11", "default/gateway.default.svc.cluster.local", 15018),
    ] {
        let more = format!(
            "  network: n2\n  {}  services:\n    default/{name}.default.svc.cluster.local: {{80: 8080}}\n",
            by(destination, port)
        );
        text += &workload(name, "host-b", address, &more);
    }
    text += "services:\n";
    for (name, vip, identity) in
        [("server", "n1/10.96.0.1", SERVER), ("server-2", "n1/10.96.0.2", WAYPOINT)]
    {
        let more = format!("  ports: {{80: 8080}}\n  subjectAltNames: [\"{identity}\"]\n");
        text += &service(name, vip, &more);
    }
    text += &service("gateway", "n1/10.96.0.9", "  ports: {15018: 15008}\n");
    text + "policies: []\n"
}

fn a_service_on_another_network_is_reached_through_its_gateway(way: &str) {
    let mesh = Mesh::with(way).world(&world_of_two_networks()).networks("n1", "n2").start();
    let _echoes = ["server", "server-2"].map(|name| Application::echo(mesh.at(name), 8080));
    let (told, heard) = channel();
    let servers = ["server", "server-2"].map(|name| mesh.address(name, 15008));
    let passes_on = move |call: &Call| match call.service.as_deref() {
        Some("server-2.default.svc.cluster.local") => servers[1],
        _ => servers[0],
    };
    // The inner tunnels go on from where nothing is captured.
    let (gateway, outside) = (mesh.at("neighbour"), mesh.at("host-b"));
    let _gateway = relay(gateway, outside, GATEWAY_PORT, told, passes_on);

    for (last, name, identity) in [(1, "server", SERVER), (2, "server-2", WAYPOINT)] {
        echo_once(mesh.at("client"), vip(last)).unwrap_or_else(|error| {
            panic!("{name}: {error}\n{}\n{}", mesh.a.process.log(), mesh.b.process.log())
        });
        let call = heard.recv_timeout(PATIENCE).unwrap();
        let hostname = format!("{name}.default.svc.cluster.local");
        assert_eq!(call.service.as_deref(), Some(&*hostname));
        assert_eq!(call.identity.as_deref(), Some(CLIENT));
        let authority = format!("{hostname}:80");
        let record = mesh.a.record("the client's connection", |record| {
            record.get("direction") == "outbound" && record.get("dst.hbone_addr") == authority
        });
        assert_eq!(record.get("dst.addr"), "10.1.0.11:15008", "the gateway's: {record:?}");
        assert_eq!(record.get("dst.identity"), identity, "not the gateway's: {record:?}");
        let record = mesh.b.record("the server's connection", |record| {
            record.get("direction") == "inbound" && record.get("dst.workload") == name
        });
        assert_eq!(record.get("src.identity"), CLIENT, "not the gateway's: {record:?}");
    }
}

/// A service and a workload behind a waypoint that has no application tunnel: it is told of neither before it is called.
fn world_of_a_plain_waypoint() -> String {
    let waypoint = "default/waypoint.default.svc.cluster.local";
    let by = format!("  waypoint: {{destination: {waypoint}, hboneMtlsPort: 15008}}\n");
    let mut text = "workloads:\n".to_owned();
    for (name, address) in [("client", "10.1.0.10"), ("neighbour", "10.1.0.11")] {
        text += &workload(name, "host-a", address, "  services: {}\n");
    }
    text += &workload("server", "host-b", "10.2.0.10", &format!("{by}  services: {{}}\n"));
    let member = format!("  services:\n    {waypoint}: {{15008: 15008}}\n");
    text += &workload("server-2", "host-b", "10.2.0.11", &member);
    text += "services:\n";
    text += &service("server", "/10.96.0.1", &format!("  ports: {{80: 8080}}\n{by}"));
    text += &service("waypoint", "/10.96.0.9", "  ports: {15008: 15008}\n");
    text + "policies: []\n"
}

fn a_waypoint_asks_on_demand_whose_it_is(way: &str) {
    let mesh = on_demand(Mesh::with(way).world(&world_of_a_plain_waypoint())).start();
    let _ports = [80, 8080].map(|port| Application::echo(mesh.at("server-2"), port));
    for asked in [vip(1), mesh.address("server", 8080)] {
        echo_once(mesh.at("client"), asked).unwrap_or_else(|error| {
            panic!("{asked}: {error}\n{}\n{}", mesh.a.process.log(), mesh.b.process.log())
        });
        let record = mesh.b.record("the waypoint's connection", |record| {
            record.get("direction") == "inbound"
                && record.get("dst.hbone_addr") == asked.to_string()
        });
        assert_eq!(record.get("dst.workload"), "server-2", "{record:?}");
        assert_eq!(record.get("src.identity"), CLIENT, "{record:?}");
    }
    // Each host asked for itself, once.
    let asked = asked_for(&mesh, "/10.96.0.1");
    assert_eq!(asked.len(), 2, "{asked:?}");
}

/// The service's waypoint is on the other network; what joins the two is named by a service that nobody has told of.
fn world_of_a_far_waypoint() -> String {
    let name = |name: &str| format!("default/{name}.default.svc.cluster.local");
    let by = |kind: &str, to: &str, port: u16| {
        format!("  {kind}: {{destination: {}, hboneMtlsPort: {port}}}\n", name(to))
    };
    let mut text = "workloads:\n".to_owned();
    text += &workload("client", "host-a", "10.1.0.10", "  network: n1\n  services: {}\n");
    let gateway = format!(
        "  network: n1\n  applicationTunnel: {{protocol: PROXY, port: {GATEWAY_PORT}}}\n  services:\n    \
         {}: {{15018: 15008}}\n",
        name("gateway")
    );
    text += &workload("neighbour", "host-a", "10.1.0.11", &gateway);
    text += &workload("server", "host-b", "10.2.0.10", "  network: n2\n  services: {}\n");
    let waypoint = format!(
        "  network: n2\n{}  services:\n    {}: {{15008: 15008}}\n    {}: {{80: 8080}}\n",
        by("networkGateway", "gateway", 15018),
        name("waypoint"),
        name("server")
    );
    text += &workload("server-2", "host-b", "10.2.0.11", &waypoint);
    text += "services:\n";
    let behind = format!("  ports: {{80: 8080}}\n{}", by("waypoint", "waypoint", 15008));
    text += &service("server", "n1/10.96.0.1", &behind);
    let named = format!("  ports: {{15008: 15008}}\n  subjectAltNames: [\"{WAYPOINT}\"]\n");
    text += &service("waypoint", "n1/10.96.0.8", &named);
    text += &service("gateway", "n1/10.96.0.9", "  ports: {15018: 15008}\n");
    text + "policies: []\n"
}

fn a_waypoint_on_another_network_is_reached_on_demand(way: &str) {
    let mesh = Mesh::with(way).world(&world_of_a_far_waypoint()).networks("n1", "n2");
    let mesh = on_demand(mesh).start();
    let _echo = Application::echo(mesh.at("server-2"), 8080);
    let (told, heard) = channel();
    let waypoint = mesh.address("server-2", 15008);
    let passes_on = move |_: &Call| waypoint;
    // The inner tunnel goes on from where nothing is captured.
    let (gateway, outside) = (mesh.at("neighbour"), mesh.at("host-b"));
    let _gateway = relay(gateway, outside, GATEWAY_PORT, told, passes_on);

    echo_once(mesh.at("client"), vip(1)).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", mesh.a.process.log(), mesh.b.process.log())
    });
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap().identity.as_deref(), Some(CLIENT));
    let hostname = "server.default.svc.cluster.local";
    for (proxy, direction) in [(&mesh.a, "outbound"), (&mesh.b, "inbound")] {
        let record = proxy.record("the connection", |record| {
            record.get("direction") == direction
                && record.get("dst.hbone_addr") == format!("{hostname}:80")
        });
        assert_eq!(record.get("dst.identity"), WAYPOINT, "not the gateway's: {record:?}");
    }
    // On the way there, and by who was named as the way's end.
    for name in ["n1/10.96.0.1", "waypoint", "gateway", "server"] {
        let name = match name.contains('/') {
            true => name.to_owned(),
            false => format!("default/{name}.default.svc.cluster.local"),
        };
        assert_eq!(asked_for(&mesh, &name).len(), 1, "{name}");
    }
}

fn on_demand(mesh: MeshBuilder) -> MeshBuilder {
    mesh.environment("XDS_ON_DEMAND", "true").environment("ISTIO_META_DNS_CAPTURE", "false")
}

/// Requests that subscribe to `name`.
fn asked_for(mesh: &Mesh, name: &str) -> Vec<Value> {
    let names_it = |request: &Value| {
        request["subscribe"].as_array().is_some_and(|names| names.iter().any(|one| one == name))
    };
    mesh.plane().journal("xds-request").into_iter().filter(names_it).collect()
}

/// What a PROXY header said.
struct Call {
    accepted_from: SocketAddr,
    source: SocketAddr,
    destination: SocketAddr,
    identity: Option<String>,
    service: Option<String>,
}

/// Reads for whom a connection is, and passes it on to where `to` says, from the namespace `outside`.
fn relay(
    pod: &Namespace,
    outside: &Namespace,
    port: u16,
    told: Sender<Call>,
    to: impl Fn(&Call) -> SocketAddr + Send + Sync + 'static,
) -> Application {
    let namespace = Arc::new(std::fs::File::open(outside.path()).unwrap());
    let told = Mutex::new(told);
    Application::start(pod, port, move |mut near, from| {
        let call = read_header(&mut near, from);
        let next = to(&call);
        // Whoever listens may have heard enough.
        let _ = told.lock().unwrap().send(call);
        // This thread is this connection's alone.
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).unwrap();
        let Ok(far) = TcpStream::connect_timeout(&next, PATIENCE) else { return };
        prepare(&far);
        let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        thread::spawn(move || pass(back_from, back_to));
        pass(near, far);
    })
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    // Either may leave first.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.flush();
    let _ = to.shutdown(Shutdown::Write);
}

/// Version 2, IPv4, with the entries for identity and service; read byte by byte as the specification has it.
fn read_header(stream: &mut TcpStream, accepted_from: SocketAddr) -> Call {
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(head[12], 0x21, "version 2, PROXY");
    assert_eq!(head[13], 0x11, "TCP over IPv4");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
    stream.read_exact(&mut rest).unwrap();
    let address = |at: usize, port: usize| {
        let ip: [u8; 4] = rest[at..at + 4].try_into().unwrap();
        let port = u16::from_be_bytes([rest[port], rest[port + 1]]);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port)
    };
    let (source, destination) = (address(0, 8), address(4, 10));
    let (mut identity, mut service) = (None, None);
    let mut entries = &rest[12..];
    while let [kind, high, low, more @ ..] = entries {
        let (value, next) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        let text = String::from_utf8(value.to_vec()).unwrap();
        match kind {
            0xd0 => identity = Some(text),
            0xd1 => service = Some(text),
            other => panic!("an entry nobody knows: {other:#x}"),
        }
        entries = next;
    }
    Call { accepted_from, source, destination, identity, service }
}

//! What only a process in ztunnel's place is told, and what is asked of it there.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use ringway_bench::lab::wait_until;
use serde_json::Value;

use crate::support::{
    Application, CLIENT, Mesh, PATIENCE, Question, SERVICE, connect, exchange, http_get,
    try_connect,
};
use crate::under_a_control_plane;

under_a_control_plane! {
    the_proxys_own_metrics_are_scraped_through_a_tunnel,
    the_dump_tells_open_connections_of_pods,
    without_the_proxy_names_are_answered_and_nothing_else_is_done,
    a_mesh_that_agrees_on_keys_in_one_way_only_works,
}

/// The pod that the process on host-b runs in, as istiod knows it.
const OWN_POD: &str = "---
apiVersion: v1
kind: Pod
metadata:
  name: ztunnel-host-b
  namespace: istio-system
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: host-b, serviceAccountName: ztunnel}
status: {podIP: 10.255.2.2}
";

fn the_proxys_own_metrics_are_scraped_through_a_tunnel(way: &str) {
    let mesh = Mesh::with(way).policies(OWN_POD).start();
    assert_eq!(mesh.at("host-b").address(), Ipv4Addr::new(10, 255, 2, 2), "as the document says");
    let metrics = mesh.address("host-b", 15020);
    let (status, text) = http_get(mesh.at("client"), metrics, "/metrics").unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", mesh.a.process.log(), mesh.b.process.log())
    });
    assert_eq!(status, 200);
    assert!(text.contains("istio_build{"), "{text}");
    let own = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
    for (proxy, direction) in [(&mesh.a, "outbound"), (&mesh.b, "inbound")] {
        let record = proxy.record("the scrape", |record| {
            record.get("direction") == direction && record.get("dst.identity") == own
        });
        assert_eq!(record.get("dst.addr"), "10.255.2.2:15008", "{record:?}");
        assert_eq!(record.get("dst.hbone_addr"), metrics.to_string(), "{record:?}");
        assert_eq!(record.get("src.identity"), CLIENT, "{record:?}");
        assert_eq!(record.get("dst.workload"), "ztunnel-host-b", "{record:?}");
    }
    // It is its own pod, and leads nowhere else.
    let ports = [15001, 15006, 15008].map(|port| mesh.address("host-b", port));
    for to in ports {
        let answer = http_get(mesh.at("client"), to, "/");
        assert!(answer.is_err(), "{to}: {answer:?}");
    }
    for port in [15001, 15006] {
        let error = try_connect(mesh.at("host-b"), SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{port}");
    }
}

fn the_dump_tells_open_connections_of_pods(way: &str) {
    let mesh = Mesh::start(way);
    let _echoes = ["server", "server-2"].map(|name| Application::echo(mesh.at(name), 8080));
    let mut open = connect(mesh.at("client"), SERVICE.parse().unwrap());
    exchange(&mut open, b"and stay").unwrap();
    let from = open.local_addr().unwrap().to_string();
    let of = |host: &str, pods: &[&str], direction: &str| {
        let dump = config_dump(&mesh, host);
        let states = dump["workloadState"].as_object().unwrap();
        let one = |pod: &str| {
            let state = states.values().find(|state| state["info"]["name"] == pod).unwrap();
            assert_eq!(state["state"], "Up", "{state}");
            state["connections"][direction].as_array().cloned().unwrap_or_default()
        };
        pods.iter().flat_map(|pod| one(pod)).collect::<Vec<Value>>()
    };
    let outbound = of("host-a", &["client"], "outbound");
    let [connection] = &outbound[..] else { panic!("{outbound:?}") };
    assert_eq!(connection["src"], from);
    assert_eq!(connection["originalDst"], SERVICE);
    assert_eq!(connection["protocol"], "HBONE");
    let dialled = connection["actualDst"].as_str().unwrap();
    assert!(dialled.ends_with(":15008"), "{connection}");
    let inbound = of("host-b", &["server", "server-2"], "inbound");
    let [connection] = &inbound[..] else { panic!("{inbound:?}") };
    assert_eq!(connection["originalDst"], "server.default.svc.cluster.local", "{connection}");
    assert_eq!(connection["protocol"], "HBONE");
    exchange(&mut open, b"still there").unwrap();
    drop(open);
    wait_until("nothing is open", PATIENCE, || of("host-a", &["client"], "outbound").is_empty())
        .unwrap();
}

fn config_dump(mesh: &Mesh, host: &str) -> Value {
    let admin = SocketAddr::from(([127, 0, 0, 1], 15000));
    let (status, text) = http_get(mesh.at(host), admin, "/config_dump").unwrap();
    assert_eq!(status, 200);
    serde_json::from_str(&text).unwrap()
}

fn without_the_proxy_names_are_answered_and_nothing_else_is_done(way: &str) {
    let mesh = Mesh::with(way).environment("ENABLE_PROXY", "false").start();
    let anybody = SocketAddr::from(([10, 1, 0, 99], 53));
    let known = Question::new(4711, "server").ask(mesh.at("client"), anybody).unwrap();
    assert_eq!((known.code, known.addresses), (0, vec![Ipv4Addr::new(10, 96, 0, 1)]));
    for port in [15001, 15006, 15008] {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let error = try_connect(mesh.at("client"), to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{port}");
    }
    assert!(mesh.plane().journal("certificate").is_empty(), "nobody needs one");
}

fn a_mesh_that_agrees_on_keys_in_one_way_only_works(way: &str) {
    let mesh = Mesh::with(way).environment("COMPLIANCE_POLICY", "pqc").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    let record = mesh.b.record("a tunnelled connection", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), CLIENT);
}

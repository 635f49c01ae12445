//! What only a process in ztunnel's place is told, and what is asked of it there.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use ringway_bench::lab::{Namespace, wait_until};
use serde_json::Value;

use crate::support::{
    Application, CLIENT, Mesh, PATIENCE, Question, SERVER, SERVICE, connect, dies_without_data,
    echo_once, exchange, http_get, try_connect,
};
use crate::{under_a_control_plane, under_a_control_plane_on_epoll};

under_a_control_plane! {
    the_proxys_own_metrics_are_scraped_through_a_tunnel,
    the_dump_tells_open_connections_of_pods,
    without_the_proxy_names_are_answered_and_nothing_else_is_done,
    a_mesh_that_agrees_on_keys_in_one_way_only_works,
    what_is_told_on_demand_is_asked_for_when_it_is_needed,
    tunnels_are_shared_up_to_their_streams_and_end_when_nobody_uses_them,
}

under_a_control_plane_on_epoll! {
    the_proxys_own_metrics_are_scraped_through_a_tunnel,
    what_is_told_on_demand_is_asked_for_when_it_is_needed,
    tunnels_are_shared_up_to_their_streams_and_end_when_nobody_uses_them,
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

fn what_is_told_on_demand_is_asked_for_when_it_is_needed(way: &str) {
    let mesh = Mesh::with(way)
        .environment("XDS_ON_DEMAND", "true")
        .environment("ISTIO_META_DNS_CAPTURE", "false")
        .start();
    let _echoes =
        ["server", "server-2", "legacy"].map(|name| Application::echo(mesh.at(name), 8080));
    let (server, service) = (mesh.address("server", 8080), SERVICE.parse().unwrap());
    let outside = mesh.address("legacy", 8080);
    for to in [server, service, outside, server] {
        echo_once(mesh.at("client"), to)
            .unwrap_or_else(|error| panic!("{to}: {error}\n{}", mesh.a.process.log()));
    }
    for (to, identity) in [(server, SERVER), (service, SERVER), (outside, "")] {
        let record = mesh.a.record("a connection", |record| {
            let address = if identity.is_empty() { "dst.addr" } else { "dst.hbone_addr" };
            let meant = if to == service { "10.2.0.1" } else { &to.to_string() };
            record.get("direction") == "outbound" && record.get(address).starts_with(meant)
        });
        assert_eq!(record.get("dst.identity"), identity, "{record:?}");
    }
    // Asked for one by one: who is nobody's destination is not known.
    let names = asked_for(&mesh);
    for name in ["/10.2.0.10", "/10.96.0.1", "/10.2.0.99", "Kubernetes//Pod/default/client"] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
    let dump = config_dump(&mesh, "host-a");
    let known: Vec<_> =
        dump["workloads"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert!(known.iter().any(|name| *name == "server") && known.iter().all(|name| *name != "peer"));

    // What was not told might be in the mesh: without an answer nothing goes there.
    mesh.plane().kill();
    let stranger = Application::echo(mesh.at("stranger"), 8080);
    assert!(dies_without_data(try_connect(mesh.at("client"), mesh.address("stranger", 8080))));
    assert_eq!(stranger.accepted(), 0);
    mesh.a.record("the refusal", |r| r.get("error").contains("told in time what /10.1.0.99 is"));
    mesh.assert_works(8080);

    // Whoever comes back is asked again.
    mesh.plane().restart(&mesh.lab);
    wait_until("the name is answered after all", PATIENCE, || {
        echo_once(mesh.at("client"), mesh.address("stranger", 8080)).is_ok()
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", mesh.a.process.log()));
}

/// Names that were subscribed to.
fn asked_for(mesh: &Mesh) -> BTreeSet<String> {
    let requests = mesh.plane().journal("xds-request");
    let names = requests.iter().filter_map(|request| request["subscribe"].as_array());
    names.flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn tunnels_are_shared_up_to_their_streams_and_end_when_nobody_uses_them(way: &str) {
    let mut mesh = Mesh::with(way)
        .environment("ZTUNNEL_WORKER_THREADS", "1")
        .environment("POOL_MAX_STREAMS_PER_CONNECTION", "3")
        .environment("POOL_UNUSED_RELEASE_TIMEOUT", "3s")
        .start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let server = mesh.address("server", 8080);
    let open = |from: &str, count: usize| -> Vec<TcpStream> {
        let connections = (0..count).map(|_| connect(mesh.at(from), server));
        let mut connections: Vec<_> = connections.collect();
        connections.iter_mut().for_each(|one| exchange(one, b"through").unwrap());
        connections
    };
    // (opened in addition, tunnels then)
    let mut all = Vec::new();
    for (more, tunnels) in [(2, 1), (1, 1), (1, 2), (3, 3)] {
        all.extend(open("client", more));
        assert_eq!(tunnels_of(mesh.at("client")), tunnels, "{} connections", all.len());
    }
    // Another workload has its own, and theirs are no use to it.
    let others = open("neighbour", 1);
    assert_eq!([tunnels_of(mesh.at("client")), tunnels_of(mesh.at("neighbour"))], [3, 1]);
    // What is free is used again.
    drop(all.split_off(3));
    for _ in 0..5 {
        echo_once(mesh.at("client"), server).unwrap();
    }
    assert_eq!(tunnels_of(mesh.at("client")), 3, "those there are");
    wait_until("tunnels without streams are gone", PATIENCE, || tunnels_of(mesh.at("client")) == 1)
        .unwrap();
    all.iter_mut().for_each(|one| exchange(one, b"the used one stays").unwrap());
    drop((all, others));
    wait_until("all are gone", PATIENCE, || tunnels_of(mesh.at("client")) == 0).unwrap();

    // A peer that goes away takes its tunnels along; the next request makes another.
    echo_once(mesh.at("client"), server).unwrap();
    mesh.b.stop();
    mesh.restart("host-b");
    mesh.assert_works(8080);
    assert_eq!(tunnels_of(mesh.at("client")), 1);
}

/// Tunnels that were opened from inside a pod, as the kernel counts them.
fn tunnels_of(pod: &Namespace) -> usize {
    let read = || {
        ["tcp", "tcp6"]
            .map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap())
    };
    let tables = pod.enter(read).unwrap();
    // (…) local address, remote address, state: established, to port 15008.
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, state) = (fields.next(), fields.next());
        remote.is_some_and(|remote| remote.ends_with(":3AA0")) && state == Some("01")
    };
    tables.iter().flat_map(|table| table.lines()).filter(is_one).count()
}

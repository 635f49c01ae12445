//! Workloads that have a name instead of an address: the host's name servers are asked when somebody connects.
//!
//! The name server is in the pod stranger; the names lead to legacy, which is not in the mesh, and to server, which is.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use crate::support::{
    Application, CLIENT, Mesh, NameServer, Question, SERVER, dies_without_data, echo_once,
    try_connect,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    endpoints_with_names_are_resolved_when_somebody_connects,
    a_family_that_is_never_answered_for_is_not_waited_for,
    what_is_not_resolved_is_refused_by_name,
    connections_without_a_resolution_go_on_to_where_they_were_going,
}

under_a_control_plane! {
    endpoints_with_names_are_resolved_when_somebody_connects,
    a_family_that_is_never_answered_for_is_not_waited_for,
    what_is_not_resolved_is_refused_by_name,
    connections_without_a_resolution_go_on_to_where_they_were_going,
}

const LEGACY: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 99);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);

/// Endpoints with names, a host that is its own endpoint, a machine of the mesh that has a name only, a name of nothing.
const ENTRIES: &str = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: listed}
spec:
  hosts: [shop.example.net]
  addresses: [10.97.0.1]
  ports: [{number: 80, name: tcp, targetPort: 8080}]
  resolution: DNS
  endpoints: [{address: backend.example.net}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: its-own}
spec:
  hosts: [legacy.example.net]
  addresses: [10.97.0.2]
  ports: [{number: 8080, name: tcp}]
  resolution: DNS_ROUND_ROBIN
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: machine
  labels: {app: machine, istio.io/dataplane-mode: ambient}
spec: {address: machine.example.net, serviceAccount: server}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: machines}
spec:
  hosts: [machines.example.net]
  addresses: [10.97.0.3]
  ports: [{number: 80, name: tcp, targetPort: 8080}]
  resolution: DNS
  workloadSelector: {labels: {app: machine}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: nothing}
spec:
  hosts: [nothing.example.net]
  addresses: [10.97.0.4]
  ports: [{number: 80, name: tcp}]
  resolution: DNS
";

fn mesh(way: &str) -> Mesh {
    Mesh::with(way).policies(ENTRIES).names_of_hosts("nameserver 10.1.0.99\n").start()
}

fn name_server(mesh: &Mesh) -> NameServer {
    NameServer::start(mesh.at("stranger"), |question| {
        let known: &[Ipv4Addr] = match question.name.split('.').next() {
            Some("backend" | "legacy") => &[LEGACY],
            Some("machine") => &[HOST],
            _ => &[],
        };
        vec![question.answer(known)]
    })
}

fn endpoints_with_names_are_resolved_when_somebody_connects(way: &str) {
    let mesh = mesh(way);
    let _names = name_server(&mesh);
    let _echoes = ["legacy", "server"].map(|name| Application::echo(mesh.at(name), 8080));
    //  service           it leads to                    as
    let rows = [
        ("10.97.0.1:80", "10.2.0.99:8080", "shop.example.net", ""),
        ("10.97.0.2:8080", "10.2.0.99:8080", "legacy.example.net", ""),
        ("10.97.0.3:80", "10.2.0.10:15008", "machines.example.net", SERVER),
    ];
    for (to, address, service, identity) in rows {
        let answer = echo_once(mesh.at("client"), to.parse().unwrap());
        answer.unwrap_or_else(|error| panic!("{to}: {error}\n{}", mesh.a.process.log()));
        let record = mesh.a.record(service, |r| {
            r.get("direction") == "outbound" && r.get("dst.service") == service
        });
        assert_eq!(record.get("dst.addr"), address, "{record:?}");
        assert_eq!(record.get("dst.identity"), identity, "{record:?}");
    }
    let record = mesh.b.record("the tunnel's end", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), CLIENT, "{record:?}");
}

/// The name server's silence lasts longer than a connection waits.
fn a_family_that_is_never_answered_for_is_not_waited_for(way: &str) {
    let resolv_conf = "nameserver 10.1.0.99\noptions timeout:5 attempts:2\n";
    let mesh = Mesh::with(way).policies(ENTRIES).names_of_hosts(resolv_conf).start();
    let _names = NameServer::start(mesh.at("stranger"), |question| match question.is_for_ipv4() {
        true => vec![question.answer(&[LEGACY])],
        false => Vec::new(),
    });
    let _echo = Application::echo(mesh.at("legacy"), 8080);
    let answer = echo_once(mesh.at("client"), "10.97.0.1:80".parse().unwrap());
    answer.unwrap_or_else(|error| panic!("{error}\n{}", mesh.a.process.log()));
}

/// Names are asked for once, however many wait, and what is known is not asked for again soon.
fn what_is_not_resolved_is_refused_by_name(way: &str) {
    let mesh = mesh(way);
    let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
    let heard = std::sync::Arc::clone(&asked);
    let _names = NameServer::start(mesh.at("stranger"), move |question: &Question| {
        heard.lock().unwrap().push(question.name.clone());
        let known: &[Ipv4Addr] = if question.name.starts_with("backend") { &[LEGACY] } else { &[] };
        vec![question.answer(known)]
    });
    let legacy = Application::echo(mesh.at("legacy"), 8080);
    assert!(dies_without_data(try_connect(mesh.at("client"), "10.97.0.4:80".parse().unwrap())));
    let refused = mesh.a.record("the refusal", |r| r.get("error").contains("nothing.example.net"));
    assert_eq!(refused.get("direction"), "outbound", "{refused:?}");
    assert_eq!(legacy.accepted(), 0);
    for _ in 0..5 {
        echo_once(mesh.at("client"), "10.97.0.1:80".parse().unwrap()).unwrap();
    }
    let asked = asked.lock().unwrap();
    let times = |name: &str| asked.iter().filter(|one| *one == name).count();
    // For both families.
    assert!((1..=2).contains(&times("backend.example.net")), "{asked:?}");
    assert!(times("nothing.example.net") >= 1, "{asked:?}");
}

fn connections_without_a_resolution_go_on_to_where_they_were_going(way: &str) {
    let entry = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: passed}
spec:
  hosts: ['*.example.org']
  addresses: [10.2.0.99, 10.98.0.0/16]
  ports: [{number: 8080, name: tcp}]
  resolution: NONE
";
    let mesh = Mesh::with(way).policies(entry).start();
    let _echo = Application::echo(mesh.at("legacy"), 8080);
    echo_once(mesh.at("client"), mesh.address("legacy", 8080)).unwrap();
    let record = mesh.a.record("what was passed", |r| r.get("dst.service") == "*.example.org");
    assert_eq!(record.get("dst.addr"), "10.2.0.99:8080", "{record:?}");
}

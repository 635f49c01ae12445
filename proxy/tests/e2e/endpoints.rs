//! Endpoints of a service go and come back; its clients do not notice, but for the time it takes.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use ringway_bench::lab::wait_until;

use crate::support::{Application, Mesh, PATIENCE, SERVICE, http_get};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    an_endpoint_whose_host_is_gone_costs_no_connection,
    an_endpoint_without_its_application_costs_no_connection,
    the_endpoint_on_the_own_host_goes_first_and_others_stand_in,
}

under_a_control_plane! {
    an_endpoint_whose_host_is_gone_costs_no_connection,
    an_endpoint_without_its_application_costs_no_connection,
    the_endpoint_on_the_own_host_goes_first_and_others_stand_in,
}

const CLIENTS: usize = 6;
const CONNECTIONS: usize = 10;

fn an_endpoint_whose_host_is_gone_costs_no_connection(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::http(mesh.at("server"), 8080, "server");
    let _other = Application::http(mesh.at("server-2"), 8080, "server-2");
    // With tunnels to both, as in the midst of life.
    until_both_answer(&mesh);

    route(&mesh, "add");
    assert_eq!(ask_often(&mesh), BTreeSet::from(["server-2".to_owned()]));
    let retries = [("at", "endpoint")];
    let retried = mesh.a.metrics(&mesh.lab).sum("ringway_connection_retries_total", &retries);
    assert!(retried >= 1.0, "nobody tried the one that is gone");
    // One record for each connection, none of them an error, and it names who answered.
    let failed = |r: &crate::support::Record| !r.get("error").is_empty();
    mesh.a.record("the last of them", |r| r.get("dst.addr").starts_with("10.2.0.11:"));
    assert_eq!(mesh.a.records(failed), 0);

    route(&mesh, "del");
    until_both_answer(&mesh);
}

fn an_endpoint_without_its_application_costs_no_connection(reactor: &str) {
    let mesh = Mesh::start(reactor);
    // Nobody listens on this port of server: its proxy answers 503.
    let _other = Application::http(mesh.at("server-2"), 8080, "server-2");
    assert_eq!(ask_often(&mesh), BTreeSet::from(["server-2".to_owned()]));
    let failed = |r: &crate::support::Record| !r.get("error").is_empty();
    assert_eq!(mesh.a.records(failed), 0);
}

fn the_endpoint_on_the_own_host_goes_first_and_others_stand_in(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let near = Application::http(mesh.at("neighbour"), 8080, "neighbour");
    let _far = Application::http(mesh.at("server"), 8080, "server");
    let _other = Application::http(mesh.at("server-2"), 8080, "server-2");
    // As in docs/configuration.md: three workloads behind one Service, one of them on the client's host.
    let ranked =
        mesh.settings.configuration(&mesh.lab).replace("app: neighbour", "app: server").replace(
            "clusterIP: 10.96.0.1",
            "clusterIP: 10.96.0.1\n  trafficDistribution: PreferSameNode",
        );
    mesh.rewrite(&ranked);
    wait_until("the neighbour answers", PATIENCE, || ask(&mesh) == "neighbour").unwrap();
    assert_eq!(ask_often(&mesh), BTreeSet::from(["neighbour".to_owned()]));
    drop(near);
    let others = ask_often(&mesh);
    assert!(!others.contains("neighbour"), "{others:?}");
}

/// Takes away, or gives back, the way to server: what is sent to it vanishes.
fn route(mesh: &Mesh, what: &str) {
    let address = mesh.at("server").address().to_string();
    let ip = || Command::new("ip").args(["rule", what, "blackhole", "to", &address]).status();
    let status = mesh.at("host-b").enter(ip).unwrap().unwrap();
    assert!(status.success(), "ip rule {what}: {status}");
}

fn until_both_answer(mesh: &Mesh) {
    let mut seen = BTreeSet::new();
    let both = || {
        seen.insert(ask(mesh));
        seen.len() == 2
    };
    wait_until("both endpoints answer", PATIENCE, both).unwrap();
}

/// Many connections to the service at a time; all must be answered. Returns by whom.
fn ask_often(mesh: &Mesh) -> BTreeSet<String> {
    thread::scope(|scope| {
        let one = || (0..CONNECTIONS).map(|_| ask(mesh)).collect::<BTreeSet<_>>();
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn ask(mesh: &Mesh) -> String {
    let (status, body) = http_get(mesh.at("client"), SERVICE.parse().unwrap(), "/").unwrap();
    assert_eq!(status, 200, "{body}");
    body.split(' ').next().unwrap_or_default().to_owned()
}

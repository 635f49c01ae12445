//! Other ways to run it: one proxy in the workload's own namespace, rules that others install, and
//! the example of the README.

use std::net::SocketAddr;
use std::path::Path;

use ringway_bench::lab::{Lab, Program, wait_until};

use crate::on_both_reactors;
use crate::support::{Application, Mesh, PATIENCE, http_get};

on_both_reactors! {
    dedicated_proxies_do_the_same,
    the_start_says_which_reactor_was_chosen,
    without_rules_nothing_is_captured,
    the_example_of_two_services_runs,
}

fn dedicated_proxies_do_the_same(reactor: &str) {
    let mut mesh = Mesh::with(reactor).dedicated().start();
    let _server = Application::http(mesh.at("server"), 8080, "server");
    let (status, body) =
        http_get(mesh.at("client"), mesh.address("server", 8080), "/hello").unwrap();
    assert_eq!((status, body.as_str()), (200, "server was asked from 10.1.0.10"));
    let record = mesh.b.record("the connection's end", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), "spiffe://cluster.local/ns/default/sa/client");
    mesh.a.stop();
    mesh.b.stop();
}

fn the_start_says_which_reactor_was_chosen(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let log = mesh.a.process.log();
    let word = if reactor == "ring" { "io_uring" } else { "epoll" };
    assert!(log.contains(word), "{log}");
}

fn without_rules_nothing_is_captured(reactor: &str) {
    let mesh = Mesh::with(reactor).redirect("none").start();
    let _server = Application::http(mesh.at("server"), 8080, "server");
    let (status, _) = http_get(mesh.at("client"), mesh.address("server", 8080), "/").unwrap();
    assert_eq!(status, 200);
    assert_eq!(mesh.a.records(|_| true) + mesh.b.records(|_| true), 0);
}

fn the_example_of_two_services_runs(reactor: &str) {
    let mut lab = Lab::unique().unwrap();
    for (host, pod, address) in
        [("host-a", "shop", [10, 1, 0, 10]), ("host-b", "stock", [10, 2, 0, 10])]
    {
        lab.add_host(host).unwrap();
        lab.add_pod(host, pod, address.into()).unwrap();
    }
    // As it stands in the repository, but for the names of the namespaces: these are ours alone.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-services/mesh.yaml");
    let mut text = std::fs::read_to_string(path).unwrap();
    for pod in ["shop", "stock"] {
        text = text.replace(&format!("rw-{pod}"), lab.namespace(pod).name());
    }
    let file = lab.directory().join("mesh.yaml");
    std::fs::write(&file, text).unwrap();
    let mut nodes = Vec::new();
    for host in ["host-a", "host-b"] {
        let program = Program::new(env!("CARGO_BIN_EXE_ringway"))
            .arguments(["run", "--reactor", reactor, "--node", host, "--file"])
            .argument(&file);
        nodes.push(lab.start(host, host, &program).unwrap());
        let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
        wait_until("it is ready", PATIENCE, || {
            http_get(lab.namespace(host), ready, "/healthz/ready")
                .is_ok_and(|(code, _)| code == 200)
        })
        .unwrap();
    }
    let _stock = Application::http(lab.namespace("stock"), 8080, "stock");
    let service = "10.96.0.20:80".parse().unwrap();
    let (_, body) = http_get(lab.namespace("shop"), service, "/").unwrap();
    assert_eq!(body, "stock was asked from 10.1.0.10");
    let identity = "spiffe://cluster.local/ns/default/sa/shop";
    nodes[1].wait_for_log(identity, PATIENCE).unwrap();
}

//! Other ways to run it: one proxy in the workload's own namespace, and rules that others install.

use crate::on_both_reactors;
use crate::support::{Application, Mesh, http_get};

on_both_reactors! {
    dedicated_proxies_do_the_same,
    the_start_says_which_reactor_was_chosen,
    without_rules_nothing_is_captured,
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

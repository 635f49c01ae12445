//! Policies: who is let in, who is not, who is cut off, and what is told about it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use ringway_bench::lab::{Namespace, wait_until};
use rustix::net;

use crate::support::{
    Application, Mesh, PATIENCE, Proxy, Record, assert_cut, connect, dies_without_data, echo_once,
    exchange, prepare, try_connect,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    nobody_gets_in_without_an_identity,
    probes_of_the_host_get_in,
    permissive_lets_everybody_in,
    only_named_identities_get_in,
    a_namespace_is_kept_out,
    addresses_are_kept_out,
    a_port_can_be_open_and_another_not,
    a_dry_run_is_told_and_decides_nothing,
    a_policy_cuts_live_connections,
    closing_the_mesh_cuts_who_has_no_identity,
    the_port_a_client_comes_from_opens_nothing,
    removing_a_policy_reopens,
    a_bad_policy_keeps_the_old_ones,
    a_dangling_name_of_a_policy_changes_nothing,
}

under_a_control_plane! {
    nobody_gets_in_without_an_identity,
    probes_of_the_host_get_in,
    permissive_lets_everybody_in,
    only_named_identities_get_in,
    a_namespace_is_kept_out,
    addresses_are_kept_out,
    a_port_can_be_open_and_another_not,
    a_policy_cuts_live_connections,
    closing_the_mesh_cuts_who_has_no_identity,
    the_port_a_client_comes_from_opens_nothing,
    removing_a_policy_reopens,
}

/// The policy that denies whoever has no identity.
const STRICT: &str = "istio-system/istio_converted_static_strict";

/// The AuthorizationPolicy `default/NAME` for the pods `server`.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{app: server}}}}\n{spec}"
    )
}

/// Only `client` may come in.
fn only_client() -> String {
    policy(
        "only-client",
        "  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}]\n",
    )
}

/// Who connects from `from` to the server is refused, and never seen by it.
fn assert_refused(mesh: &Mesh, server: &Application, from: &str, port: u16) {
    let before = server.accepted();
    let refused = try_connect(mesh.at(from), mesh.address("server", port));
    assert!(dies_without_data(refused), "{from} was let in");
    assert_eq!(server.accepted(), before, "the application has seen {from}");
}

fn refusal_of(proxy: &Proxy, client: &str) -> Record {
    proxy.record("the refusal", |record| {
        record.get("direction") == "inbound"
            && record.get("src.addr").starts_with(client)
            && !record.get("error").is_empty()
    })
}

fn nobody_gets_in_without_an_identity(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let server = Application::echo(mesh.at("server"), 8080);
    assert_refused(&mesh, &server, "stranger", 8080);
    let record = refusal_of(&mesh.b, "10.1.0.99:");
    assert_eq!((record.get("policy"), record.get("policy.rule")), (STRICT, "0"), "{record:?}");
    assert!(record.get("error").contains(STRICT), "{record:?}");
    let flags = [("reporter", "destination"), ("response_flags", "DENY")];
    wait_until("it is counted", PATIENCE, || {
        mesh.b.metrics(&mesh.lab).sum("istio_tcp_connections_failed_total", &flags) == 1.0
    })
    .unwrap();
    // On the very host, too; and who has an identity gets in.
    assert_refused(&mesh, &server, "legacy", 8080);
    mesh.assert_works(8080);
    echo_once(mesh.at("server-2"), mesh.address("server", 8080)).unwrap();
}

/// Tunnels are let through the rules by their port. Whoever connects from that port is no tunnel.
fn the_port_a_client_comes_from_opens_nothing(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let server = Application::echo(mesh.at("server"), 8080);
    let own = mesh.address("stranger", 15008);
    let refused = connect_as(mesh.at("stranger"), own, mesh.address("server", 8080));
    assert!(dies_without_data(refused), "a port has let it in");
    assert_eq!(server.accepted(), 0);
    assert_eq!(refusal_of(&mesh.b, &own.to_string()).get("policy"), STRICT);
}

/// Connects under an address of this namespace.
fn connect_as(from: &Namespace, own: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let connect = || {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None)?;
        net::bind(&socket, &own)?;
        net::connect(&socket, &to)?;
        Ok::<_, io::Error>(TcpStream::from(socket))
    };
    let stream = from.enter(connect).unwrap()?;
    prepare(&stream);
    Ok(stream)
}

/// A kubelet asks from an address that only its host has; it has no identity, and must be answered.
fn probes_of_the_host_get_in(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::echo(mesh.at("server"), 8080);
    let host = mesh.at("host-b");
    assert!(dies_without_data(try_connect(host, mesh.address("server", 8080))));
    let probe = "169.254.7.127";
    host.enter(|| Command::new("ip").args(["addr", "add", probe, "dev", "lo"]).status().unwrap())
        .unwrap();
    let own = SocketAddr::new(probe.parse().unwrap(), 0);
    let mut stream = connect_as(host, own, mesh.address("server", 8080)).unwrap();
    exchange(&mut stream, b"are you well?").unwrap();
    drop(stream);
    // It goes to the application as it is: nobody was asked, and there is nothing to tell.
    mesh.assert_works(8080);
    mesh.b.record("another connection", |record| record.get("src.addr").starts_with("10.1.0.10:"));
    assert_eq!(mesh.b.records(|record| record.get("src.addr").starts_with(probe)), 0);
}

fn permissive_lets_everybody_in(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    let _server = Application::echo(mesh.at("server"), 8080);
    for from in ["stranger", "legacy", "client"] {
        echo_once(mesh.at(from), mesh.address("server", 8080)).unwrap();
    }
    // Also from the port of tunnels, and not past us.
    let own = mesh.address("stranger", 15008);
    let mut stream = connect_as(mesh.at("stranger"), own, mesh.address("server", 8080)).unwrap();
    exchange(&mut stream, b"from a port like any other").unwrap();
    drop(stream);
    mesh.b.record("its end", |record| record.get("src.addr") == own.to_string());
}

fn only_named_identities_get_in(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().policies(&only_client()).start();
    let server = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    assert_refused(&mesh, &server, "neighbour", 8080);
    let record = refusal_of(&mesh.b, "10.1.0.11:");
    assert_eq!(record.get("src.identity"), "spiffe://cluster.local/ns/default/sa/neighbour");
    assert!(record.get("error").contains("none allowed"), "{record:?}");
    // The mesh is open to clients without an identity, but an ALLOW policy is for those it names.
    assert_refused(&mesh, &server, "stranger", 8080);
    // It is for `server` only.
    let _open = Application::echo(mesh.at("client"), 8080);
    echo_once(mesh.at("neighbour"), mesh.address("client", 8080)).unwrap();
}

fn a_namespace_is_kept_out(reactor: &str) {
    let not_default = policy(
        "not-default",
        "  action: DENY\n  rules: [{from: [{source: {namespaces: [default]}}]}]\n",
    );
    let mesh = Mesh::with(reactor).permissive().policies(&not_default).start();
    let server = Application::echo(mesh.at("server"), 8080);
    assert_refused(&mesh, &server, "client", 8080);
    let record = refusal_of(&mesh.b, "10.1.0.10:");
    assert_eq!(record.get("policy"), "default/not-default");
    // Who has no identity is of no namespace.
    echo_once(mesh.at("stranger"), mesh.address("server", 8080)).unwrap();
}

fn addresses_are_kept_out(reactor: &str) {
    let not_these = policy(
        "not-these",
        "  action: DENY\n  rules: [{from: [{source: {ipBlocks: [10.1.0.11, 10.1.0.96/28]}}]}]\n",
    );
    let mesh = Mesh::with(reactor).permissive().policies(&not_these).start();
    let server = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    assert_refused(&mesh, &server, "neighbour", 8080);
    assert_refused(&mesh, &server, "stranger", 8080);
    echo_once(mesh.at("legacy"), mesh.address("server", 8080)).unwrap();
}

fn a_port_can_be_open_and_another_not(reactor: &str) {
    let ports = policy("ports", "  rules: [{to: [{operation: {ports: ['8080']}}]}]\n")
        + "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ports}\n\
           spec: {selector: {matchLabels: {app: server}}, portLevelMtls: {8080: {mode: PERMISSIVE}}}\n";
    let mesh = Mesh::with(reactor).policies(&ports).start();
    let _open = Application::echo(mesh.at("server"), 8080);
    let closed = Application::echo(mesh.at("server"), 8081);
    for from in ["client", "stranger"] {
        echo_once(mesh.at(from), mesh.address("server", 8080)).unwrap();
        assert_refused(&mesh, &closed, from, 8081);
    }
    let record = refusal_of(&mesh.b, "10.1.0.99:");
    assert_eq!(record.get("policy"), "default/converted_peer_authentication_ports");
}

fn a_dry_run_is_told_and_decides_nothing(reactor: &str) {
    let dry_run = policy("soon", "  action: DENY\n  rules: [{}]\n")
        .replace("{name: soon}", "{name: soon, annotations: {istio.io/dry-run: 'true'}}");
    let mut mesh = Mesh::with(reactor).policies(&dry_run).start();
    let _server = Application::echo(mesh.at("server"), 8080);
    let text = mesh.settings.configuration(&mesh.lab);
    mesh.rewrite(&text.replace(
        "spec:\n  reactor",
        "spec:\n  log: {level: 'info,authorization=debug'}\n  reactor",
    ));
    wait_until("the level of the log is changed", PATIENCE, || {
        mesh.assert_works(8080);
        mesh.b.process.log().contains("dry run: the policy would deny the connection")
    })
    .unwrap_or_else(|error| panic!("{error}: {}", mesh.b.process.log()));
    mesh.b.wait_for_log("policy=\"default/soon\" policy.rule=0");
    let told = [("outcome", "denied")];
    assert!(mesh.b.metrics(&mesh.lab).sum("ringway_policy_dry_runs_total", &told) > 0.0);
}

fn a_policy_cuts_live_connections(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    let _server = Application::echo(mesh.at("server"), 8080);
    let open = |from| {
        let mut stream = connect(mesh.at(from), mesh.address("server", 8080));
        exchange(&mut stream, b"before the policy").unwrap();
        stream
    };
    let (mut allowed, mut denied, mut plain) =
        (open("client"), open("neighbour"), open("stranger"));
    let text = mesh.settings.clone().policies(&no_neighbours()).configuration(&mesh.lab);
    mesh.rewrite(&text);
    assert_cut(&mut denied);
    assert_cut(&mut plain);
    for client in ["10.1.0.11:", "10.1.0.99:"] {
        let record = refusal_of(&mesh.b, client);
        assert_eq!(record.get("policy"), "default/no-neighbours", "{record:?}");
    }
    assert_eq!(refusal_of(&mesh.b, "10.1.0.11:").get("policy.rule"), "1");
    assert_eq!(refusal_of(&mesh.b, "10.1.0.99:").get("policy.rule"), "0");
    exchange(&mut allowed, b"after the policy").unwrap();
}

/// Denies `stranger` by its first rule and `neighbour` by its second.
fn no_neighbours() -> String {
    policy(
        "no-neighbours",
        "  action: DENY\n  rules:\n  - from: [{source: {notPrincipals: ['*']}}]\n  \
         - from: [{source: {serviceAccounts: [neighbour]}}]\n",
    )
}

/// No policy changes by it: workloads name another one.
fn closing_the_mesh_cuts_who_has_no_identity(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    let server = Application::echo(mesh.at("server"), 8080);
    let mut open = ["client", "stranger"].map(|from| {
        let mut stream = connect(mesh.at(from), mesh.address("server", 8080));
        exchange(&mut stream, b"before it is closed").unwrap();
        stream
    });
    mesh.rewrite(&Mesh::with(reactor).configuration(&mesh.lab));
    assert_cut(&mut open[1]);
    assert_eq!(refusal_of(&mesh.b, "10.1.0.99:").get("policy"), STRICT);
    exchange(&mut open[0], b"after it is closed").unwrap();
    assert_refused(&mesh, &server, "stranger", 8080);
}

fn removing_a_policy_reopens(reactor: &str) {
    let mesh = Mesh::with(reactor).policies(&only_client()).start();
    let server = Application::echo(mesh.at("server"), 8080);
    assert_refused(&mesh, &server, "neighbour", 8080);
    mesh.rewrite(&mesh.settings.clone().policies("").configuration(&mesh.lab));
    wait_until("neighbour is let in", PATIENCE, || {
        echo_once(mesh.at("neighbour"), mesh.address("server", 8080)).is_ok()
    })
    .unwrap();
}

fn a_bad_policy_keeps_the_old_ones(reactor: &str) {
    let mut mesh = Mesh::with(reactor).policies(&only_client()).start();
    let server = Application::echo(mesh.at("server"), 8080);
    let bad = only_client().replace("default/sa/client", "*/sa/neighbour");
    mesh.rewrite(&mesh.settings.clone().policies(&bad).configuration(&mesh.lab));
    mesh.b.wait_for_log("a `*` may stand at the beginning or at the end");
    assert_refused(&mesh, &server, "neighbour", 8080);
    mesh.assert_works(8080);
}

/// In ztunnel's local file a workload names its policies itself.
fn a_dangling_name_of_a_policy_changes_nothing(reactor: &str) {
    let mut mesh = Mesh::with(reactor).policies(&only_client()).start();
    let server = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    let unknown = "---\nworkloads:\n- {uid: x, name: x, namespace: default, trustDomain: cluster.local, \
                   serviceAccount: x, protocol: HBONE, workloadIps: [10.9.9.9], services: {}, \
                   authorizationPolicies: [default/only-client, default/nobody-knows]}\n";
    let text = mesh.settings.configuration(&mesh.lab) + unknown;
    mesh.rewrite(&text);
    mesh.b.wait_for_log("there is no policy `default/nobody-knows`");
    // The reload was refused as a whole: who was let in before still is, and nobody else.
    mesh.assert_works(8080);
    assert_refused(&mesh, &server, "neighbour", 8080);
}

//! The other end of the tunnel is not Ringway: the `h2` crate, and a real Envoy.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ringway_bench::lab::{Process, Program, wait_until};
use ringway_bench::pattern::Digest;

use crate::support::{Application, Mesh, PATIENCE, connect, echo_once, exchange, reset};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    tunnels_from_h2_end_here,
    our_tunnels_end_at_h2,
    tunnels_from_envoy_end_here,
    our_tunnels_end_at_envoy,
}

under_a_control_plane! {
    tunnels_from_h2_end_here,
    our_tunnels_end_at_h2,
    tunnels_from_envoy_end_here,
    our_tunnels_end_at_envoy,
}

const PEER: &str = "spiffe://cluster.local/ns/default/sa/peer";

fn tunnels_from_h2_end_here(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let mut relay = start_relay(
        &mesh,
        "outbound",
        &[
            "--listen",
            "0.0.0.0:9000",
            "--to",
            "10.2.0.10:8080",
            "--peer",
            "10.2.0.10:15008",
            "--expect",
            "spiffe://cluster.local/ns/default/sa/server",
        ],
    );
    relay.wait_for_log("listening", PATIENCE).unwrap();
    assert_carries_everything(&mesh, "stranger", "server", mesh.address("peer", 9000));
    let record = mesh.b.record("the tunnel's record", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), PEER);
}

fn our_tunnels_end_at_h2(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let mut relay = start_relay(&mesh, "inbound", &["--listen", "0.0.0.0:15008"]);
    relay.wait_for_log("listening", PATIENCE).unwrap();
    assert_carries_everything(&mesh, "client", "peer", mesh.address("peer", 8080));
    let record = mesh.a.record("the tunnel's record", |r| r.get("direction") == "outbound");
    assert_eq!(record.get("dst.identity"), PEER);
}

fn tunnels_from_envoy_end_here(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let mut envoy = start_envoy(&mesh, "originate", "10.2.0.10:8080", PEER);
    wait_for_port(&mut envoy, &mesh, 9000);
    assert_carries_everything(&mesh, "stranger", "server", mesh.address("peer", 9000));
    let record = mesh.b.record("the tunnel's record", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), PEER);
    assert_eq!(record.get("dst.hbone_addr"), "10.2.0.10:8080");
}

fn our_tunnels_end_at_envoy(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let mut envoy = start_envoy(&mesh, "terminate", "10.2.0.20", PEER);
    wait_for_port(&mut envoy, &mesh, 15008);
    assert_carries_everything(&mesh, "client", "peer", mesh.address("peer", 8080));
    let record = mesh.a.record("the tunnel's record", |r| r.get("direction") == "outbound");
    assert_eq!(record.get("dst.identity"), PEER);
    // Envoy understood who it is and where it wanted to go.
    let line = "tunnel 10.2.0.20:8080 from spiffe://cluster.local/ns/default/sa/client";
    envoy.wait_for_log(line, PATIENCE).unwrap();
    let log = envoy.log();
    let line = log.lines().find(|found| found.contains(line)).unwrap();
    assert!(line.contains("k8s.namespace.name=default"), "{line}");
    assert!(line.contains("forwarded [for=\"10.1.0.10:"), "{line}");
}

/// An application on `pod` is reached by `client` through `to`: small, large, half-closed, many, and
/// again after a reset.
fn assert_carries_everything(mesh: &Mesh, client: &str, pod: &str, to: SocketAddr) {
    const BYTES: u64 = 4 << 20;
    let echo = Application::echo(mesh.at(pod), 8080);
    let from = mesh.at(client);
    echo_once(from, to).unwrap();
    let mut streams: Vec<_> = (0..30).map(|_| connect(from, to)).collect();
    for stream in &mut streams {
        exchange(stream, b"one of many").unwrap();
    }
    reset(streams.pop().unwrap());
    drop(streams);
    echo_once(from, to).unwrap();
    drop(echo);

    let _sink = Application::sink(mesh.at(pod), 8080);
    let mut stream = connect(from, to);
    let mut piece = vec![0; 65_536];
    for number in 0..BYTES / 65_536 {
        ringway_bench::pattern::fill(5, number * 65_536, &mut piece);
        stream.write_all(&piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => panic!("reset, not ended"),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(answer, format!("{BYTES} {:016x}", Digest::of_stream(5, BYTES).value()));
}

fn start_relay(mesh: &Mesh, end: &str, arguments: &[&str]) -> Process {
    let files = mesh.certificate(PEER);
    let program = Program::new(bench_program().with_file_name("ringway-bench-reference"))
        .argument(end)
        .arguments(arguments)
        .argument("--certificate")
        .argument(&files.certificate)
        .argument("--key")
        .argument(&files.key)
        .argument("--roots")
        .argument(&files.roots);
    mesh.lab.start("peer", "relay", &program).unwrap()
}

fn start_envoy(mesh: &Mesh, which: &str, destination: &str, identity: &str) -> Process {
    let files = mesh.certificate(identity);
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/envoy/{which}.yaml"));
    let text = fs::read_to_string(template)
        .unwrap()
        .replace("{{destination}}", destination)
        .replace("{{peer}}", "10.2.0.10")
        .replace("{{certificate}}", &files.certificate.display().to_string())
        .replace("{{key}}", &files.key.display().to_string())
        .replace("{{roots}}", &files.roots.display().to_string());
    let path = mesh.lab.directory().join("envoy.yaml");
    fs::write(&path, text).unwrap();
    let program = Program::new(envoy_program())
        .arguments(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning", "-c"])
        .argument(&path);
    mesh.lab.start("peer", "envoy", &program).unwrap()
}

fn wait_for_port(process: &mut Process, mesh: &Mesh, port: u16) {
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("it listens", PATIENCE, || {
        assert!(process.is_running(), "it ended:\n{}", process.log());
        mesh.at("peer").connect(here).is_ok()
    })
    .unwrap();
}

/// The other program of this repository, built once if it is not.
fn bench_program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let ringway = Path::new(env!("CARGO_BIN_EXE_ringway"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--package", "ringway-bench"]);
        if ringway.parent().is_some_and(|profile| profile.ends_with("release")) {
            cargo.arg("--release");
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "cannot build ringway-bench");
        ringway.with_file_name("ringway-bench")
    };
    PROGRAM.get_or_init(build).clone()
}

fn envoy_program() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_ringway")).ancestors().nth(2).unwrap();
    let path = std::env::var_os("ENVOY").map_or_else(|| target.join("tools/envoy"), PathBuf::from);
    assert!(path.exists(), "no Envoy at {}; scripts/get-envoy puts it there", path.display());
    path
}

//! What happens at the bounds: a clear refusal, a number, one line a second, and nobody else notices.
//!
//! Bounds that a story sets for itself stand in the Node document. In ztunnel's place there is none, and no variable for
//! them: there, stories run that meet the bounds as they are, or the system's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::lab::wait_until;
use ringway_bench::measure;
use ringway_bench::probe;

use crate::support::{
    Application, CONTROL_PLANE, Mesh, PATIENCE, Proxy, connect, dies_without_data, echo_once,
    exchange, http_get, is_timeout, try_connect,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    at_the_descriptor_limit_all_that_is_there_goes_on,
    a_workload_at_its_bound_is_refused_and_its_neighbour_is_not,
    silent_handshakes_make_room_for_honest_ones,
    slow_handshakes_cost_little_and_are_cut,
    tunnels_beyond_the_bound_are_reset,
    who_opens_a_tunnel_for_nothing_is_cut,
    who_does_not_read_is_cut_before_memory_runs_out,
}

under_a_control_plane! {
    at_the_descriptor_limit_all_that_is_there_goes_on,
    slow_handshakes_cost_little_and_are_cut,
    who_opens_a_tunnel_for_nothing_is_cut,
}

const LIMIT_REACHED: &str = "a limit was reached";

fn at_the_descriptor_limit_all_that_is_there_goes_on(reactor: &str) {
    let mut mesh = Mesh::with(reactor).descriptors(150).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let _legacy = Application::echo(mesh.at("legacy"), 8080);
    let mut live: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
            exchange(&mut stream, b"before").unwrap();
            stream
        })
        .collect();
    // What leaves the mesh takes two descriptors each.
    let storm: Vec<_> = (0..300)
        .filter_map(|_| {
            let to = mesh.address("legacy", 8080);
            mesh.at("client").connect_timeout(to, Duration::from_millis(500)).ok()
        })
        .collect();
    wait_until("the bound is met", PATIENCE, || reached(&mesh, &mesh.a, "descriptors") > 0.0)
        .unwrap();
    let id = mesh.a.process.id();
    let said = |mesh: &Mesh| mesh.a.process.log().matches(LIMIT_REACHED).count();
    let (start, before) = (Instant::now(), measure::processor_time(id).unwrap());
    let said_before = said(&mesh);
    thread::sleep(Duration::from_secs(3));
    let spent = measure::processor_time(id).unwrap() - before;
    assert!(spent < start.elapsed() / 5, "{spent:?} of processor time in {:?}", start.elapsed());
    assert!(said(&mesh) - said_before <= 4, "{}", mesh.a.process.log());
    for stream in &mut live {
        exchange(stream, b"during").unwrap();
    }
    // What the reserve is for.
    let admin = SocketAddr::from(([127, 0, 0, 1], 15000));
    assert_eq!(http_get(mesh.at("host-a"), admin, "/config_dump").unwrap().0, 200);
    if reactor != CONTROL_PLANE {
        let text = mesh.settings.configuration(&mesh.lab);
        mesh.rewrite(&format!("{text}\n# changed\n"));
        mesh.a.wait_for_log("configuration reloaded");
    }
    drop(storm);
    wait_until("there is room again", PATIENCE, || {
        echo_once(mesh.at("client"), mesh.address("legacy", 8080)).is_ok()
    })
    .unwrap();
    for stream in &mut live {
        exchange(stream, b"after").unwrap();
    }
}

fn a_workload_at_its_bound_is_refused_and_its_neighbour_is_not(reactor: &str) {
    let mut mesh = Mesh::with(reactor).limits("{connectionsPerWorkload: 20}").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let _other = Application::echo(mesh.at("server-2"), 8080);
    let to = mesh.address("server", 8080);
    let mut held: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect(mesh.at("client"), to);
            exchange(&mut stream, b"held").unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        assert!(dies_without_data(try_connect(mesh.at("client"), to)), "beyond the bound");
    }
    // The server's bound is met, too: its peers are answered 503.
    assert!(dies_without_data(try_connect(mesh.at("neighbour"), to)), "beyond the server's bound");
    echo_once(mesh.at("neighbour"), mesh.address("server-2", 8080)).unwrap();
    assert_eq!(reached(&mesh, &mesh.a, "connectionsPerWorkload"), 50.0);
    assert_eq!(reached(&mesh, &mesh.b, "connectionsPerWorkload"), 1.0);
    mesh.a.wait_for_log(LIMIT_REACHED);
    // Fifty refusals are no fifty lines.
    assert_eq!(mesh.a.records(|record| record.get("error").contains("connectionsPerWorkload")), 0);
    held.truncate(10);
    wait_until("who leaves makes room", PATIENCE, || echo_once(mesh.at("client"), to).is_ok())
        .unwrap();
    for stream in &mut held {
        exchange(stream, b"still").unwrap();
    }
}

fn silent_handshakes_make_room_for_honest_ones(reactor: &str) {
    let limits = "{handshakesPerWorkload: 8}";
    let mesh = Mesh::with(reactor).limits(limits).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let _silent: Vec<TcpStream> =
        (0..60).map(|_| connect(mesh.at("stranger"), mesh.address("server", 15008))).collect();
    // It needs a tunnel of its own, behind all those.
    echo_once(mesh.at("neighbour"), mesh.address("server", 8080)).unwrap();
    // The other shard may still be accepting those of its share.
    let bound = "handshakesPerWorkload";
    wait_until("the bound is met", PATIENCE, || reached(&mesh, &mesh.b, bound) > 0.0).unwrap();
}

/// Half of them say nothing, half begin a ClientHello.
fn slow_handshakes_cost_little_and_are_cut(reactor: &str) {
    const SLOW: u64 = 1000;
    const HELD_BYTES_MAX: u64 = 8 * 1024;
    let mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    let id = mesh.b.process.id();
    let resident = || measure::memory(id).unwrap().resident_bytes;
    let descriptors = || measure::descriptors(id).unwrap() as u64;
    let (memory_before, descriptors_before) = (resident(), descriptors());
    let slow: Vec<_> = (0..SLOW)
        .map(|n| {
            let mut stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
            if n % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
            }
            stream
        })
        .collect();
    let open = || descriptors().saturating_sub(descriptors_before);
    wait_until("all are accepted", PATIENCE, || open() >= SLOW * 9 / 10).unwrap();
    let held = resident().saturating_sub(memory_before) / SLOW;
    println!("{held} bytes for each slow handshake");
    assert!(held <= HELD_BYTES_MAX, "{held} bytes for each");
    // It needs a tunnel of its own beside them.
    echo_once(mesh.at("neighbour"), mesh.address("server", 8080)).unwrap();
    // Each has ten seconds.
    wait_until("all are cut", PATIENCE, || open() < SLOW / 10).unwrap();
    drop(slow);
}

fn tunnels_beyond_the_bound_are_reset(reactor: &str) {
    let mesh = Mesh::with(reactor).limits("{tunnelsPerWorkload: 3}").start();
    let files = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    let open = || try_connect(mesh.at("stranger"), mesh.address("server", 15008));
    let tunnel = || probe::connect(open()?, &files);
    let held: Vec<_> = (0..3).map(|_| tunnel().unwrap()).collect();
    assert!(dies_without_data(open()), "a fourth");
    assert_eq!(reached(&mesh, &mesh.b, "tunnelsPerWorkload"), 1.0);
    drop(held);
    wait_until("there is room again", PATIENCE, || tunnel().is_ok()).unwrap();
}

/// It has shaken hands and said its preface; what it came for it does not say.
fn who_opens_a_tunnel_for_nothing_is_cut(reactor: &str) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let mesh = Mesh::start(reactor);
    let files = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    let mut probe = {
        let stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
        stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
        probe::connect(stream, &files).unwrap()
    };
    probe.write_all(PREFACE).unwrap();
    let end = probe.read_to_end(&mut Vec::new());
    assert!(!end.is_err_and(|error| is_timeout(&error)), "still connected");
}

/// Twenty downloads that nobody reads would be held in memory; one megabyte may be.
fn who_does_not_read_is_cut_before_memory_runs_out(reactor: &str) {
    let mesh = Mesh::with(reactor).limits("{bufferBytesPerWorkload: 1048576}").start();
    let _source = Application::start(mesh.at("server"), 8080, |mut stream, _| {
        let chunk = vec![7; 64 * 1024];
        while stream.write_all(&chunk).is_ok() {}
    });
    let _echo = Application::echo(mesh.at("server"), 8081);
    let unread: Vec<_> =
        (0..20).map(|_| connect(mesh.at("client"), mesh.address("server", 8080))).collect();
    let bound = "bufferBytesPerWorkload";
    wait_until("the bound is met", PATIENCE, || reached(&mesh, &mesh.a, bound) > 0.0).unwrap();
    mesh.a.record("the cut", |record| record.get("error").contains(bound));
    drop(unread);
    // Small messages go on, also of the same workload, as soon as there is room.
    wait_until("there is room again", PATIENCE, || {
        echo_once(mesh.at("client"), mesh.address("server", 8081)).is_ok()
    })
    .unwrap();
    echo_once(mesh.at("neighbour"), mesh.address("server", 8081)).unwrap();
}

/// How often a proxy's workloads reached a limit.
fn reached(mesh: &Mesh, proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics(&mesh.lab).sum("ringway_limit_reached_total", &[("limit", limit)])
}

//! How connections end: resets stay resets, refusals are refusals, silence holds nothing up.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringway_bench::lab::wait_until;
use ringway_bench::measure;

use crate::support::{
    Application, Mesh, PATIENCE, connect, echo_once, exchange, is_timeout, reset, try_connect,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    a_clients_reset_arrives_as_a_reset,
    a_servers_reset_arrives_as_a_reset,
    a_reset_without_a_tunnel_is_a_reset,
    an_application_that_refuses_is_a_reset_and_an_error,
    an_application_that_stalls_holds_back_its_sender_only,
    clients_that_do_not_read_hold_back_their_servers_only,
    every_connection_has_one_record,
}

under_a_control_plane! {
    a_clients_reset_arrives_as_a_reset,
    a_servers_reset_arrives_as_a_reset,
    a_reset_without_a_tunnel_is_a_reset,
    an_application_that_refuses_is_a_reset_and_an_error,
    an_application_that_stalls_holds_back_its_sender_only,
    every_connection_has_one_record,
}

/// How often a reset has to be a reset.
const RESETS: usize = 1000;

fn a_clients_reset_arrives_as_a_reset(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let resets = Arc::new(AtomicUsize::new(0));
    let others = Arc::new(AtomicUsize::new(0));
    let (seen, other) = (resets.clone(), others.clone());
    let _server = Application::start(mesh.at("server"), 8080, move |mut stream, _| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
        let counter = match stream.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => &seen,
            _ => &other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    });
    in_parallel(|| {
        let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
        exchange(&mut stream, b"x").unwrap();
        reset(stream);
    });
    let all = || resets.load(Ordering::Relaxed) + others.load(Ordering::Relaxed);
    wait_until("the server has seen every end", PATIENCE, || all() == RESETS).unwrap();
    assert_eq!(others.load(Ordering::Relaxed), 0, "ends that arrived as something else");
}

fn a_servers_reset_arrives_as_a_reset(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::start(mesh.at("server"), 8080, |mut stream, _| {
        stream.read_exact(&mut [0; 1]).unwrap();
        reset(stream);
    });
    in_parallel(|| {
        let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
        stream.write_all(b"x").unwrap();
        let error = stream.read(&mut [0; 1]).expect_err("a reset is no clean end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

fn a_reset_without_a_tunnel_is_a_reset(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    let behave = |mut stream: std::net::TcpStream, _| {
        stream.read_exact(&mut [0; 1]).unwrap();
        reset(stream);
    };
    let _legacy = Application::start(mesh.at("legacy"), 8080, behave);
    let _server = Application::start(mesh.at("server"), 8080, behave);
    for (from, to) in [("client", "legacy"), ("stranger", "server")] {
        for _ in 0..100 {
            let mut stream = connect(mesh.at(from), mesh.address(to, 8080));
            stream.write_all(b"x").unwrap();
            let error = stream.read(&mut [0; 1]).expect_err("a reset is no clean end");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{from} to {to}");
        }
    }
}

fn an_application_that_refuses_is_a_reset_and_an_error(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    // Nobody listens on this port of server.
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    let error = stream.read(&mut [0; 1]).expect_err("a refusal is no clean end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let outbound = mesh.a.record("the refusal", |r| r.get("direction") == "outbound");
    assert_eq!(outbound.level, "error");
    assert!(outbound.get("error").contains("503"), "{outbound:?}");
    let inbound = mesh.b.record("the refusal", |r| r.get("direction") == "inbound");
    assert!(inbound.get("error").to_lowercase().contains("refused"), "{inbound:?}");
    let flags = [("reporter", "source"), ("response_flags", "CONNECT")];
    assert_eq!(mesh.a.metrics(&mesh.lab).sum("istio_tcp_connections_failed_total", &flags), 1.0);

    // The same from outside the mesh, and towards outside the mesh.
    for (from, to) in [("stranger", "server"), ("client", "legacy")] {
        let refused = try_connect(mesh.at(from), mesh.address(to, 8080));
        let error = refused.and_then(|mut stream| stream.read(&mut [0; 1])).unwrap_err();
        assert!(!is_timeout(&error), "{from} to {to}: {error}");
    }
    // One that refuses does no harm to one that does not.
    let _echo = Application::echo(mesh.at("server"), 8081);
    mesh.assert_works(8081);
}

fn an_application_that_stalls_holds_back_its_sender_only(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let (hold, held) = mpsc::channel();
    let _stall = Application::start(mesh.at("server"), 8080, move |stream, _| {
        // Neither read nor closed for as long as the test lasts.
        hold.send(stream).unwrap();
    });
    let _echo = Application::echo(mesh.at("server"), 8081);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let before = memory(&mesh);
    let piece = vec![0; 256 * 1024];
    let mut sent = 0;
    while sent < 256 << 20 {
        match stream.write(&piece) {
            Ok(count) => sent += count,
            Err(error) => {
                assert!(is_timeout(&error), "{error}");
                break;
            }
        }
    }
    assert!(sent < 256 << 20, "nothing holds the sender back");
    let grown = memory(&mesh).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for one stalled connection");
    // Others, also those in the same tunnel, go on.
    for _ in 0..20 {
        mesh.assert_works(8081);
    }
    drop(held);
}

fn clients_that_do_not_read_hold_back_their_servers_only(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let piece = vec![0; 256 * 1024];
    let _flood = Application::start(mesh.at("server"), 8080, move |mut stream, _| {
        // Once it is asked, until it is held back.
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let asked = stream.read(&mut [0; 1]);
        while asked.is_ok() && stream.write_all(&piece).is_ok() {}
    });
    let _echo = Application::echo(mesh.at("server"), 8081);
    let open = |port| connect(mesh.at("client"), mesh.address("server", port));
    // Before anything moves they share tunnels.
    let (mut stalled, mut others): (Vec<_>, Vec<_>) =
        (0..24).map(|_| (open(8080), open(8081))).unzip();
    for other in &mut others {
        exchange(other, b"before").unwrap();
    }
    let before = memory(&mesh);
    for stream in &mut stalled {
        stream.write_all(b"?").unwrap();
    }
    // More than all windows together, in pieces.
    let message = vec![7; 64 * 1024];
    for _ in 0..20 {
        for other in &mut others {
            exchange(other, &message).unwrap();
        }
    }
    let grown = memory(&mesh).saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes more for {} stalled connections", stalled.len());
}

fn every_connection_has_one_record(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    for number in 0..60 {
        match number % 3 {
            0 => echo_once(mesh.at("client"), to).unwrap(),
            1 => {
                let mut stream = connect(mesh.at("client"), to);
                exchange(&mut stream, b"x").unwrap();
                reset(stream);
            }
            _ => {
                // Nobody listens there; the reset may come while we still connect.
                if let Ok(stream) = try_connect(mesh.at("client"), mesh.address("server", 9999)) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        }
    }
    let count = |proxy: &crate::support::Proxy, direction: &str| {
        proxy.records(|record| record.get("direction") == direction)
    };
    wait_until("as many records as connections", PATIENCE, || {
        count(&mesh.a, "outbound") >= 60
            && mesh.a.metrics(&mesh.lab).sum("istio_tcp_sockets_open", &[("reporter", "source")])
                == 0.0
    })
    .unwrap();
    assert_eq!(count(&mesh.a, "outbound"), 60);
}

/// Does something [`RESETS`] times, eight at a time.
fn in_parallel(action: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..RESETS / 8).for_each(|_| action()));
        }
    });
}

fn memory(mesh: &Mesh) -> u64 {
    let of = |id| measure::memory(id).unwrap().resident_bytes;
    of(mesh.a.process.id()) + of(mesh.b.process.id())
}

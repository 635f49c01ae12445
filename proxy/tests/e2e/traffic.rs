//! Connections that work: who reaches whom, seen as what, counted how.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;

use ringway_bench::lab::wait_until;
use ringway_bench::pattern::{self, Digest};

use crate::support::{
    Application, CLIENT, Mesh, PATIENCE, SERVER, SERVICE, connect, echo_once, exchange, http_get,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    http_goes_across_hosts,
    http_stays_on_one_host_and_is_still_a_tunnel,
    both_reporters_count_the_same_bytes,
    the_access_log_says_who_and_how_much,
    a_service_is_spread_over_its_endpoints,
    an_unknown_destination_is_passed_through,
    a_client_outside_the_mesh_reaches_a_captured_server,
    half_close_is_half_close,
    large_transfers_arrive_whole_in_both_directions,
    five_hundred_connections_at_once,
    what_was_in_flight_is_told_apart,
    short_connections_do_not_collide,
}

under_a_control_plane! {
    http_goes_across_hosts,
    http_stays_on_one_host_and_is_still_a_tunnel,
    both_reporters_count_the_same_bytes,
    the_access_log_says_who_and_how_much,
    a_service_is_spread_over_its_endpoints,
    an_unknown_destination_is_passed_through,
    a_client_outside_the_mesh_reaches_a_captured_server,
    half_close_is_half_close,
    large_transfers_arrive_whole_in_both_directions,
    five_hundred_connections_at_once,
    what_was_in_flight_is_told_apart,
    short_connections_do_not_collide,
}

fn http_goes_across_hosts(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::http(mesh.at("server"), 8080, "server");
    let (status, body) =
        http_get(mesh.at("client"), mesh.address("server", 8080), "/hello").unwrap();
    // The application sees the client's own address, not the proxy's.
    assert_eq!((status, body.as_str()), (200, "server was asked from 10.1.0.10"));
    let record = mesh.a.record("the connection's end", |r| r.get("direction") == "outbound");
    assert_eq!(record.get("dst.addr"), "10.2.0.10:15008");
    assert_eq!(record.get("dst.hbone_addr"), "10.2.0.10:8080");
    let record = mesh.b.record("the connection's end", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), CLIENT);
}

fn http_stays_on_one_host_and_is_still_a_tunnel(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::http(mesh.at("neighbour"), 8080, "neighbour");
    let to = mesh.address("neighbour", 8080);
    let (_, body) = http_get(mesh.at("client"), to, "/").unwrap();
    assert_eq!(body, "neighbour was asked from 10.1.0.10");
    let record = mesh.a.record("the connection's end", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), CLIENT);
    assert_eq!(record.get("dst.hbone_addr"), "10.1.0.11:8080");
}

fn both_reporters_count_the_same_bytes(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::start(mesh.at("server"), 8080, |mut stream, _| {
        let mut request = [0; 1000];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&[7; 5000]).unwrap();
    });
    let mut stream = connect(mesh.at("client"), SERVICE.parse().unwrap());
    // The service has two endpoints, and only one of them an application.
    let mut answer = Vec::new();
    let mut tries = 0;
    while answer.len() != 5000 {
        stream.write_all(&[1; 1000]).ok();
        answer.clear();
        if stream.read_to_end(&mut answer).is_err() || answer.is_empty() {
            tries += 1;
            assert!(tries < 50, "server is never chosen");
            stream = connect(mesh.at("client"), SERVICE.parse().unwrap());
        }
    }
    stream.shutdown(Shutdown::Write).ok();
    let good = [("destination_workload", "server"), ("request_protocol", "tcp")];
    for (proxy, reporter) in [(&mesh.a, "source"), (&mesh.b, "destination")] {
        let mut labels = good.to_vec();
        labels.push(("reporter", reporter));
        let mut closed = labels.clone();
        closed.push(("response_flags", "-"));
        let count =
            |name: &str, labels: &[(&str, &str)]| proxy.metrics(&mesh.lab).sum(name, labels);
        wait_until("the connection is counted as closed", PATIENCE, || {
            count("istio_tcp_connections_closed_total", &closed) == 1.0
        })
        .unwrap();
        assert_eq!(count("istio_tcp_connections_opened_total", &labels), 1.0, "{reporter}");
        assert_eq!(count("istio_tcp_received_bytes_total", &labels), 1000.0, "{reporter}");
        assert_eq!(count("istio_tcp_sent_bytes_total", &labels), 5000.0, "{reporter}");
        let all = proxy.metrics(&mesh.lab);
        let has = all.labels("istio_tcp_connections_opened_total", &labels);
        for (name, value) in [
            ("source_workload", "client"),
            ("source_canonical_service", "client"),
            ("source_canonical_revision", "v1"),
            ("source_workload_namespace", "default"),
            ("source_principal", CLIENT),
            ("source_app", "client"),
            ("source_version", "v1"),
            ("destination_service", "server.default.svc.cluster.local"),
            ("destination_service_name", "server"),
            ("destination_service_namespace", "default"),
            ("destination_workload_namespace", "default"),
            ("destination_principal", SERVER),
            ("connection_security_policy", "mutual_tls"),
            ("response_flags", "-"),
        ] {
            assert_eq!(has.get(name).map(String::as_str), Some(value), "{reporter}: {name}");
        }
    }
}

fn the_access_log_says_who_and_how_much(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    let from = stream.local_addr().unwrap();
    exchange(&mut stream, &[3; 700]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);

    let outbound = mesh.a.record("the source's record", |r| r.get("direction") == "outbound");
    let inbound = mesh.b.record("the destination's record", |r| r.get("direction") == "inbound");
    for record in [&outbound, &inbound] {
        assert_eq!((&*record.level, &*record.message), ("info", "connection complete"));
        assert_eq!(record.get("src.workload"), "client");
        assert_eq!(record.get("src.namespace"), "default");
        assert_eq!(record.get("src.identity"), CLIENT);
        assert_eq!(record.get("dst.workload"), "server");
        assert_eq!(record.get("dst.identity"), SERVER);
        assert_eq!(record.get("dst.hbone_addr"), "10.2.0.10:8080");
        assert_eq!((record.get("bytes_sent"), record.get("bytes_recv")), ("700", "700"));
        assert!(record.get("duration").ends_with("ms"), "{record:?}");
        assert_eq!(record.get("error"), "");
    }
    assert_eq!(outbound.get("src.addr"), from.to_string());
    assert_eq!(inbound.get("dst.addr"), "10.2.0.10:15008");
}

fn a_service_is_spread_over_its_endpoints(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _one = Application::http(mesh.at("server"), 8080, "server");
    let _two = Application::http(mesh.at("server-2"), 8080, "server-2");
    let answers: BTreeSet<String> = (0..50)
        .map(|_| http_get(mesh.at("client"), SERVICE.parse().unwrap(), "/").unwrap().1)
        .collect();
    let expected = ["server was asked from 10.1.0.10", "server-2 was asked from 10.1.0.10"];
    assert_eq!(answers, expected.map(str::to_owned).into());
    let record = mesh.a.record("a record", |r| !r.get("dst.service").is_empty());
    assert_eq!(record.get("dst.service"), "server.default.svc.cluster.local");
}

fn an_unknown_destination_is_passed_through(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::http(mesh.at("legacy"), 9000, "legacy");
    let (status, body) = http_get(mesh.at("client"), mesh.address("legacy", 9000), "/").unwrap();
    assert_eq!((status, body.as_str()), (200, "legacy was asked from 10.1.0.10"));
    let record = mesh.a.record("the connection's end", |r| r.get("direction") == "outbound");
    assert_eq!(record.get("dst.addr"), "10.2.0.99:9000");
    assert_eq!((record.get("dst.hbone_addr"), record.get("dst.identity")), ("", ""));
    let metrics = mesh.a.metrics(&mesh.lab);
    let labels = [("reporter", "source"), ("connection_security_policy", "unknown")];
    assert_eq!(metrics.sum("istio_tcp_connections_opened_total", &labels), 1.0);
}

fn a_client_outside_the_mesh_reaches_a_captured_server(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    let _server = Application::http(mesh.at("server"), 8080, "server");
    let (status, body) = http_get(mesh.at("stranger"), mesh.address("server", 8080), "/").unwrap();
    assert_eq!((status, body.as_str()), (200, "server was asked from 10.1.0.99"));
    let record = mesh.b.record("the connection's end", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("dst.addr"), "10.2.0.10:8080");
    assert_eq!((record.get("src.identity"), record.get("dst.hbone_addr")), ("", ""));
    let metrics = mesh.b.metrics(&mesh.lab);
    let labels = [("reporter", "destination"), ("connection_security_policy", "unknown")];
    assert_eq!(metrics.sum("istio_tcp_connections_opened_total", &labels), 1.0);
}

fn half_close_is_half_close(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    // Takes a request up to its end, then answers at length, and ends.
    let _patient = Application::start(mesh.at("server"), 8080, |mut stream, _| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(format!("got {}", request.len()).as_bytes()).unwrap();
    });
    // Says everything and ends at once, then takes what comes, and reports it elsewhere.
    let (report, reported) = std::sync::mpsc::channel();
    let _hasty = Application::start(mesh.at("server"), 8081, move |mut stream, _| {
        stream.write_all(b"goodbye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        report.send(rest.len()).unwrap();
    });
    // Through a tunnel, through a tunnel on one host's side only, and through no tunnel at all.
    let _plain = Application::start(mesh.at("legacy"), 8080, |mut stream, _| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(format!("got {}", request.len()).as_bytes()).unwrap();
    });
    for (from, to) in [("client", "server"), ("stranger", "server"), ("client", "legacy")] {
        let mut stream = connect(mesh.at(from), mesh.address(to, 8080));
        stream.write_all(&[5; 100_000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "got 100000", "{from} to {to}");
    }
    for from in ["client", "stranger"] {
        let mut stream = connect(mesh.at(from), mesh.address("server", 8081));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "goodbye");
        // Their end has arrived; ours is still to come.
        for _ in 0..10 {
            stream.write_all(&[6; 10_000]).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reported.recv_timeout(PATIENCE).unwrap(), 100_000, "from {from}");
    }
}

fn large_transfers_arrive_whole_in_both_directions(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    let _server = Application::echo(mesh.at("server"), 8080);
    let _legacy = Application::echo(mesh.at("legacy"), 8080);
    // In a tunnel; and without one, where bulk is spliced.
    for (from, to) in [("client", "server"), ("client", "legacy"), ("stranger", "server")] {
        echo_large(&mesh, from, to);
    }
}

fn echo_large(mesh: &Mesh, from: &str, to: &str) {
    const BYTES: u64 = 24 << 20;
    let expected = Digest::of_stream(42, BYTES).value();
    let mut stream = connect(mesh.at(from), mesh.address(to, 8080));
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let mut piece = vec![0; 100_000];
        let mut offset = 0;
        while offset < BYTES {
            let count = (BYTES - offset).min(piece.len() as u64) as usize;
            pattern::fill(42, offset, &mut piece[..count]);
            writer.write_all(&piece[..count]).unwrap();
            offset += count as u64;
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut bytes, mut digest) = (0, Digest::new());
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        bytes += count as u64;
        digest.update(&piece[..count]);
    }
    writing.join().unwrap();
    assert_eq!((bytes, digest.value()), (BYTES, expected), "{from} to {to}");
}

fn five_hundred_connections_at_once(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _server = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    let mut streams: Vec<_> = (0..500).map(|_| connect(mesh.at("client"), to)).collect();
    // All are open before the first one is used, and all are used before the first one is closed.
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("{number:08}").as_bytes()).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, format!("{number:08}").as_bytes());
    }
    drop(streams);
    wait_until("every connection has its record", PATIENCE, || {
        mesh.a.records(|r| r.get("direction") == "outbound") == 500
            && mesh.b.records(|r| r.get("direction") == "inbound") == 500
    })
    .unwrap();
}

fn what_was_in_flight_is_told_apart(reactor: &str) {
    // Many clients at once, each with its own pattern: nobody gets another's bytes.
    let mesh = Mesh::start(reactor);
    let _one = Application::echo(mesh.at("server"), 8080);
    let _two = Application::echo(mesh.at("server-2"), 8080);
    let to: SocketAddr = SERVICE.parse().unwrap();
    thread::scope(|scope| {
        for seed in 0..16 {
            let from = mesh.at(if seed % 2 == 0 { "client" } else { "neighbour" });
            scope.spawn(move || {
                let mut stream = connect(from, to);
                let mut message = vec![0; 20_000];
                for round in 0..20 {
                    pattern::fill(seed, round * 20_000, &mut message);
                    exchange(&mut stream, &message).unwrap();
                }
            });
        }
    });
    echo_once(mesh.at("client"), to).unwrap();
}

fn short_connections_do_not_collide(reactor: &str) {
    // The application sees its client's address on a connection that we dial: its port must not be
    // one that the client itself uses at that moment, or the two are one to connection tracking.
    let mesh = Mesh::with(reactor).permissive().start();
    let _server = Application::echo(mesh.at("server"), 8080);
    for from in ["stranger", "client"] {
        let (from, to) = (mesh.at(from), mesh.address("server", 8080));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let connections = (0..1000).map(|_| echo_once(from, to));
                    let failed: Vec<_> = connections.filter_map(Result::err).collect();
                    assert!(failed.is_empty(), "from {}: {failed:?}", from.name());
                });
            }
        });
    }
}

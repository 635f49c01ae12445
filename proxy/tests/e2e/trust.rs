//! Certificates that stop being good while connections run on them: revoked, expired, without a root.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::lab::{Namespace, wait_until};

use crate::support::{
    Application, CLIENT, Mesh, PATIENCE, Proxy, Record, SERVER, assert_cut, connect, echo_once,
    exchange, http_get,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    a_revoked_peer_is_cut_and_nobody_else,
    a_revoked_server_is_cut_by_its_client,
    a_root_that_is_trusted_no_more_takes_its_tunnels_along,
    a_connection_ends_with_its_certificate_and_new_ones_never_fail,
    a_workload_that_becomes_somebody_else_keeps_nothing_open,
}

under_a_control_plane! {
    a_connection_ends_with_its_certificate_and_new_ones_never_fail,
}

/// The serial number of the leaf that this host's proxy has for an identity.
fn serial(host: &Namespace, identity: &str) -> String {
    let admin = "127.0.0.1:15000".parse().unwrap();
    let (_, dump) = http_get(host, admin, "/config_dump").unwrap();
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    let certificates = dump["certificates"].as_array().unwrap();
    let own = certificates.iter().find(|one| one["identity"] == identity);
    let own = own.unwrap_or_else(|| panic!("{identity} has no certificate: {certificates:?}"));
    own["certChain"][0]["serialNumber"].as_str().unwrap().to_owned()
}

fn ca(mesh: &Mesh, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["ca", "--directory"]).arg(mesh.lab.directory().join("ca")).args(arguments);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

fn says(record: &Record, direction: &str, text: &str) -> bool {
    record.get("direction") == direction && record.get("error").contains(text)
}

fn assert_counted(proxy: &Proxy, mesh: &Mesh, flag: &str) {
    let counted = || {
        let metrics = proxy.metrics(&mesh.lab);
        metrics.sum("istio_tcp_connections_closed_total", &[("response_flags", flag)]) >= 1.0
    };
    wait_until("it is counted", PATIENCE, counted).unwrap();
}

fn a_revoked_peer_is_cut_and_nobody_else(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    let mut revoked = connect(mesh.at("client"), to);
    let mut bystander = connect(mesh.at("neighbour"), to);
    exchange(&mut revoked, b"before").unwrap();
    exchange(&mut bystander, b"before").unwrap();

    let before = serial(mesh.at("host-a"), CLIENT);
    ca(&mesh, &["revoke", &before]);
    assert_cut(&mut revoked);
    let record = mesh.b.record("it names the list", |r| says(r, "inbound", "revoked by CRL"));
    assert_counted(&mesh.b, &mesh, "CERT_REVOKED");
    assert_eq!(record.get("src.identity"), CLIENT);
    exchange(&mut bystander, b"after").unwrap();
    echo_once(mesh.at("neighbour"), to).unwrap();
    // Its node knows, too, and has got another one: with that it is let in.
    wait_until("another certificate", PATIENCE, || serial(mesh.at("host-a"), CLIENT) != before)
        .unwrap();
    wait_until("it is let in", PATIENCE, || echo_once(mesh.at("client"), to).is_ok()).unwrap();
}

fn a_revoked_server_is_cut_by_its_client(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stream, b"before").unwrap();
    let before = serial(mesh.at("host-b"), SERVER);
    ca(&mesh, &["revoke", &before]);
    assert_cut(&mut stream);
    mesh.a.record("it names the list", |r| says(r, "outbound", "revoked by CRL"));
    wait_until("another certificate", PATIENCE, || serial(mesh.at("host-b"), SERVER) != before)
        .unwrap();
    let works = || echo_once(mesh.at("client"), mesh.address("server", 8080)).is_ok();
    wait_until("it is reached again", PATIENCE, works).unwrap();
}

fn a_root_that_is_trusted_no_more_takes_its_tunnels_along(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    let mut stream = connect(mesh.at("client"), to);
    exchange(&mut stream, b"before").unwrap();
    ca(&mesh, &["rotate", "--new-signs-after", "0s", "--old-trusted-for", "0s"]);
    assert_cut(&mut stream);
    let cut = |r: &Record| r.get("error").contains("no trusted root");
    let told =
        wait_until("a side says why", PATIENCE, || mesh.a.records(cut) + mesh.b.records(cut) > 0);
    told.unwrap_or_else(|error| panic!("{error}\n{}", mesh.b.process.log()));
    wait_until("both sides have the new root", PATIENCE, || {
        echo_once(mesh.at("client"), to).is_ok()
    })
    .unwrap();
}

fn a_connection_ends_with_its_certificate_and_new_ones_never_fail(reactor: &str) {
    const LIFETIME: Duration = Duration::from_secs(6);
    let mesh = Mesh::with(reactor).leaf_lifetime("6s").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    let (stop, failures, requests) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                requests.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = echo_once(mesh.at("client"), to) {
                    eprintln!("{error}");
                    failures.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut stream = connect(mesh.at("client"), to);
        let opened = Instant::now();
        exchange(&mut stream, b"before").unwrap();
        assert_cut(&mut stream);
        let lived = opened.elapsed();
        // Made of a leaf that was renewed at six tenths of its life at the latest, it has time to live; and its
        // end is kept within five seconds.
        let most = LIFETIME + Duration::from_secs(5);
        assert!(lived > LIFETIME / 4 && lived < most, "it lived for {lived:?}");
        // Over the next change of certificates, too.
        thread::sleep(LIFETIME);
        stop.store(true, Ordering::Relaxed);
    });
    let of = requests.load(Ordering::Relaxed);
    assert!(of > 200, "{of} requests");
    assert_eq!(failures.load(Ordering::Relaxed), 0, "of {of}");
    let ended = |r: &Record| r.get("error").contains("certificate expired");
    assert!(mesh.a.records(ended) + mesh.b.records(ended) > 0, "{}", mesh.a.process.log());
}

fn a_workload_that_becomes_somebody_else_keeps_nothing_open(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    let mut stream = connect(mesh.at("client"), to);
    let mut bystander = connect(mesh.at("neighbour"), to);
    exchange(&mut stream, b"before").unwrap();
    exchange(&mut bystander, b"before").unwrap();
    let text = mesh.settings.configuration(&mesh.lab);
    mesh.rewrite(&text.replace("serviceAccountName: client\n", "serviceAccountName: other\n"));
    assert_cut(&mut stream);
    // Either may come first: that its identity changed, or that it is captured anew.
    mesh.a.record("it is told", |r| {
        says(r, "outbound", "another identity") || says(r, "outbound", "was withdrawn")
    });
    exchange(&mut bystander, b"after").unwrap();
    // For a moment nobody listens; what is opened then is refused.
    wait_until("it is captured as somebody else", PATIENCE, || {
        echo_once(mesh.at("client"), to).is_ok()
    })
    .unwrap();
    mesh.b.record("the new identity", |r| {
        r.get("src.identity") == "spiffe://cluster.local/ns/default/sa/other"
    });
    // And it does not go out in the clear: the mesh is closed, and has refused nobody.
    assert_eq!(mesh.b.records(|r| !r.get("policy").is_empty()), 0);
}

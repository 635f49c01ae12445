//! Peers and circumstances that mean no good: wrong identities, malformed bytes, silence, loops,
//! and no descriptors left.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::lab::wait_until;
use ringway_bench::measure;
use ringway_bench::pki::Root;
use ringway_bench::probe;
use ringway_bench::relay::Files;

use crate::support::{
    Application, Mesh, PATIENCE, connect, dies_without_data, echo_once, http_get, is_timeout,
    try_connect,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    another_root_is_refused,
    a_server_with_another_identity_is_refused,
    a_client_of_another_trust_domain_is_refused,
    a_client_without_a_certificate_is_refused,
    a_tunnel_to_somewhere_else_is_refused,
    malformed_tls_ends_the_connection_only,
    malformed_http2_ends_the_connection_only,
    silent_peers_are_cut_at_the_deadline,
    calls_to_ourselves_die,
    without_descriptors_nothing_spins,
}

under_a_control_plane! {
    a_client_of_another_trust_domain_is_refused,
    a_client_without_a_certificate_is_refused,
    a_tunnel_to_somewhere_else_is_refused,
    malformed_tls_ends_the_connection_only,
    malformed_http2_ends_the_connection_only,
    calls_to_ourselves_die,
}

/// A peer that is cut at a deadline is cut within this time. The deadlines themselves are shorter.
const CUT_WITHIN: Duration = Duration::from_secs(45);

/// HTTP/2: the client's preface and an empty SETTINGS frame (RFC 9113 §3.4, §6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

fn another_root_is_refused(reactor: &str) {
    let mesh = Mesh::with(reactor).other_root().start();
    let server = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    let error = stream.read(&mut [0; 1]).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let record = mesh.a.record("the refusal", |r| !r.get("error").is_empty());
    assert_eq!(record.get("direction"), "outbound");
    let text = record.get("error").to_lowercase();
    assert!(text.contains("certificate") || text.contains("issuer"), "{record:?}");
    assert_eq!(server.accepted(), 0);
}

fn a_server_with_another_identity_is_refused(reactor: &str) {
    let mesh = Mesh::with(reactor).impostor().start();
    let server = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    let error = stream.read(&mut [0; 1]).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let record = mesh.a.record("the refusal", |r| !r.get("error").is_empty());
    assert!(record.get("error").contains("sa/thief"), "{record:?}");
    assert_eq!(server.accepted(), 0);
}

fn a_client_of_another_trust_domain_is_refused(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let foreign = mesh.certificate("spiffe://elsewhere.example/ns/default/sa/client");
    assert!(refused_at_handshake(&mesh, &foreign));
    // The same with the right trust domain is let in: the test can fail.
    let own = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    assert!(!refused_at_handshake(&mesh, &own));
    mesh.b.record("the refusal", |r| r.message == "connection failed" && r.level == "warn");
}

fn a_client_without_a_certificate_is_refused(reactor: &str) {
    let mesh = Mesh::start(reactor);
    // Under a root of its own: to the server as good as none.
    let directory = mesh.lab.directory().join("stranger");
    Root { name: directory.clone() }.write().unwrap();
    let own = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    let foreign = Files {
        certificate: directory.with_extension("pem"),
        key: directory.with_extension("key"),
        ..own
    };
    assert!(refused_at_handshake(&mesh, &foreign));
}

fn a_tunnel_to_somewhere_else_is_refused(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _legacy = Application::echo(mesh.at("legacy"), 8080);
    let _server = Application::echo(mesh.at("server"), 8080);
    let files = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    for (authority, status) in [
        ("10.2.0.10:8080", "200"),
        ("10.2.0.99:8080", "400"),
        ("10.2.0.11:8080", "400"),
        ("10.2.0.10:15008", "503"),
        ("10.2.0.10:15001", "503"),
        ("10.2.0.10:15006", "503"),
        ("10.2.0.10:9999", "503"),
        ("nobody.example:80", "503"),
        ("10.2.0.10", "400"),
    ] {
        let stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
        let mut probe = probe::connect(stream, &files).unwrap();
        probe.write_all(PREFACE).unwrap();
        probe.write_all(&connect_frame(1, authority)).unwrap();
        let answered = read_status(&mut probe);
        assert_eq!(answered.as_deref(), Some(status), "{authority}");
    }
    let record = mesh.b.record("the mismatch", |r| r.get("error").contains("ip mismatch"));
    assert_eq!(record.get("direction"), "inbound");
}

fn malformed_tls_ends_the_connection_only(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    let hello = [22, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    let cases: [(&str, Vec<u8>); 7] = [
        ("HTTP in the clear", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("ones", vec![0xff; 70_000]),
        ("a record that is too long", [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat()),
        ("a hello that is none", hello.to_vec()),
        ("data before a hello", [&[23, 3, 3, 0, 100][..], &[1; 100]].concat()),
        ("an alert first", vec![21, 3, 3, 0, 2, 2, 40]),
    ];
    for (name, bytes) in cases {
        let mut stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
        stream.set_read_timeout(Some(CUT_WITHIN)).unwrap();
        // It may be refused before all is sent.
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        assert!(end.is_ok() || !is_timeout(&end.unwrap_err()), "{name}: still open");
        assert!(answer.len() < 64, "{name}: answered with {} bytes", answer.len());
    }
    assert!(mesh.b.process.is_running());
    mesh.assert_works(8080);
}

fn malformed_http2_ends_the_connection_only(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let files = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    let after_preface = |frames: &[Vec<u8>]| [PREFACE, &frames.concat()].concat();
    let data = |stream: u32, bytes: usize| frame(0, 0, stream, &vec![0; bytes]);
    let headers = |flags, block: &[u8]| frame(1, flags, 1, block);
    let cases: [(&str, Vec<u8>); 12] = [
        ("another protocol", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        ("no SETTINGS first", [&PREFACE[..24], &data(1, 10)].concat()),
        ("DATA on stream 0", after_preface(&[data(0, 10)])),
        ("DATA on an idle stream", after_preface(&[data(7, 10)])),
        ("an even stream", after_preface(&[frame(1, 4, 2, &[0x82])])),
        ("a frame that is too large", after_preface(&[vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]])),
        ("HPACK with an index of 0", after_preface(&[headers(4, &[0x80])])),
        ("HPACK with an unknown index", after_preface(&[headers(4, &[0xff, 0xff, 0xff, 0x7f])])),
        ("HPACK cut short", after_preface(&[headers(4, &[0x40, 0x7f])])),
        ("SETTINGS of an odd length", after_preface(&[frame(4, 0, 0, &[0; 7])])),
        ("CONTINUATION out of nowhere", after_preface(&[frame(9, 4, 1, &[0x82])])),
        (
            "a window that overflows",
            after_preface(&[
                frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
                frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            ]),
        ),
    ];
    // At once, since some are cut only at a deadline.
    let (mesh_ref, files) = (&mesh, &files);
    thread::scope(|scope| {
        for (name, bytes) in cases {
            scope.spawn(move || {
                let stream = connect(mesh_ref.at("stranger"), mesh_ref.address("server", 15008));
                stream.set_read_timeout(Some(CUT_WITHIN)).unwrap();
                let mut probe = probe::connect(stream, files).unwrap();
                let _ = probe.write_all(&bytes);
                let end = probe.read_to_end(&mut Vec::new());
                assert!(end.is_ok() || !is_timeout(&end.unwrap_err()), "{name}: still open");
            });
        }
    });
    assert!(mesh.b.process.is_running());
    mesh.assert_works(8080);
}

fn silent_peers_are_cut_at_the_deadline(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let files = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    let (mesh, files) = (&mesh, &files);
    let open = || {
        let stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
        stream.set_read_timeout(Some(CUT_WITHIN)).unwrap();
        stream
    };
    let is_cut = |stream: &mut dyn Read| {
        let end = stream.read_to_end(&mut Vec::new());
        end.is_ok() || !is_timeout(&end.unwrap_err())
    };
    thread::scope(|scope| {
        let nothing = scope.spawn(move || is_cut(&mut open()));
        let half_a_hello = scope.spawn(move || {
            let mut stream = open();
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
            is_cut(&mut stream)
        });
        let no_preface = scope.spawn(move || is_cut(&mut probe::connect(open(), files).unwrap()));
        let half_a_preface = scope.spawn(move || {
            let mut probe = probe::connect(open(), files).unwrap();
            probe.write_all(&PREFACE[..10]).unwrap();
            is_cut(&mut probe)
        });
        let half_a_connect = scope.spawn(move || {
            let mut probe = probe::connect(open(), files).unwrap();
            probe.write_all(PREFACE).unwrap();
            let whole = connect_frame(1, "10.2.0.10:8080");
            probe.write_all(&whole[..whole.len() - 3]).unwrap();
            is_cut(&mut probe)
        });
        for (name, cut) in [
            ("who says nothing", nothing),
            ("who stops within the hello", half_a_hello),
            ("who stops after the handshake", no_preface),
            ("who stops within the preface", half_a_preface),
            ("who stops within the CONNECT", half_a_connect),
        ] {
            assert!(cut.join().unwrap(), "{name} is still connected after {CUT_WITHIN:?}");
        }
    });
}

fn calls_to_ourselves_die(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    // A captured pod towards its own proxy, by whichever address, and towards the other's.
    for port in [15001, 15006, 15008] {
        for to in [loopback(port), mesh.address("client", port), mesh.address("server", port)] {
            assert!(dies_without_data(try_connect(mesh.at("client"), to)), "client to {to}");
        }
        for to in [mesh.address("host-a", port), mesh.address("host-b", port)] {
            assert!(dies_without_data(try_connect(mesh.at("client"), to)), "client to {to}");
        }
        let to = mesh.address("server", port);
        assert!(dies_without_data(try_connect(mesh.at("stranger"), to)), "stranger to {to}");
    }
    // The process's own servers are not in the pod.
    for port in [15000, 15020, 15021] {
        assert!(dies_without_data(try_connect(mesh.at("client"), loopback(port))), "port {port}");
        let to = mesh.address("server", port);
        assert!(dies_without_data(try_connect(mesh.at("stranger"), to)), "stranger to {to}");
    }
    // On the host they are, and know their own paths only.
    for port in [15020, 15021] {
        let (status, _) = http_get(mesh.at("host-a"), loopback(port), "/nothing/here").unwrap();
        assert_eq!(status, 404, "port {port}");
    }
    let (status, _) = http_get(mesh.at("host-a"), loopback(15000), "/config_dump").unwrap();
    assert_eq!(status, 200);
    assert!(try_connect(mesh.at("stranger"), mesh.address("host-a", 15000)).is_err());
    // None of it has cost anything.
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
}

fn without_descriptors_nothing_spins(reactor: &str) {
    const MOST: u32 = 160;
    let mut mesh = Mesh::with(reactor).descriptors(MOST).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    let id = mesh.b.process.id();
    // Each of these takes one descriptor until the handshake's deadline, and there are more waiting
    // to be accepted than there are descriptors.
    let knock = || -> Vec<TcpStream> {
        let to = mesh.address("server", 15008);
        (0..220)
            .filter_map(|_| {
                mesh.at("stranger").connect_timeout(to, Duration::from_millis(200)).ok()
            })
            .collect()
    };
    let held = knock();
    let mut used = 0;
    wait_until("all descriptors are in use", PATIENCE, || {
        used = used.max(measure::descriptors(id).unwrap());
        // Some are kept back for dials and for the process's own servers.
        used >= MOST as usize / 2
    })
    .unwrap_or_else(|error| panic!("{error}: {used} of {MOST}; {} are held", held.len()));
    let lines = |mesh: &Mesh| mesh.b.process.log().lines().count();
    let (start, before, lines_before) =
        (Instant::now(), measure::processor_time(id).unwrap(), lines(&mesh));
    thread::sleep(Duration::from_secs(5));
    let spent = measure::processor_time(id).unwrap() - before;
    let said = lines(&mesh) - lines_before;
    assert!(spent < start.elapsed() / 10, "{spent:?} of processor time in {:?}", start.elapsed());
    assert!(said <= 6, "{said} lines in five seconds:\n{}", mesh.b.process.log());
    // Who has a tunnel already is not locked out.
    mesh.assert_works(8080);
    drop(held);
    wait_until("it works again", PATIENCE, || {
        echo_once(mesh.at("client"), mesh.address("server", 8080)).is_ok()
    })
    .unwrap();
    assert!(mesh.b.process.is_running());
}

/// Whether the server refuses these certificates. It says so after our side is done (TLS 1.3), so
/// the first read tells.
fn refused_at_handshake(mesh: &Mesh, files: &Files) -> bool {
    let stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
    let Ok(mut probe) = probe::connect(stream, files) else { return true };
    let _ = probe.write_all(PREFACE);
    match probe.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => {
            assert!(!is_timeout(&error), "neither refused nor answered");
            true
        }
    }
}

/// One HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A CONNECT request, HPACK without compression (RFC 7541 §6.2.2).
fn connect_frame(stream: u32, authority: &str) -> Vec<u8> {
    // `:method` is entry 2 of the static table and `:authority` entry 1.
    let mut block = vec![0x02, 7];
    block.extend(b"CONNECT");
    block.extend([0x01, authority.len() as u8]);
    block.extend(authority.as_bytes());
    frame(1, 4, stream, &block)
}

/// The status of the first response: HPACK as every peer here encodes it.
fn read_status(stream: &mut impl Read) -> Option<String> {
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).ok()?;
        if header[3] != 1 {
            continue;
        }
        // Entries 8 to 14 of the static table are `:status` with a value; the others are literal.
        let first = *payload.first()?;
        let known = ["200", "204", "206", "304", "400", "404", "500"];
        if first & 0x80 != 0 {
            return known.get(usize::from(first & 0x7f).checked_sub(8)?).map(|s| (*s).to_owned());
        }
        let length = usize::from(payload.get(1)? & 0x7f);
        let value = payload.get(2..2 + length)?;
        if payload[1] & 0x80 == 0 {
            return String::from_utf8(value.to_vec()).ok();
        }
        // Digits in the Huffman code of HPACK: 0, 1, 2 take five bits, 3 to 9 six.
        return Some(huffman_digits(value));
    }
}

fn huffman_digits(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut text, mut rest) = (String::new(), bits.as_str());
    while rest.len() >= 5 {
        let (digit, used) = match &rest[..5] {
            "00000" => ('0', 5),
            "00001" => ('1', 5),
            "00010" => ('2', 5),
            _ if rest.len() < 6 => break,
            _ => match u8::from_str_radix(&rest[..6], 2).expect("bits") {
                code @ 0b011001..=0b011111 => (char::from(b'3' + code - 0b011001), 6),
                _ => break,
            },
        };
        text.push(digit);
        rest = &rest[used..];
    }
    text
}

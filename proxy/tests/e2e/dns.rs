//! Names: those of the mesh are answered by the proxy, all others by the host's name servers, and nobody who floods, lies or is
//! silent troubles more than those who ask him.
//!
//! Clients ask `10.1.0.99`, which the rules make the proxy; the host's name servers are in the pods stranger (`10.1.0.99`) and
//! legacy (`10.2.0.99`), which are not in the mesh.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Application, Mesh, NameServer, PATIENCE, Question, connect, http_get};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    names_of_the_mesh_are_answered_and_all_others_forwarded,
    iptables_captures_names_too,
    long_answers_are_truncated_in_datagrams_and_whole_on_connections,
    silent_name_servers_are_passed_over,
    lies_are_not_taken_for_answers,
    a_flood_of_names_hurts_nobody_else,
    hostile_packets_are_survived,
    a_handover_loses_no_question,
    a_changed_list_of_name_servers_holds_at_once,
}

under_a_control_plane! {
    pods_are_told_names_of_the_mesh,
}

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const BOTH: &str = "nameserver 10.1.0.99\nnameserver 10.2.0.99\n";

/// Whom applications believe they ask.
fn server() -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 99], 53))
}

fn ask(mesh: &Mesh, name: &str) -> crate::support::Answered {
    Question::new(4711, name).ask(mesh.at("client"), server()).unwrap()
}

fn names_of_the_mesh_are_answered_and_all_others_forwarded(reactor: &str) {
    let mut mesh = Mesh::with(reactor).names(BOTH).start();
    answers_and_forwards(&mesh);
    mesh.a.stop();
    // With the rules gone applications ask whom they believe to ask.
    let _name_server = NameServer::of(mesh.at("stranger"), ELSEWHERE);
    assert_eq!(ask(&mesh, "server").addresses, [ELSEWHERE]);
}

fn iptables_captures_names_too(reactor: &str) {
    answers_and_forwards(&Mesh::with(reactor).redirect("iptables").names(BOTH).start());
}

fn answers_and_forwards(mesh: &Mesh) {
    let name_server = NameServer::of(mesh.at("stranger"), ELSEWHERE);
    for name in ["server", "server.default", "server.default.svc.cluster.local"] {
        let known = ask(mesh, name);
        assert_eq!(
            (known.code, known.authoritative, known.addresses),
            (0, true, vec![SERVICE]),
            "{name}"
        );
    }
    let over_tcp = Question::new(1, "server").ask_over_tcp(mesh.at("client"), server());
    assert_eq!(over_tcp.addresses, [SERVICE]);
    assert_eq!(name_server.unseen(), 0, "nobody outside hears of the mesh's names");

    let forwarded = ask(mesh, "www.example.net");
    assert_eq!((forwarded.authoritative, forwarded.addresses), (false, vec![ELSEWHERE]));
    let (question, from) = name_server.asked();
    assert_eq!(
        (question.name.as_str(), from.ip().to_string().as_str()),
        ("www.example.net", "10.1.0.10")
    );
    let over_tcp = Question::new(2, "tcp.example.net").ask_over_tcp(mesh.at("client"), server());
    assert_eq!(over_tcp.addresses, [ELSEWHERE]);

    let metrics = SocketAddr::from(([127, 0, 0, 1], 15020));
    let (_, told) = http_get(mesh.at("host-a"), metrics, "/metrics").unwrap();
    let counted = r#"istio_dns_upstream_requests_total{request_query_type="a",request_protocol="udp",source_canonical_service="client",source_canonical_revision="v1"} 1"#;
    assert!(told.contains(counted), "{told}");

    // Who is not in the mesh goes past the proxy.
    let outside = SocketAddr::from(([10, 1, 0, 99], 53));
    let stranger = Question::new(3, "server").ask(mesh.at("legacy"), outside).unwrap();
    assert_eq!(stranger.addresses, [ELSEWHERE]);

    // A name leads where its address does.
    let _server = Application::http(mesh.at("server"), 8080, "server");
    let _other = Application::http(mesh.at("server-2"), 8080, "server");
    let to = SocketAddr::new(ask(mesh, "server").addresses[0].into(), 80);
    let (status, body) = http_get(mesh.at("client"), to, "/").unwrap();
    assert_eq!((status, body.as_str()), (200, "server was asked from 10.1.0.10"));
}

fn pods_are_told_names_of_the_mesh(way: &str) {
    let mesh = Mesh::start(way);
    for name in ["server", "server.default", "server.default.svc.cluster.local"] {
        let known = ask(&mesh, name);
        assert_eq!(
            (known.code, known.authoritative, known.addresses),
            (0, true, vec![SERVICE]),
            "{name}"
        );
    }
    let over_tcp = Question::new(1, "server").ask_over_tcp(mesh.at("client"), server());
    assert_eq!(over_tcp.addresses, [SERVICE]);
    let metrics = SocketAddr::from(([127, 0, 0, 1], 15020));
    let (_, told) = http_get(mesh.at("host-a"), metrics, "/metrics").unwrap();
    let counted = r#"istio_dns_requests_total{request_query_type="a",request_protocol="udp",source_canonical_service="client",source_canonical_revision="v1"} 3"#;
    assert!(told.contains(counted), "{told}");

    // Both of a kind: whichever answers has been asked by name.
    let _server = Application::http(mesh.at("server"), 8080, "server");
    let _other = Application::http(mesh.at("server-2"), 8080, "server");
    let to = SocketAddr::new(ask(&mesh, "server").addresses[0].into(), 80);
    let (status, body) = http_get(mesh.at("client"), to, "/").unwrap();
    assert_eq!((status, body.as_str()), (200, "server was asked from 10.1.0.10"));
}

fn long_answers_are_truncated_in_datagrams_and_whole_on_connections(reactor: &str) {
    let mesh = Mesh::with(reactor).names(BOTH).start();
    let many: Vec<_> = (0..100).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
    let told = many.clone();
    let _name_server =
        NameServer::start(mesh.at("stranger"), move |question| vec![question.answer(&told)]);
    let datagram = ask(&mesh, "many.example.net");
    assert!(datagram.truncated && datagram.addresses.len() < many.len());
    let whole = Question::new(5, "many.example.net").ask_over_tcp(mesh.at("client"), server());
    assert_eq!((whole.truncated, whole.addresses), (false, many));
}

fn silent_name_servers_are_passed_over(reactor: &str) {
    let mesh = Mesh::with(reactor).names(BOTH).start();
    // The first is there and says nothing; then nobody is there at all.
    let silent = NameServer::start(mesh.at("stranger"), |_| Vec::new());
    let _second = NameServer::of(mesh.at("legacy"), ELSEWHERE);
    let begun = Instant::now();
    assert_eq!(ask(&mesh, "slow.example.net").addresses, [ELSEWHERE]);
    assert!(begun.elapsed() < Duration::from_secs(5), "a resolver would have given up");
    assert_eq!(silent.asked().0.name, "slow.example.net");
    // It is asked last now.
    assert_eq!(ask(&mesh, "next.example.net").addresses, [ELSEWHERE]);
    assert_eq!(silent.unseen(), 0);
    drop(silent);

    let refused = Mesh::with(reactor).names("nameserver 10.1.0.99\n").start();
    let begun = Instant::now();
    assert_eq!(ask(&refused, "www.example.net").code, 2, "nobody is there: SERVFAIL");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(ask(&refused, "server").addresses, [SERVICE]);
}

fn lies_are_not_taken_for_answers(reactor: &str) {
    let mesh = Mesh::with(reactor).names(BOTH).start();
    const LIE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
    let _liar = NameServer::start(mesh.at("stranger"), |question| {
        let other = Question::new(question.id, "other.example.net").answer(&[LIE]);
        let guess = Question::new(question.id ^ 1, &question.name).answer(&[LIE]);
        let mut no_response = question.answer(&[LIE]);
        no_response[2] &= 0x7f;
        let lies = vec![other, guess, no_response, vec![0; 5], vec![0xff; 600]];
        match question.name.starts_with("mostly") {
            true => lies.into_iter().chain([question.answer(&[ELSEWHERE])]).collect(),
            false => lies,
        }
    });
    let second = Ipv4Addr::new(192, 0, 2, 8);
    let _honest = NameServer::of(mesh.at("legacy"), second);
    assert_eq!(ask(&mesh, "mostly.example.net").addresses, [ELSEWHERE]);
    assert_eq!(ask(&mesh, "always.example.net").addresses, [second]);
}

fn a_flood_of_names_hurts_nobody_else(reactor: &str) {
    let mesh = Mesh::with(reactor).names("nameserver 10.1.0.99\n").start();
    let silent = NameServer::start(mesh.at("stranger"), |_| Vec::new());
    let socket = mesh.at("client").enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server()).unwrap();
    for id in 0..2000 {
        socket.send(&Question::new(id, "flood.example.net").message()).unwrap();
    }
    // More than may wait: what is too much is refused at once.
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(answer[..length][3] & 0xf, 2, "SERVFAIL");
    // Meanwhile the neighbour's names, the client's own that are known, and everybody's connections go on.
    let neighbour = Question::new(1, "server").ask(mesh.at("neighbour"), server()).unwrap();
    assert_eq!(neighbour.addresses, [SERVICE]);
    assert_eq!(ask(&mesh, "server").addresses, [SERVICE]);
    let _echo = Application::echo(mesh.at("server"), 9000);
    mesh.assert_works(9000);
    drop(silent);
}

fn hostile_packets_are_survived(reactor: &str) {
    let mut mesh = Mesh::with(reactor).names(BOTH).start();
    let socket = mesh.at("client").enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.connect(server()).unwrap();
    let query = Question::new(9, "server").message();
    let mut states = 7_u32;
    for round in 0..3000_usize {
        let mut packet = query.clone();
        for byte in &mut packet {
            states = states.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if states >> 28 == 0 {
                *byte = (states >> 16) as u8;
            }
        }
        packet.truncate(packet.len() * (round % 7 + 1) / 7);
        let _ = socket.send(&packet);
    }
    let _ = socket.send(&[0xc0; 4096]);
    let mut open = Vec::new();
    for _ in 0..100 {
        let Ok(mut stream) = crate::support::try_connect(mesh.at("client"), server()) else {
            continue;
        };
        let _ = stream.write_all(&[0]);
        open.push(stream);
    }
    let mut too_long = connect(mesh.at("neighbour"), server());
    let _ = too_long.write_all(&[0xff; 10]);
    assert!(matches!(too_long.read(&mut [0; 1]), Ok(0) | Err(_)), "no query has 65,535 bytes");
    assert_eq!(ask(&mesh, "server").addresses, [SERVICE]);
    // Half a query is not waited for.
    for mut stream in open {
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    let again = Question::new(1, "server").ask_over_tcp(mesh.at("client"), server());
    assert_eq!(again.addresses, [SERVICE]);
    assert!(mesh.a.process.is_running());
    assert!(!mesh.a.process.log().contains("panic"), "{}", mesh.a.process.log());
}

fn a_handover_loses_no_question(reactor: &str) {
    let mut mesh = Mesh::with(reactor).names(BOTH).start();
    let (over, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let client = mesh.lab.namespace("client");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut lost = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let number = asked.fetch_add(1, Ordering::Relaxed) as u16;
                let answer = Question::new(number, "server").ask(client, server());
                if !answer.as_ref().is_ok_and(|answer| answer.addresses == [SERVICE]) {
                    lost.push(format!("{number}: {answer:?}"));
                }
            }
            lost
        });
        while asked.load(Ordering::Relaxed) < 50 {
            std::thread::yield_now();
        }
        let mut old = mesh.a.hand_over();
        old.wait(PATIENCE).unwrap();
        let seen = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) < seen + 50 {
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(asking.join().unwrap(), Vec::<String>::new());
    });
}

fn a_changed_list_of_name_servers_holds_at_once(reactor: &str) {
    let mesh = Mesh::with(reactor).names("nameserver 10.1.0.99\n").start();
    let second = Ipv4Addr::new(192, 0, 2, 8);
    let _first = NameServer::of(mesh.at("stranger"), ELSEWHERE);
    let _second = NameServer::of(mesh.at("legacy"), second);
    assert_eq!(ask(&mesh, "www.example.net").addresses, [ELSEWHERE]);
    let file = mesh.lab.directory().join("resolv.conf");
    std::fs::write(file.with_extension("next"), "nameserver 10.2.0.99\n").unwrap();
    std::fs::rename(file.with_extension("next"), &file).unwrap();
    let changed = || ask(&mesh, "www.example.net").addresses == [second];
    ringway_bench::lab::wait_until("the other one is asked", PATIENCE, changed).unwrap();
}

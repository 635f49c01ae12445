//! The thread in this process's own namespace. The name servers are played on loopback addresses, on ports of their own
//! that `resolv.conf` cannot name: so what is forwarded is tested end to end, and here only what is answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[allow(dead_code, reason = "an engine has several")]
#[path = "../../../../engine/tests/support/ports.rs"]
mod ports;

const PATIENCE: Duration = Duration::from_secs(5);

/// A DNS proxy at a port of its own.
fn start(snapshot: Snapshot) -> (Dns, SocketAddr) {
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    // A reserved address (RFC 5737): nobody is there, and nothing is to be asked.
    std::fs::write(&resolv_conf, "nameserver 192.0.2.1\noptions timeout:1 attempts:1\n").unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], ports::free_port()));
    let config = DnsConfig {
        lookup: settings(),
        port: at.port(),
        shared_ports: true,
        mark: None,
        resolv_conf,
    };
    (Dns::start(config, snapshot).unwrap(), at)
}

fn by_uid(uid: &'static str) -> FindWorkload {
    Arc::new(move |snapshot| snapshot.workload_by_uid(uid).cloned())
}

fn enroll(dns: &Dns) {
    let namespace = NetNamespace::current().unwrap();
    dns.enroll("pod".into(), &namespace, by_uid("c1//Pod/shop/client")).unwrap();
}

fn ask(to: SocketAddr, name: &str) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let query = Query::new(&Name::new(name).unwrap(), record_type::A).forward(77);
    socket.send_to(&query, to).unwrap();
    let mut answer = [0; 2048];
    let (length, _) = socket.recv_from(&mut answer).unwrap();
    answer[..length].to_vec()
}

fn addresses(name: &str, answer: Vec<u8>) -> Vec<String> {
    let query = Query::new(&Name::new(name).unwrap(), record_type::A);
    let found = query.accept(77, answer).unwrap().addresses(&query).unwrap();
    found.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_known_is_answered_and_counted() {
    let (dns, at) = start(mesh());
    enroll(&dns);
    assert_eq!(addresses("web", ask(at, "web")), ["10.96.0.1"]);
    let totals = dns.metrics().totals();
    let [(labels, counted)] = &totals[..] else { panic!("{totals:?}") };
    assert_eq!((labels.query_type, labels.transport), ("a", Transport::Udp));
    assert_eq!(&*labels.canonical_service, client(&mesh()).canonical_name());
    assert_eq!((counted.requests, counted.upstream_requests), (1, 0));
}

#[test]
fn a_workload_that_is_told_later_is_waited_for() {
    let (dns, at) = start(Snapshot::new(""));
    enroll(&dns);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| addresses("web", ask(at, "web")));
        // What is asked before this is published waits for it, and what is asked after it does not.
        dns.publish(mesh());
        assert_eq!(asking.join().unwrap(), ["10.96.0.1"]);
    });
}

#[test]
fn a_successor_answers_when_its_predecessor_is_gone() {
    let (old, at) = start(mesh());
    enroll(&old);
    let config = DnsConfig { port: at.port(), ..old.config.clone() };
    let new = Dns::start(config, mesh()).unwrap();
    enroll(&new);
    old.withdraw("pod");
    old.drain(PATIENCE);
    // Each from another port, so that the kernel would share them between all sockets of the address.
    for _ in 0..50 {
        assert_eq!(addresses("web", ask(at, "web")), ["10.96.0.1"]);
    }
}

/// What the kernel has and the runtime was not told of yet is easily forgotten by who stops.
#[test]
fn new_sockets_for_a_workload_lose_no_query_that_came_to_the_old() {
    let (dns, at) = start(mesh());
    enroll(&dns);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ask(at, "web");
            }
        });
        for _ in 0..1000 {
            enroll(&dns);
        }
        over.store(true, Ordering::Relaxed);
        asking.join().expect("every query was answered");
    });
}

#[test]
fn answers_on_one_connection_belong_to_their_queries() {
    let (dns, at) = start(mesh());
    enroll(&dns);
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let names = ["web", "db.shop", "api.example.com"];
    let mut pipelined = Vec::new();
    for (id, name) in names.iter().enumerate() {
        let query = Query::new(&Name::new(name).unwrap(), record_type::A).forward(id as u16);
        pipelined.extend(u16::try_from(query.len()).unwrap().to_be_bytes());
        pipelined.extend(query);
    }
    // In pieces, none of which is a message.
    for piece in pipelined.chunks(5) {
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let mut answered = Vec::new();
    while let Some((length, rest)) = received.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(u16::from_be_bytes(*length).into());
        let id = u16::from_be_bytes([message[0], message[1]]);
        let query = Query::new(&Name::new(names[usize::from(id)]).unwrap(), record_type::A);
        assert!(query.accept(id, message.to_vec()).is_ok());
        answered.push(id);
        received = rest.to_vec();
    }
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2]);
}

#[test]
fn nonsense_is_not_answered_and_does_no_harm() {
    let (dns, at) = start(mesh());
    enroll(&dns);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut response = Query::new(&Name::new("web").unwrap(), record_type::A).forward(1);
    response[2] |= 0x80;
    for nonsense in [&[][..], &[0; 3], &[0xff; 600], &response, &[0; 5000]] {
        socket.send_to(nonsense, at).unwrap();
    }
    let mut long = TcpStream::connect(at).unwrap();
    long.set_read_timeout(Some(PATIENCE)).unwrap();
    long.write_all(&[0xff; 100]).unwrap();
    assert!(matches!(long.read(&mut [0; 1]), Ok(0) | Err(_)), "a query of 65,535 bytes is none");
    assert_eq!(addresses("web", ask(at, "web")), ["10.96.0.1"]);
    // The messages came before the query, on the same socket.
    assert_eq!(dns.metrics().oddities().malformed, 5);
}

#[test]
fn names_that_are_addresses_resolve_to_themselves() {
    let (dns, _) = start(mesh());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let resolver = dns.resolver();
    runtime.block_on(async {
        let own = resolver.resolve("10.0.0.1", Family::Ipv4).await.unwrap();
        assert_eq!(*own, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(resolver.resolve("10.0.0.1", Family::Ipv6).await, Err(ResolveError::NoAddress));
        assert_eq!(resolver.resolve("not a name", Family::Ipv4).await, Err(ResolveError::NoName));
    });
}

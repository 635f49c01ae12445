//! Two networks on the real kernel, on both reactors: three engines in one namespace, an entry by SOCKS5, a gateway
//! whose application passes on what comes, and a service behind it.

#[path = "support/authority.rs"]
mod authority;
#[path = "support/ports.rs"]
mod ports;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use rcgen::CertificateParams;
use ringway_engine::{
    Engine, EngineConfig, OriginalSource, Ports,
    close::CloseReason,
    runtime::{NetNamespace, ReactorChoice},
    snapshot::{
        ApplicationTunnel, ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Interner,
        Membership, NamespacedHostname, NetworkAddress, Service, ServicePort, Snapshot,
        SubjectAltName, TunnelProtocol, WorkloadDescription,
    },
    telemetry::AccessRecord,
};
use ringway_protocols::{identity::Identity, proxy_protocol, tls::Options};

use self::{authority::Authority, ports::free_ports};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// Far more than is held anywhere between the two.
const BYTES: usize = 24 << 20;

#[test]
fn a_service_on_another_network_by_io_uring_if_it_is_there() {
    bytes_come_back(ReactorChoice::Auto);
}

#[test]
fn a_service_on_another_network_by_epoll() {
    bytes_come_back(ReactorChoice::Epoll);
}

fn bytes_come_back(reactor: ReactorChoice) {
    let authority = Authority::new(CertificateParams::default());
    let [client, gateway, server] = [(); 3].map(|()| free_ports());
    let application = TcpListener::bind((SERVER, 0)).expect("a port");
    let passes_on = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let mesh = Mesh {
        gateway: gateway.hbone,
        passes_on: port_of(&passes_on),
        application: port_of(&application),
    };
    let start = |name: &str, network, ports| {
        let mut snapshot = mesh.snapshot(network);
        let params = CertificateParams::default();
        snapshot.set_credentials(authority.issue(&identity(name), params, &Options::default()));
        engine(reactor, ports, snapshot, name)
    };
    let engines = [
        start("client", "n1", client),
        start("gateway", "n2", gateway),
        start("server", "n2", server),
    ];
    thread::spawn(move || pass_on(&passes_on, (SERVER, server.hbone).into()));
    thread::spawn(move || echo(&application));

    let stream = ask((CLIENT, client.socks5).into(), "web.example", 80);
    let sent: Vec<u8> =
        (0..BYTES).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let sending = {
        let (mut stream, sent) = (stream.try_clone().expect("a descriptor"), sent.clone());
        thread::spawn(move || {
            stream.write_all(&sent).expect("room");
            stream.shutdown(Shutdown::Write).expect("open");
        })
    };
    let mut got = Vec::new();
    (&stream).read_to_end(&mut got).expect("an end in order");
    assert!(got == sent, "{} bytes of {} came back", got.len(), sent.len());
    sending.join().expect("everything was sent");

    let record = record_of(&engines[0]);
    assert!(matches!(record.reason, CloseReason::Finished), "{}", record.reason);
    assert_eq!(record.destination.identity, Some(identity("server")), "not the gateway's");
    assert_eq!(record.destination.address, (GATEWAY, gateway.hbone).into());
    assert_eq!(
        record.hbone_authority.map(|one| one.to_string()).as_deref(),
        Some("web.example:80")
    );
    assert_eq!((record.received_bytes, record.sent_bytes), (BYTES as u64, BYTES as u64));
    let record = record_of(&engines[2]);
    assert_eq!(record.source.identity, Some(identity("client")), "not the gateway's");
    let refused = refused_by_socks((CLIENT, client.socks5).into());
    assert_eq!(refused, 4, "nobody has that name");
}

/// Where what is in the mesh.
struct Mesh {
    gateway: u16,
    passes_on: u16,
    application: u16,
}

impl Mesh {
    fn snapshot(&self, network: &str) -> Snapshot {
        let mut snapshot = Snapshot::new(network);
        let mut interner = Interner::new();
        let web = NamespacedHostname::new("shop", "web.example");
        for (name, on, address) in
            [("client", "n1", CLIENT), ("gateway", "n2", GATEWAY), ("server", "n2", SERVER)]
        {
            let is_behind = name == "server" && on != network;
            let description = WorkloadDescription {
                uid: uid(name),
                name: name.to_owned(),
                namespace: "shop".to_owned(),
                service_account: name.to_owned(),
                network: on.to_owned(),
                addresses: if is_behind { Vec::new() } else { vec![address] },
                protocol: TunnelProtocol::Hbone,
                network_gateway: is_behind.then_some(GatewayAddress {
                    destination: GatewayDestination::Address(NetworkAddress::new("n2", GATEWAY)),
                    hbone_mtls_port: self.gateway,
                }),
                services: match name {
                    "server" => vec![Membership { service: web.clone(), ports: Box::default() }],
                    _ => Vec::new(),
                },
                application_tunnel: (name == "gateway").then_some(ApplicationTunnel {
                    protocol: ApplicationTunnelProtocol::Proxy,
                    port: Some(self.passes_on),
                }),
                ..WorkloadDescription::default()
            };
            snapshot.upsert_workload(interner.workload(description).expect("well described"));
        }
        let mut service = Service::new(web);
        service.vips = [NetworkAddress::new(network, Ipv4Addr::new(10, 96, 0, 1).into())].into();
        let (target_port, app_protocol) = (self.application, Default::default());
        service.ports = [ServicePort { service_port: 80, target_port, app_protocol }].into();
        service.subject_alt_names = [SubjectAltName::from(&*identity("server").to_string())].into();
        snapshot.upsert_service(service);
        snapshot
    }
}

fn engine(reactor: ReactorChoice, ports: Ports, snapshot: Snapshot, name: &str) -> Engine {
    let config = EngineConfig {
        pin: false,
        reactor,
        ports,
        packet_mark: None,
        original_source: OriginalSource::Never,
        ipv6: false,
        socks5: true,
        ..EngineConfig::default()
    };
    let engine = Engine::start(config, snapshot).expect("an engine");
    let here = NetNamespace::current().expect("our own");
    engine.enroll(uid(name).into(), here).expect("free ports");
    engine
}

/// The gateway's application: reads for whom a connection is, and passes it on.
fn pass_on(listener: &TcpListener, to: SocketAddr) {
    for outer in listener.incoming() {
        let mut outer = outer.expect("accepted");
        let mut received = Vec::new();
        let length = loop {
            match proxy_protocol::parse(&received).expect("a header") {
                Some((header, length)) => {
                    assert_eq!(header.service.as_deref(), Some("web.example"));
                    let client = identity("client").to_string();
                    assert_eq!(header.identity.as_deref(), Some(&*client));
                    break length;
                }
                None => {
                    let mut byte = [0];
                    outer.read_exact(&mut byte).expect("a header");
                    received.push(byte[0]);
                }
            }
        };
        assert_eq!(length, received.len());
        let inner = TcpStream::connect(to).expect("the server's proxy");
        for (from, to) in [(&outer, &inner), (&inner, &outer)] {
            let ends = (from.try_clone().expect("one"), to.try_clone().expect("another"));
            thread::spawn(move || {
                let (mut from, mut to) = ends;
                // Either may leave first.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }
}

fn echo(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut from = stream.expect("accepted");
        let mut to = from.try_clone().expect("another");
        std::io::copy(&mut from, &mut to).expect("both ways");
        to.shutdown(Shutdown::Write).expect("open");
    }
}

/// A connection to a name, by SOCKS5.
fn ask(socks5: SocketAddr, host: &str, port: u16) -> TcpStream {
    let (stream, reply) = request(socks5, host, port);
    assert_eq!(reply, 0, "connected");
    stream
}

fn refused_by_socks(socks5: SocketAddr) -> u8 {
    request(socks5, "nowhere.example", 80).1
}

fn request(socks5: SocketAddr, host: &str, port: u16) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(socks5).expect("a listener");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    stream.write_all(&[5, 1, 0]).expect("room");
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).expect("an answer");
    assert_eq!(greeting, [5, 0]);
    let length = host.len() as u8;
    let request = [&[5, 1, 0, 3, length], host.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&request).expect("room");
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).expect("a reply");
    (stream, reply[1])
}

fn record_of(engine: &Engine) -> AccessRecord {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(record) = engine.telemetry().next_record() {
            return record;
        }
        assert!(Instant::now() < patience, "no record");
        thread::sleep(Duration::from_millis(10));
    }
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("bound").port()
}

fn uid(name: &str) -> String {
    format!("cluster//Pod/shop/{name}")
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).expect("a good name")
}

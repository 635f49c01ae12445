//! Two networks and the gateway between them: what a pod of one says to a service whose endpoints are on the
//! other arrives through two tunnels, one in the other, whole or as an abort; and who answers is who the
//! service names.
//!
//! The gateway is Ringway, too, before an application that passes on what comes: it sees sealed bytes only.

use std::{cell::Cell, io::ErrorKind, net::SocketAddr, rc::Rc, time::Duration};

use ringway_engine::{
    Carrier,
    close::CloseReason,
    runtime::{
        ConnectOptions, ListenOptions, NetNamespace, TcpListener, TcpStream, World, WorldOptions,
        counters, random, sleep, spawn, timeout,
    },
    sim::{SimHost, alive},
    snapshot::{
        ApplicationTunnel, ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Interner,
        Membership, NamespacedHostname, NetworkAddress, Service, ServicePort, Snapshot,
        SubjectAltName, TunnelProtocol, WorkloadDescription,
    },
    telemetry::{AccessRecord, Direction},
};
use ringway_protocols::proxy_protocol;

use crate::{
    applications::{pattern, read_some, read_to_end, write_all},
    authority::Authority,
    mesh::{at, identity, ip, uid},
};

const SEEDS: u64 = 20;
const CONNECTIONS: usize = 8;
/// More than the two tunnels hold between them.
const BYTES_MAX: u64 = 400_000;
/// Where the gateway's application listens.
const PASS_ON: u16 = 15443;
const SERVER: u16 = 8080;
const VIP: &str = "10.96.0.1";
/// The pods with their networks; each is on a host of its own.
const PODS: [(&str, &str, &str); 3] =
    [("client", "n1", "10.1.0.1"), ("gateway", "n2", "10.8.0.1"), ("server", "n2", "10.9.0.2")];

struct Networks {
    world: World,
    hosts: Vec<SimHost>,
    namespaces: Vec<NetNamespace>,
    /// Connections that the server got whole.
    whole: Cell<usize>,
}

impl Networks {
    /// Two networks, in which the service's endpoints may prove to be `named`.
    async fn new(world: &World, seed: u64, authority: &Authority, named: &str) -> Rc<Self> {
        let namespaces: Vec<_> =
            PODS.iter().map(|(name, _, address)| world.namespace(name, &[ip(address)])).collect();
        let hosts = PODS.iter().zip(0..).map(|((pod, network, _), n)| {
            let mut snapshot = snapshot(network, named);
            snapshot.set_credentials(authority.issue(&identity(pod)));
            SimHost::start(snapshot, seed ^ n)
        });
        let hosts: Vec<_> = hosts.collect();
        for ((pod, ..), (host, namespace)) in PODS.iter().zip(hosts.iter().zip(&namespaces)) {
            host.enroll(&uid(pod), namespace).await.expect("free ports");
        }
        world.redirect(&namespaces[0], true);
        let networks =
            Rc::new(Self { world: world.clone(), hosts, namespaces, whole: Cell::new(0) });
        spawn(pass_on(networks.clone()));
        spawn(serve(networks.clone()));
        networks
    }

    async fn dial(&self) -> Result<TcpStream, ErrorKind> {
        let options = ConnectOptions::default();
        let dial = TcpStream::connect(&self.namespaces[0], &options, at(VIP, 80));
        match timeout(Duration::from_secs(5), dial).await {
            Ok(dialled) => dialled.map_err(|error| error.kind()),
            Err(_) => Err(ErrorKind::TimedOut),
        }
    }

    /// Every record of the host, the client's or another.
    fn records(&self, host: usize) -> Vec<AccessRecord> {
        std::iter::from_fn(|| self.hosts[host].telemetry().next_record()).collect()
    }

    async fn end(&self) {
        self.world.set_options(WorldOptions::calm());
        for host in &self.hosts {
            host.drain(Duration::from_secs(30)).await;
        }
        sleep(Duration::from_secs(200)).await;
        for host in &self.hosts {
            assert_eq!(host.connections().await.len(), 0, "connections are left");
            host.stop().await;
        }
        assert_eq!(counters().panics, 0, "a task panicked");
    }
}

fn snapshot(network: &str, named: &str) -> Snapshot {
    let mut snapshot = Snapshot::new(network);
    let mut interner = Interner::new();
    let web = NamespacedHostname::new("shop", "web.example");
    for (name, on, address) in PODS {
        let is_far = on != network;
        let gateway = NetworkAddress::new("n2", ip("10.8.0.1"));
        // From the other network there is only the way through the gateway.
        let addresses = if is_far && name == "server" { Vec::new() } else { vec![ip(address)] };
        let description = WorkloadDescription {
            uid: uid(name),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            service_account: name.to_owned(),
            workload_name: format!("{name}-deployment"),
            network: on.to_owned(),
            protocol: TunnelProtocol::Hbone,
            network_gateway: addresses.is_empty().then_some(GatewayAddress {
                destination: GatewayDestination::Address(gateway),
                hbone_mtls_port: 15008,
            }),
            addresses,
            services: match name {
                "server" => vec![Membership { service: web.clone(), ports: Box::default() }],
                _ => Vec::new(),
            },
            application_tunnel: (name == "gateway").then_some(ApplicationTunnel {
                protocol: ApplicationTunnelProtocol::Proxy,
                port: Some(PASS_ON),
            }),
            ..WorkloadDescription::default()
        };
        snapshot.upsert_workload(interner.workload(description).expect("a good description"));
    }
    let mut service = Service::new(web);
    service.vips = ["n1", "n2"].map(|network| NetworkAddress::new(network, ip(VIP))).into();
    let app_protocol = Default::default();
    service.ports = [ServicePort { service_port: 80, target_port: SERVER, app_protocol }].into();
    service.subject_alt_names = [SubjectAltName::from(&*identity(named).to_string())].into();
    snapshot.upsert_service(service);
    snapshot
}

/// The gateway's application: reads for whom a connection is, and passes it on to the server's proxy.
async fn pass_on(networks: Rc<Networks>) {
    let namespace = &networks.namespaces[1];
    let any = SocketAddr::new(ip("127.0.0.1"), PASS_ON);
    let listener = TcpListener::bind(namespace, any, &ListenOptions::default()).expect("a port");
    while let Ok((outer, _)) = listener.accept().await {
        let namespace = namespace.clone();
        spawn(async move {
            let mut received = Vec::new();
            let length = loop {
                match proxy_protocol::parse(&received) {
                    Ok(Some((header, length))) => {
                        let client = identity("client").to_string();
                        assert_eq!(header.identity.as_deref(), Some(&*client));
                        assert_eq!(header.service.as_deref(), Some("web.example"));
                        break length;
                    }
                    Ok(None) => {}
                    Err(error) => panic!("{error}"),
                }
                let mut buffer = [0; 4096];
                match read_some(&outer, &mut buffer).await {
                    Ok(got) if got > 0 => received.extend_from_slice(&buffer[..got]),
                    _ => return,
                }
            };
            let options = ConnectOptions::default();
            let inner = TcpStream::connect(&namespace, &options, at("10.9.0.2", 15008)).await;
            let Ok(inner) = inner else { return outer.abort() };
            let (outer, inner) = (Rc::new(outer), Rc::new(inner));
            if write_all(&inner, &received[length..]).await.is_ok() {
                spawn(copy(outer.clone(), inner.clone()));
                spawn(copy(inner, outer));
            }
        });
    }
}

async fn copy(from: Rc<TcpStream>, to: Rc<TcpStream>) {
    let mut buffer = vec![0; 8192];
    loop {
        let got = read_some(&from, &mut buffer).await;
        let ended = match got {
            Ok(0) => return drop(to.shutdown_write()),
            Ok(got) => write_all(&to, &buffer[..got]).await,
            Err(error) => Err(error),
        };
        if ended.is_err() {
            from.reset_on_close();
            to.reset_on_close();
            // The other direction sees it, too.
            let _ = to.shutdown_write();
            return;
        }
    }
}

/// Takes eight bytes that say how many more come, and those; gives them back.
async fn serve(networks: Rc<Networks>) {
    let any = TcpListener::wildcard(false, SERVER);
    let options = ListenOptions::default();
    let listener = TcpListener::bind(&networks.namespaces[2], any, &options).expect("a port");
    while let Ok((stream, _)) = listener.accept().await {
        let networks = networks.clone();
        spawn(async move {
            let (bytes, ended) = read_to_end(&stream).await;
            if ended.is_err() {
                return stream.abort();
            }
            let head = bytes.first_chunk().expect("an abort looks like an end in order");
            let said = u64::from_be_bytes(*head);
            assert_eq!(bytes.len() as u64, 8 + said, "an abort looks like an end in order");
            networks.whole.set(networks.whole.get() + 1);
            match write_all(&stream, &bytes).await {
                Ok(()) => drop(stream.shutdown_write()),
                Err(_) => stream.abort(),
            }
        });
    }
}

/// Sends what it is said to send, and wants it back. True when it came whole.
async fn talk(networks: &Networks, bytes: u64, aborts: bool) -> bool {
    let Ok(stream) = networks.dial().await else { return false };
    let stream = Rc::new(stream);
    let seed = random();
    let mut request = bytes.to_be_bytes().to_vec();
    request.extend((0..bytes).map(|at| pattern(seed, at)));
    let sending = spawn({
        let (stream, request) = (stream.clone(), request.clone());
        async move {
            let part = if aborts { request.len() / 2 } else { request.len() };
            match write_all(&stream, &request[..part]).await {
                Ok(()) if aborts => stream.reset_on_close(),
                // Whether the end can still be told shows in what is read.
                _ => drop(stream.shutdown_write()),
            }
        }
    });
    if aborts {
        sending.await;
        return false;
    }
    let (got, ended) = match timeout(Duration::from_secs(120), read_to_end(&stream)).await {
        Ok(read) => read,
        Err(_) => return false,
    };
    assert!(request.starts_with(&got), "other bytes came back than were sent");
    assert_eq!(ended.is_ok(), got == request, "an abort looks like an end in order");
    ended.is_ok()
}

#[test]
fn whatever_happens_between_networks_bytes_and_records_are_right() {
    let authority = Authority::new();
    let mut whole = 0;
    for seed in 0..SEEDS {
        let world = World::new(seed);
        let runtime = world.runtime();
        whole += runtime.block_on(play(world.clone(), seed, &authority));
        drop(runtime);
        assert_eq!(world.open_sockets(), Vec::<String>::new(), "seed {seed}: sockets are left");
        assert_eq!(alive(), Vec::new(), "seed {seed}: something of a host is left");
    }
    assert!(whole > SEEDS as usize, "only {whole} connections came through");
}

async fn play(world: World, seed: u64, authority: &Authority) -> usize {
    let networks = Networks::new(&world, seed, authority, "server").await;
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let networks = networks.clone();
            spawn(async move {
                for _ in 0..CONNECTIONS {
                    sleep(Duration::from_millis(random() % 100)).await;
                    let aborts = random().is_multiple_of(8);
                    talk(&networks, random() % BYTES_MAX, aborts).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await;
    }
    networks.end().await;
    let records = networks.records(0);
    assert!(records.iter().all(|record| record.direction == Direction::Outbound));
    networks.whole.get()
}

#[test]
fn who_is_told_what() {
    let authority = Authority::new();
    let world = World::with_options(3, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(async {
        let networks = Networks::new(&world, 3, &authority, "server").await;
        for bytes in [1, BYTES_MAX] {
            assert!(talk(&networks, bytes, false).await, "{bytes} bytes");
        }
        let stream = networks.dial().await.expect("captured");
        write_all(&stream, b"x").await.expect("room");
        sleep(Duration::from_secs(1)).await;
        let open = networks.hosts[0].connections().await;
        assert_eq!(open.len(), 1);
        assert_eq!(
            (open[0].carrier, open[0].carrier.as_str()),
            (Carrier::DoubleHbone, "DOUBLEHBONE")
        );
        assert_eq!(open[0].destination, at("10.8.0.1", 15008));
        stream.abort();
        sleep(Duration::from_secs(1)).await;

        let mine = networks.records(0);
        assert_eq!(mine.len(), 3);
        let authority_text =
            |record: &AccessRecord| record.hbone_authority.as_ref().unwrap().to_string();
        for record in &mine {
            assert_eq!(authority_text(record), "web.example:80");
            assert_eq!(record.destination.address, at("10.8.0.1", 15008));
            assert_eq!(record.destination.identity, Some(identity("server")), "not the gateway's");
            let claims = record.destination.claims.as_ref().expect("response baggage");
            assert_eq!(claims.workload_name.as_deref(), Some("server-deployment"));
        }
        assert!(matches!(mine[2].reason, CloseReason::ClientReset), "{}", mine[2].reason);
        let labels = networks.hosts[0].telemetry().series();
        for (labels, _) in &labels {
            assert_eq!(&*labels.destination.workload, "server-deployment");
            assert_eq!(*labels.destination.principal, identity("server").to_string());
            assert_eq!(&*labels.service.hostname, "web.example");
        }
        assert_eq!(
            labels.iter().map(|(_, totals)| totals.sent_bytes).sum::<u64>(),
            1 + 8 + 8 + BYTES_MAX
        );

        // The gateway saw one tunnel of the client's and, inside, names only.
        for record in networks.records(1) {
            assert_eq!(authority_text(&record), "web.example:80");
            assert_eq!(record.source.identity, Some(identity("client")));
        }
        // The server saw the client's identity from the gateway's address, and looked no address up.
        let theirs = networks.records(2);
        assert_eq!(theirs.len(), 3);
        for record in &theirs {
            assert_eq!(authority_text(record), "web.example:80");
            assert_eq!(record.source.identity, Some(identity("client")));
            assert!(record.source.workload.is_none(), "the gateway is not the source");
            let claims = record.source.claims.as_ref().expect("baggage");
            assert_eq!(claims.workload_name.as_deref(), Some("client-deployment"));
        }
        for (labels, _) in networks.hosts[2].telemetry().series() {
            assert_eq!(&*labels.source.workload, "client-deployment", "from baggage");
        }
        networks.end().await;
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
    assert_eq!(alive(), Vec::new());
}

#[test]
fn who_is_not_named_by_the_service_is_not_talked_to() {
    let authority = Authority::new();
    let world = World::with_options(5, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(async {
        // The gateway proves to be itself, outside; who answers inside is not who was named.
        let networks = Networks::new(&world, 5, &authority, "somebody").await;
        assert!(!talk(&networks, 100, false).await);
        sleep(Duration::from_secs(1)).await;
        let records = networks.records(0);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].reason.response_flag(), "TLS_FAILURE", "{}", records[0].reason);
        assert_eq!(networks.whole.get(), 0);
        networks.end().await;
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
    assert_eq!(alive(), Vec::new());
}

#[test]
fn a_gateway_that_is_unplugged_leaves_nothing_behind() {
    let authority = Authority::new();
    let world = World::with_options(9, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(async {
        let networks = Networks::new(&world, 9, &authority, "server").await;
        let stream = networks.dial().await.expect("captured");
        write_all(&stream, b"x").await.expect("room");
        sleep(Duration::from_secs(1)).await;
        world.unplug(&networks.namespaces[1]);
        let (got, ended) = read_to_end(&stream).await;
        assert!(got.is_empty() && ended.is_err(), "an abort looks like an end in order");
        drop(stream);
        networks.end().await;
        let records = networks.records(0);
        assert_eq!(records.len(), 1);
        assert!(matches!(records[0].reason, CloseReason::TunnelLost(_)), "{}", records[0].reason);
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
    assert_eq!(alive(), Vec::new());
}

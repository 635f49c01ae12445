//! What a workload asks for by SOCKS5, and hostnames that control resolves.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use ringway_engine::{
    EngineConfig,
    close::CloseReason,
    runtime::{
        ConnectOptions, ListenOptions, NetNamespace, TcpListener, TcpStream, World, WorldOptions,
        sleep, spawn,
    },
    sim::{SimHost, alive},
    snapshot::{
        Interner, Membership, NamespacedHostname, NetworkAddress, Resolutions, Service,
        ServicePort, Snapshot, TunnelProtocol, WorkloadDescription,
    },
};

use crate::{
    applications::{read_some, read_to_end, write_all},
    authority::Authority,
    mesh::{at, identity, ip, uid},
};

const SERVER: u16 = 8080;

struct Host {
    running: SimHost,
    pod: NetNamespace,
    snapshot: Snapshot,
}

impl Host {
    /// One pod, SOCKS5 in it, and a machine that is known by its hostname only.
    async fn new(world: &World, authority: &Authority) -> Rc<Self> {
        let pod = world.namespace("client", &[ip("10.1.0.1"), ip("127.0.0.1")]);
        let machine = world.namespace("machine", &[ip("10.9.0.1")]);
        let mut snapshot = Snapshot::new("");
        let mut interner = Interner::new();
        let web = NamespacedHostname::new("shop", "web.example");
        let client = described("client", TunnelProtocol::Hbone);
        let client = WorkloadDescription { addresses: vec![ip("10.1.0.1")], ..client };
        let served = described("machine", TunnelProtocol::Tcp);
        let ports = Box::default();
        let served = WorkloadDescription {
            hostname: "vm.example".to_owned(),
            services: vec![Membership { service: web.clone(), ports }],
            ..served
        };
        for description in [client, served] {
            snapshot.upsert_workload(interner.workload(description).expect("a good description"));
        }
        let mut service = Service::new(web);
        service.vips = [NetworkAddress::new("", ip("10.96.0.1"))].into();
        let app_protocol = Default::default();
        service.ports =
            [ServicePort { service_port: 80, target_port: SERVER, app_protocol }].into();
        snapshot.upsert_service(service);
        snapshot.set_credentials(authority.issue(&identity("client")));
        let config = EngineConfig { socks5: true, resolver: true, ..EngineConfig::default() };
        let running = SimHost::start_with(config, snapshot.clone(), 1);
        running.enroll(&uid("client"), &pod).await.expect("free ports");
        world.redirect(&pod, true);
        spawn(serve(machine));
        Rc::new(Self { running, pod, snapshot })
    }

    /// What control does: resolves what is wanted, if it can.
    fn resolve(&self) -> Vec<String> {
        let wanted: Vec<_> = std::iter::from_fn(|| self.running.next_wanted_hostname()).collect();
        if wanted.iter().any(|hostname| **hostname == *"vm.example") {
            let (mut snapshot, mut resolutions) = (self.snapshot.clone(), Resolutions::default());
            resolutions.set("vm.example", &[ip("10.9.0.1")]);
            snapshot.set_resolutions(resolutions);
            self.running.publish(snapshot);
        }
        wanted.into_iter().map(String::from).collect()
    }

    async fn dial(&self, to: SocketAddr) -> TcpStream {
        let options = ConnectOptions::default();
        TcpStream::connect(&self.pod, &options, to).await.expect("a listener")
    }

    /// Says all that, one piece after the other, and returns what comes back until the end.
    async fn say(&self, pieces: &[&[u8]]) -> (Vec<u8>, Duration) {
        let began = ringway_engine::runtime::now();
        let stream = self.dial(at("127.0.0.1", 15080)).await;
        for piece in pieces {
            write_all(&stream, piece).await.expect("room");
            sleep(Duration::from_millis(5)).await;
        }
        let _ = stream.shutdown_write();
        (read_to_end(&stream).await.0, ringway_engine::runtime::now() - began)
    }

    fn reason(&self) -> CloseReason {
        let record = self.running.telemetry().next_record().expect("a record");
        assert!(self.running.telemetry().next_record().is_none(), "one record");
        record.reason
    }
}

fn described(name: &str, protocol: TunnelProtocol) -> WorkloadDescription {
    WorkloadDescription {
        uid: uid(name),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: name.to_owned(),
        protocol,
        ..WorkloadDescription::default()
    }
}

/// Gives back what it gets.
async fn serve(namespace: NetNamespace) {
    let any = TcpListener::wildcard(false, SERVER);
    let listener = TcpListener::bind(&namespace, any, &ListenOptions::default()).expect("a port");
    while let Ok((stream, _)) = listener.accept().await {
        spawn(async move {
            let (bytes, _) = read_to_end(&stream).await;
            let _ = write_all(&stream, &bytes).await;
            let _ = stream.shutdown_write();
        });
    }
}

fn run(play: impl AsyncFnOnce(&World, Rc<Host>)) {
    let authority = Authority::new();
    let world = World::with_options(17, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(async {
        let host = Host::new(&world, &authority).await;
        play(&world, host.clone()).await;
        host.running.drain(Duration::from_secs(30)).await;
        host.running.stop().await;
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
    assert_eq!(alive(), Vec::new());
}

const GREETING: &[u8] = &[5, 1, 0];

fn named(host: &str, port: u16) -> Vec<u8> {
    [&[5, 1, 0, 3, host.len() as u8], host.as_bytes(), &port.to_be_bytes()].concat()
}

fn answered(reply: u8, then: &[u8]) -> Vec<u8> {
    [&[5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0], then].concat()
}

#[test]
fn a_connection_that_is_asked_for_is_served_like_a_captured_one() {
    run(async |_, host| {
        let resolving = spawn({
            let host = host.clone();
            async move {
                while !host.resolve().contains(&"vm.example".to_owned()) {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        });
        // A service by name; its endpoint has a hostname, which control resolves meanwhile.
        let (got, _) = host.say(&[GREETING, &named("WEB.example", 80), b"hello"]).await;
        assert_eq!(got, answered(0, b"hello"));
        resolving.await;
        assert!(matches!(host.reason(), CloseReason::Finished));
        let address = [5, 1, 0, 1, 10, 9, 0, 1, 0x1f, 0x90];
        let all_at_once = [GREETING, &address, b"hello"].concat();
        assert_eq!(host.say(&[&all_at_once]).await.0, answered(0, b"hello"), "an address");
        assert!(matches!(host.reason(), CloseReason::Finished));
    });
}

#[test]
fn who_is_not_connected_is_told_why() {
    run(async |_, host| {
        let closed = [5, 1, 0, 1, 10, 9, 0, 1, 0, 9];
        let own = [5, 1, 0, 1, 127, 0, 0, 1, 0x3a, 0x99];
        let rows: [(&str, &[u8], Vec<u8>, &str); 6] = [
            ("a closed port", &closed, answered(5, b""), "io error: connection refused"),
            ("our own port", &own, answered(2, b""), "attempted recursive call to ourselves"),
            (
                "a name that nobody knows",
                &named("nowhere.example", 80),
                answered(4, b""),
                "no service with hostname: nowhere.example",
            ),
            (
                "a hostname that is not resolved in time",
                &named("web.example", 80),
                answered(4, b""),
                "hostname vm.example of workload machine is not resolved",
            ),
            (
                "BIND",
                &[5, 2, 0, 1],
                answered(7, b""),
                "malformed SOCKS5 request: the client asks for something else than CONNECT",
            ),
            (
                "half a request",
                &[5, 1, 0],
                vec![5, 0],
                "malformed SOCKS5 request: the client left before it had asked",
            ),
        ];
        for (name, request, answer, reason) in rows {
            let (got, took) = host.say(&[GREETING, request]).await;
            assert_eq!(got, answer, "{name}");
            assert!(took < Duration::from_secs(8), "{name} took {took:?}");
            assert_eq!(host.reason().to_string(), reason, "{name}");
        }
        assert_eq!(host.say(&[b"GET / HTTP/1.1\r\n\r\n"]).await.0, b"", "no SOCKS, no answer");
        assert!(matches!(host.reason(), CloseReason::Socks5(_)));
    });
}

#[test]
fn success_is_told_when_there_is_one_and_silence_ends() {
    run(async |world, host| {
        // Nobody answers at that address: the dial goes on for its ten seconds.
        world.namespace("silent", &[ip("10.9.0.3")]);
        let silent = world.namespace("gone", &[ip("10.9.0.4")]);
        world.unplug(&silent);
        let stream = host.dial(at("127.0.0.1", 15080)).await;
        write_all(&stream, GREETING).await.expect("room");
        write_all(&stream, &[5, 1, 0, 1, 10, 9, 0, 4, 0, 80]).await.expect("room");
        let mut got = [0; 16];
        assert_eq!(read_some(&stream, &mut got).await, Ok(2), "the greeting's answer only");
        let (rest, _) = read_to_end(&stream).await;
        assert_eq!(rest, answered(4, b"")[2..]);
        assert!(matches!(host.reason(), CloseReason::DialTimedOut));
        let silent = host.dial(at("127.0.0.1", 15080)).await;
        assert_eq!(read_to_end(&silent).await.0, b"");
        assert!(matches!(host.reason(), CloseReason::Socks5(_)));
    });
}

#[test]
fn a_captured_connection_waits_for_the_hostname_it_needs() {
    run(async |_, host| {
        let stream = host.dial(at("10.96.0.1", 80)).await;
        write_all(&stream, b"hello").await.expect("room");
        let _ = stream.shutdown_write();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(host.resolve(), ["vm.example"]);
        assert_eq!(read_to_end(&stream).await, (b"hello".to_vec(), Ok(())));
        assert!(matches!(host.reason(), CloseReason::Finished));
        assert!(host.resolve().is_empty(), "asked once");
    });
}

//! Two hosts, their applications and a client outside the mesh, in one thread, from a seed.
//!
//! The shards, tunnels and relays are the production code; network, clock and faults are simulated. Each
//! seed draws its own mix of faults, its own applications' behaviour and its own order of events. What
//! must hold in every run is checked at the ends:
//!
//! * what arrives is a prefix of what was sent, and all of it where the connection ended in order: no byte
//!   is lost, invented, doubled or crossed between connections, and no abort looks like an end;
//! * every captured connection ends in exactly one record, also those that were moved, as to another process;
//! * nothing is left: no socket, no task, no panic.
//!
//! The other modules are about one thing each, and draw its circumstances from seeds, too:
//!
//! * `endpoints`: endpoints of a service go, and no connection to it is lost for that.
//!
//! `SIM_SEEDS=1000 cargo test -p ringway-engine --features sim --test sim` runs more seeds;
//! `SIM_SEED=0x2a` replays one.

mod endpoints;

use std::{
    cell::{Cell, RefCell},
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ED25519, SanType, SerialNumber,
};
use ringway_engine::{
    runtime::{
        ConnectOptions, FaultsMet, ListenOptions, NetNamespace, TcpListener, TcpStream, World,
        WorldOptions, counters, random, sleep, spawn, timeout,
    },
    sim::SimHost,
    snapshot::{
        Interner, Membership, NamespacedHostname, NetworkAddress, PortMapping, Service,
        ServicePort, Snapshot, TunnelProtocol, Workload, WorkloadDescription,
    },
    telemetry::Direction,
};
use ringway_protocols::{
    identity::Identity,
    tls::{Credentials, Material, Options},
};
use rustls_pki_types::PrivateKeyDer;

/// Seeds of one test run, unless SIM_SEEDS says otherwise.
const SEEDS: u64 = 200;
/// Connections each client opens.
const CONNECTIONS: usize = 6;
/// The most one side sends on a connection.
const BYTES_MAX: u64 = 100_000;

/// Connections that were moved, over all seeds.
static MOVED: AtomicUsize = AtomicUsize::new(0);

const PORT: u16 = 8080;
const VIP: &str = "10.96.0.1";

/// The pods: name, address, host.
const PODS: [(&str, &str, usize); 4] =
    [("a1", "10.1.0.1", 0), ("a2", "10.1.0.2", 0), ("b1", "10.2.0.1", 1), ("b2", "10.2.0.2", 1)];

#[test]
fn whatever_the_network_does_bytes_and_records_are_right() {
    let seeds: Vec<u64> = match std::env::var("SIM_SEED") {
        Ok(seed) => vec![parse_seed(&seed)],
        Err(_) => {
            let count = std::env::var("SIM_SEEDS").map_or(SEEDS, |count| parse_seed(&count));
            (0..count).collect()
        }
    };
    let authority = Authority::new();
    let mut met = FaultsMet::default();
    for &seed in &seeds {
        let ran = catch_unwind(AssertUnwindSafe(|| run(seed, &authority)));
        match ran {
            Ok(faults) => add(&mut met, &faults),
            Err(panic) => {
                eprintln!(
                    "seed {seed:#x} failed; replay it with: SIM_SEED={seed:#x} cargo test -p \
                     ringway-engine --features sim --test sim"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    if seeds.len() as u64 >= SEEDS {
        // A simulation that meets no faults shows nothing.
        let every_kind = [
            met.short_reads,
            met.short_writes,
            met.resets,
            met.refused,
            met.blackholed,
            met.lost,
            met.redirected_outbound,
            met.redirected_inbound,
            met.foreign_sources,
        ];
        assert!(every_kind.iter().all(|&count| count > 0), "{met:?}");
        assert!(MOVED.load(Ordering::Relaxed) > seeds.len(), "hardly a connection was moved");
    }
    println!("{} seeds, {met:?}", seeds.len());
}

#[test]
fn a_seed_replays_to_the_last_event() {
    let authority = Authority::new();
    for seed in [3, 7] {
        assert_eq!(digest(seed, &authority), digest(seed, &authority), "seed {seed}");
    }
}

fn digest(seed: u64, authority: &Authority) -> u64 {
    let world = World::new(seed);
    run_in(&world, seed, authority);
    world.digest()
}

fn run(seed: u64, authority: &Authority) -> FaultsMet {
    let world = World::new(seed);
    run_in(&world, seed, authority);
    world.faults_met()
}

fn run_in(world: &World, seed: u64, authority: &Authority) {
    let runtime = world.runtime();
    runtime.block_on(play(world.clone(), seed, authority));
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new(), "sockets are left");
}

async fn play(world: World, seed: u64, authority: &Authority) {
    let mesh = Mesh::new(&world, seed, authority);
    mesh.enroll(&world).await;
    for pod in ["b1", "b2"] {
        spawn(serve(mesh.namespace(pod).clone()));
    }
    spawn(serve(mesh.outside.clone()));
    let clients: Vec<_> = mesh
        .clients()
        .into_iter()
        .map(|(from, to, redirected)| {
            let tally = mesh.tally.clone();
            let client = Client { from, to, redirected, tally };
            spawn(client.run())
        })
        .collect();
    for client in clients {
        while !client.is_finished() {
            mesh.move_some().await;
            sleep(Duration::from_millis(random() % 10)).await;
        }
    }
    // The end is to be judged, not the patience: whatever is still under way may arrive.
    world.set_options(WorldOptions::calm());
    mesh.end().await;
    assert_eq!(counters().panics, 0, "a task panicked");
}

/// The mesh of a run.
struct Mesh {
    hosts: Vec<SimHost>,
    namespaces: Vec<NetNamespace>,
    outside: NetNamespace,
    tally: Rc<Tally>,
}

/// What the clients saw.
#[derive(Default)]
struct Tally {
    /// Connections that Ringway's outbound side accepted.
    captured: Cell<usize>,
    finished: Cell<usize>,
    broken: Cell<usize>,
    /// Answers that did not end in order although every byte arrived, and the like.
    problems: RefCell<Vec<String>>,
}

impl Mesh {
    fn new(world: &World, seed: u64, authority: &Authority) -> Self {
        let namespaces =
            PODS.iter().map(|(name, address, _)| world.namespace(name, &[ip(address)])).collect();
        let outside = world.namespace("outside", &[ip("192.0.2.1")]);
        let hosts = (0..2)
            .map(|host| SimHost::start(snapshot(host, authority), seed ^ host as u64))
            .collect();
        Self { hosts, namespaces, outside, tally: Rc::default() }
    }

    async fn enroll(&self, world: &World) {
        for ((name, _, host), namespace) in PODS.iter().zip(&self.namespaces) {
            self.hosts[*host].enroll(&uid(name), namespace).await.expect("free ports");
            world.redirect(namespace, true);
        }
    }

    /// Has live plain connections change from one process to the next, which here is the same one.
    async fn move_some(&self) {
        let pods = Arc::new(PODS.iter().map(|(name, ..)| uid(name).into()).collect());
        for host in &self.hosts {
            let moved = host.call_away(&pods, 1 + random() as usize % 4).await;
            MOVED.fetch_add(moved.len(), Ordering::Relaxed);
            moved.into_iter().for_each(|connection| host.resume(connection));
        }
    }

    fn namespace(&self, name: &str) -> &NetNamespace {
        let at = PODS.iter().position(|(pod, ..)| *pod == name).expect("a pod");
        &self.namespaces[at]
    }

    /// Who calls whom, and whether the caller is captured.
    fn clients(&self) -> Vec<(NetNamespace, SocketAddr, bool)> {
        let to = |address: &str, port| SocketAddr::new(ip(address), port);
        let from = |pod: &str| self.namespace(pod).clone();
        vec![
            (from("a1"), to("10.2.0.1", PORT), true),
            (from("a1"), to(VIP, 80), true),
            (from("a2"), to("10.2.0.2", PORT), true),
            (from("a2"), to(VIP, 80), true),
            (from("b1"), to("10.2.0.2", PORT), true),
            (from("a1"), to("192.0.2.1", PORT), true),
            (self.outside.clone(), to("10.2.0.1", PORT), false),
        ]
    }

    async fn end(self) {
        for host in &self.hosts {
            host.drain(Duration::from_secs(30)).await;
        }
        assert_eq!(*self.tally.problems.borrow(), Vec::<String>::new());
        let mut outbound = 0;
        for host in &self.hosts {
            while let Some(record) = host.telemetry().next_record() {
                outbound += usize::from(record.direction == Direction::Outbound);
            }
            assert_eq!(host.telemetry().records_lost(), 0);
            for (labels, totals) in host.telemetry().series() {
                assert!(totals.failed <= totals.closed, "{labels:?} {totals:?}");
            }
        }
        assert_eq!(outbound, self.tally.captured.get(), "one record for each captured connection");
        for host in self.hosts {
            host.stop().await;
        }
    }
}

/// A client that opens one connection after the other.
struct Client {
    from: NetNamespace,
    to: SocketAddr,
    redirected: bool,
    tally: Rc<Tally>,
}

impl Client {
    async fn run(self) {
        for _ in 0..CONNECTIONS {
            sleep(Duration::from_millis(random() % 20)).await;
            let options = ConnectOptions::default();
            let dial = TcpStream::connect(&self.from, &options, self.to);
            let Ok(Ok(stream)) = timeout(Duration::from_secs(5), dial).await else { continue };
            if self.redirected {
                self.tally.captured.set(self.tally.captured.get() + 1);
            }
            // A connection whose peer died without a word is the client's to give up.
            let talk = self.talk(stream);
            if timeout(Duration::from_secs(120), talk).await.is_err() {
                self.tally.broken.set(self.tally.broken.get() + 1);
            }
        }
    }

    /// Says how much it will send and how much it wants, sends that, and checks what comes.
    async fn talk(&self, stream: TcpStream) {
        let seed = random();
        let (up, down) = (random() % BYTES_MAX, random() % BYTES_MAX);
        let aborts = random().is_multiple_of(8);
        let stream = Rc::new(stream);
        let mut request = Vec::new();
        for number in [seed, up, down] {
            request.extend_from_slice(&number.to_be_bytes());
        }
        request.extend((0..up).map(|at| pattern(seed, at)));
        let sending = {
            let stream = stream.clone();
            spawn(async move {
                let cut = if aborts { request.len() / 2 } else { request.len() };
                if write_all(&stream, &request[..cut]).await.is_ok() {
                    if aborts {
                        stream.reset_on_close();
                    } else {
                        // Whether the end can still be told shows in what is read.
                        let _ = stream.shutdown_write();
                    }
                }
            })
        };
        let received = if aborts {
            sending.await;
            return;
        } else {
            read_to_end(&stream).await
        };
        let (bytes, ended) = received;
        let wanted = |at: usize| pattern(!seed, at as u64);
        let counted = bytes.iter().enumerate().take(down as usize);
        if let Some((at, _)) = counted.into_iter().find(|(at, byte)| **byte != wanted(*at)) {
            self.problem(format!("byte {at} of {down} from {} is wrong", self.to));
        }
        match ended {
            // The server answers with exactly `down` bytes and then says how much it got.
            Ok(()) if bytes.len() as u64 == down + 8 => {
                let got =
                    u64::from_be_bytes(bytes[down as usize..].try_into().expect("eight bytes"));
                if got != up {
                    self.problem(format!("{} got {got} of {up} bytes", self.to));
                }
                self.tally.finished.set(self.tally.finished.get() + 1);
            }
            Ok(()) => self.problem(format!(
                "{} bytes of {down} from {} look like an end in order",
                bytes.len(),
                self.to
            )),
            Err(_) => self.tally.broken.set(self.tally.broken.get() + 1),
        }
        sending.abort();
    }

    fn problem(&self, text: String) {
        self.tally.problems.borrow_mut().push(text);
    }
}

/// A server that answers every request of [`Client::talk`], and aborts what does not end in order.
async fn serve(namespace: NetNamespace) {
    let any = TcpListener::wildcard(false, PORT);
    let listener = TcpListener::bind(&namespace, any, &ListenOptions::default()).expect("a port");
    while let Ok((stream, _)) = listener.accept().await {
        spawn(async move {
            if timeout(Duration::from_secs(150), answer(&stream)).await != Ok(Ok(())) {
                stream.abort();
            }
        });
    }
}

async fn answer(stream: &TcpStream) -> Result<(), ErrorKind> {
    let mut head = [0; 24];
    read_exactly(stream, &mut head).await?;
    let number = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let (seed, up, down) = (number(0), number(8), number(16));
    let (bytes, ended) = read_to_end(stream).await;
    ended?;
    // An end in order means that everything has arrived, and nothing else.
    let right = bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(seed, at as u64));
    assert!(right, "the server got other bytes than were sent");
    assert_eq!(bytes.len() as u64, up, "an abort looks like an end in order");
    let mut reply: Vec<u8> = (0..down).map(|at| pattern(!seed, at)).collect();
    reply.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    write_all(stream, &reply).await?;
    stream.shutdown_write().map_err(|error| error.kind())
}

fn pattern(seed: u64, at: u64) -> u8 {
    (seed.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

async fn read_some(stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
    loop {
        match stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await,
            other => return other.map_err(|error| error.kind()),
        }
    }
}

async fn read_exactly(stream: &TcpStream, mut buffer: &mut [u8]) -> Result<(), ErrorKind> {
    while !buffer.is_empty() {
        let got = read_some(stream, buffer).await?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof);
        }
        buffer = &mut buffer[got..];
    }
    Ok(())
}

async fn read_to_end(stream: &TcpStream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 8192]);
    loop {
        match read_some(stream, &mut buffer).await {
            Ok(0) => return (all, Ok(())),
            Ok(got) => all.extend_from_slice(&buffer[..got]),
            Err(error) => return (all, Err(error)),
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), ErrorKind> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await,
            Err(error) => return Err(error.kind()),
            Ok(taken) => bytes = &bytes[taken..],
        }
    }
    Ok(())
}

/// What both hosts know; only a host's own pods have credentials there.
fn snapshot(host: usize, authority: &Authority) -> Snapshot {
    let mut snapshot = Snapshot::new("");
    let mut interner = Interner::new();
    let web = NamespacedHostname::new("shop", "web.shop.svc.cluster.local");
    for (name, address, on) in PODS {
        let workload = workload(&mut interner, name, address, &web);
        if on == host {
            snapshot.set_credentials(authority.issue(workload.identity()));
        }
        snapshot.upsert_workload(workload);
    }
    let mut service = Service::new(web);
    service.vips = [NetworkAddress::new("", ip(VIP))].into();
    let port =
        ServicePort { service_port: 80, target_port: PORT, app_protocol: Default::default() };
    service.ports = [port].into();
    snapshot.upsert_service(service);
    snapshot
}

fn workload(
    interner: &mut Interner,
    name: &str,
    address: &str,
    web: &NamespacedHostname,
) -> Workload {
    let ports = [PortMapping { service_port: 80, target_port: PORT }].into();
    let services = if name.starts_with('b') {
        vec![Membership { service: web.clone(), ports }]
    } else {
        Vec::new()
    };
    let description = WorkloadDescription {
        uid: uid(name),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: name.to_owned(),
        addresses: vec![ip(address)],
        protocol: TunnelProtocol::Hbone,
        services,
        ..WorkloadDescription::default()
    };
    interner.workload(description).expect("a good description")
}

/// A certificate authority whose certificates have always the same length, so that a run replays.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(1));
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    fn issue(&self, identity: &Identity) -> Arc<Credentials> {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(2));
        let uri = identity.to_string().try_into().expect("an ASCII identity");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.0).expect("a leaf");
        let material = Material {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
            trust_anchors: vec![self.0.der().clone()],
        };
        Arc::new(Credentials::new(material, &Options::default()).expect("good material"))
    }
}

fn uid(name: &str) -> String {
    format!("cluster//Pod/shop/{name}")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn parse_seed(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.expect("a number, decimal or 0x…")
}

fn add(sum: &mut FaultsMet, met: &FaultsMet) {
    sum.short_reads += met.short_reads;
    sum.short_writes += met.short_writes;
    sum.resets += met.resets;
    sum.refused += met.refused;
    sum.blackholed += met.blackholed;
    sum.lost += met.lost;
    sum.redirected_outbound += met.redirected_outbound;
    sum.redirected_inbound += met.redirected_inbound;
    sum.foreign_sources += met.foreign_sources;
}

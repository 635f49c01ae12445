//! What the control plane tells only when it is asked: a waypoint asks whose it is, and a client's host who stands between
//! two networks. Without an answer the connection is refused.

use std::{cell::RefCell, io::ErrorKind, time::Duration};

use ringway_engine::{
    EngineConfig,
    close::CloseReason,
    runtime::{
        ConnectOptions, ListenOptions, NetNamespace, TcpListener, TcpStream, World, WorldOptions,
        sleep, spawn,
    },
    sim::{SimHost, alive},
    snapshot::{
        AnsweredNames, GatewayAddress, GatewayDestination, Interner, Membership,
        NamespacedHostname, NetworkAddress, Service, ServicePort, Snapshot, SubjectAltName,
        TunnelProtocol, WorkloadDescription,
    },
    telemetry::AccessRecord,
};

use crate::{
    applications::{read_to_end, write_all},
    authority::Authority,
    mesh::{at, identity, ip, uid},
};

const CLIENT: &str = "10.1.0.1";
const WAYPOINT: &str = "10.2.0.1";
const GATEWAY: &str = "10.8.0.1";
const VIP: &str = "10.96.0.1";

/// A host that has one pod, and what it was told.
struct Host {
    running: SimHost,
    pod: NetNamespace,
    told: RefCell<(Snapshot, AnsweredNames)>,
}

impl Host {
    async fn new(
        world: &World,
        authority: &Authority,
        (pod, address): (&str, &str),
        mut told: Snapshot,
        on_demand: bool,
    ) -> Host {
        let namespace = world.namespace(pod, &[ip(address)]);
        told.set_credentials(authority.issue(&identity(pod)));
        let config = EngineConfig { on_demand, ..EngineConfig::default() };
        let running = SimHost::start_with(config, told.clone(), 1);
        running.enroll(&uid(pod), &namespace).await.expect("free ports");
        world.redirect(&namespace, true);
        Host { running, pod: namespace, told: RefCell::new((told, AnsweredNames::default())) }
    }

    /// What a control plane does a second later: answers what was asked, with what `tell` adds.
    async fn answer(&self, tell: impl FnOnce(&mut Snapshot)) -> Vec<String> {
        sleep(Duration::from_secs(1)).await;
        let asked: Vec<_> = std::iter::from_fn(|| self.running.next_wanted_name()).collect();
        let mut told = self.told.borrow_mut();
        let (snapshot, answered) = &mut *told;
        tell(snapshot);
        asked.iter().for_each(|name| answered.insert(name));
        snapshot.set_answered(answered.clone());
        self.running.publish(snapshot.clone());
        asked.into_iter().map(String::from).collect()
    }

    /// A connection to the service that has said all it has to say.
    async fn call(&self) -> TcpStream {
        let options = ConnectOptions::default();
        let stream = TcpStream::connect(&self.pod, &options, at(VIP, 80)).await.expect("captured");
        write_all(&stream, b"hello").await.expect("room");
        let _ = stream.shutdown_write();
        stream
    }

    fn record(&self) -> AccessRecord {
        let record = self.running.telemetry().next_record().expect("a record");
        assert!(self.running.telemetry().next_record().is_none(), "one record");
        record
    }

    async fn end(self) {
        self.running.drain(Duration::from_secs(30)).await;
        self.running.stop().await;
    }
}

fn play(story: impl AsyncFnOnce(&World, &Authority)) {
    let authority = Authority::new();
    let world = World::with_options(17, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(story(&world, &authority));
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
    assert_eq!(alive(), Vec::new());
}

fn name(service: &str) -> NamespacedHostname {
    NamespacedHostname::new("shop", format!("{service}.example"))
}

fn workload(
    snapshot: &mut Snapshot,
    pod: &str,
    address: &str,
    change: impl FnOnce(&mut WorkloadDescription),
) {
    let mut description = WorkloadDescription {
        uid: uid(pod),
        name: pod.to_owned(),
        namespace: "shop".to_owned(),
        service_account: pod.to_owned(),
        network: snapshot.settings().network.to_string(),
        addresses: vec![ip(address)],
        protocol: TunnelProtocol::Hbone,
        ..WorkloadDescription::default()
    };
    change(&mut description);
    snapshot.upsert_workload(Interner::new().workload(description).expect("a good description"));
}

/// The service that the client calls: its endpoints are behind a waypoint.
fn behind_waypoint(snapshot: &mut Snapshot) {
    let mut service = Service::new(name("web"));
    service.vips = [NetworkAddress::new(&*snapshot.settings().network, ip(VIP))].into();
    service.ports = [port(80, 8080)].into();
    let destination = GatewayDestination::Hostname(name("waypoint"));
    service.waypoint = Some(GatewayAddress { destination, hbone_mtls_port: 15008 });
    snapshot.upsert_service(service);
}

fn port(service_port: u16, target_port: u16) -> ServicePort {
    ServicePort { service_port, target_port, app_protocol: Default::default() }
}

fn waypoint(snapshot: &mut Snapshot) {
    let mut service = Service::new(name("waypoint"));
    service.ports = [port(15008, 15008)].into();
    service.subject_alt_names = [SubjectAltName::from(&*identity("waypoint").to_string())].into();
    snapshot.upsert_service(service);
}

fn serves_waypoint(pod: &mut WorkloadDescription) {
    pod.services = vec![Membership { service: name("waypoint"), ports: Box::default() }];
}

/// Gives back what it gets.
async fn echo(namespace: NetNamespace) {
    let any = TcpListener::wildcard(false, 80);
    let listener = TcpListener::bind(&namespace, any, &ListenOptions::default()).expect("a port");
    while let Ok((stream, _)) = listener.accept().await {
        spawn(async move {
            let (bytes, _) = read_to_end(&stream).await;
            let _ = write_all(&stream, &bytes).await;
            let _ = stream.shutdown_write();
        });
    }
}

/// The client's host knows everything, the waypoint's only its own pod.
async fn before_a_waypoint(world: &World, authority: &Authority) -> (Host, Host) {
    let mut all = Snapshot::new("");
    workload(&mut all, "client", CLIENT, |_| ());
    workload(&mut all, "waypoint", WAYPOINT, serves_waypoint);
    behind_waypoint(&mut all);
    waypoint(&mut all);
    let mut own = Snapshot::new("");
    workload(&mut own, "waypoint", WAYPOINT, serves_waypoint);
    let near = Host::new(world, authority, ("client", CLIENT), all, false).await;
    let far = Host::new(world, authority, ("waypoint", WAYPOINT), own, true).await;
    spawn(echo(far.pod.clone()));
    (near, far)
}

#[test]
fn a_waypoint_asks_whose_it_is() {
    play(async |world, authority| {
        let (near, far) = before_a_waypoint(world, authority).await;
        let call = near.call().await;
        assert_eq!(far.answer(behind_waypoint).await, ["/10.96.0.1"]);
        assert_eq!(far.answer(waypoint).await, ["shop/waypoint.example"]);
        assert_eq!(read_to_end(&call).await, (b"hello".to_vec(), Ok(())));
        assert!(matches!(far.record().reason, CloseReason::Finished));
        let again = near.call().await;
        assert_eq!(read_to_end(&again).await, (b"hello".to_vec(), Ok(())));
        assert!(far.answer(|_| ()).await.is_empty(), "asked once");
        near.end().await;
        far.end().await;
    });
}

#[test]
fn without_an_answer_nothing_ends_at_a_waypoint() {
    play(async |world, authority| {
        let (near, far) = before_a_waypoint(world, authority).await;
        let refused = (Vec::new(), Err(ErrorKind::ConnectionReset));
        let call = near.call().await;
        assert_eq!(read_to_end(&call).await, refused, "nobody says anything");
        let record = far.record();
        assert!(matches!(&record.reason, CloseReason::NotTold(name) if name == "/10.96.0.1"));
        assert!(record.duration >= Duration::from_secs(5), "{:?}", record.duration);
        assert!(matches!(near.record().reason, CloseReason::ConnectRefused(503)));

        let call = near.call().await;
        // Both have asked.
        assert_eq!(far.answer(|_| ()).await, ["/10.96.0.1"; 2], "there is no such thing");
        assert_eq!(read_to_end(&call).await, refused);
        assert_eq!(far.record().reason.to_string(), "ip mismatch: 10.2.0.1 != 10.96.0.1");
        assert!(matches!(near.record().reason, CloseReason::ConnectRefused(400)));
        near.end().await;
        far.end().await;
    });
}

#[test]
fn the_gateway_to_a_waypoint_on_another_network_is_asked_for() {
    play(async |world, authority| {
        // Nobody listens there: that it is dialled is what is wanted.
        world.namespace("gateway", &[ip(GATEWAY)]);
        let mut own = Snapshot::new("n1");
        workload(&mut own, "client", CLIENT, |_| ());
        let near = Host::new(world, authority, ("client", CLIENT), own, true).await;
        let call = near.call().await;
        assert_eq!(near.answer(behind_waypoint).await, ["n1/10.96.0.1"]);
        let far = |snapshot: &mut Snapshot| {
            waypoint(snapshot);
            workload(snapshot, "waypoint", WAYPOINT, |pod| {
                serves_waypoint(pod);
                pod.network = "n2".to_owned();
                let gateway = NetworkAddress::new("n2", ip(GATEWAY));
                let destination = GatewayDestination::Address(gateway);
                pod.network_gateway = Some(GatewayAddress { destination, hbone_mtls_port: 15008 });
            });
        };
        assert_eq!(near.answer(far).await, ["shop/waypoint.example"]);
        let gateway = |snapshot: &mut Snapshot| {
            workload(snapshot, "gateway", GATEWAY, |pod| pod.network = "n2".to_owned());
        };
        assert_eq!(near.answer(gateway).await, ["n2/10.8.0.1"]);
        assert_eq!(read_to_end(&call).await, (Vec::new(), Err(ErrorKind::ConnectionReset)));
        let record = near.record();
        assert!(matches!(record.reason, CloseReason::DialFailed(_)), "{}", record.reason);
        assert_eq!(record.destination.address, at(GATEWAY, 15008));
        near.end().await;
    });
}

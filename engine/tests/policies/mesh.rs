//! Two simulated hosts: clients on the near one and one without a mesh, an application that echoes on
//! the far one. Nothing goes wrong in this network.

#[path = "../support/authority.rs"]
mod authority;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use rcgen::CertificateParams;
use ringway_engine::{
    EngineConfig,
    limits::Limits,
    runtime::{
        ConnectOptions, ListenOptions, NetNamespace, TcpListener, TcpStream, World, WorldOptions,
        counters, sleep, spawn, timeout,
    },
    sim::SimHost,
    snapshot::{
        AuthorizationPolicy, Interner, PolicyAction, PolicyClause, PolicyMatch, PolicyRule,
        PolicyScope, Snapshot, TunnelProtocol, WorkloadDescription,
    },
    telemetry::AccessRecord,
};
use ringway_protocols::tls::Options;

use authority::Authority;

pub(crate) const PORT: u16 = 8080;
/// Of the far host's workload.
pub(crate) const HANDSHAKES_MAX: u64 = 8;
const WEB: &str = "10.2.0.1";
const OUTSIDE: &str = "192.0.2.1";
/// Name and address of each.
pub(crate) const CLIENTS: [(&str, &str); 2] = [("alice", "10.1.0.1"), ("bob", "10.1.0.2")];

pub(crate) struct Mesh {
    pub(crate) near: SimHost,
    pub(crate) far: SimHost,
    /// What the far host knows, to be changed and published.
    pub(crate) snapshot: RefCell<Snapshot>,
    namespaces: Vec<(&'static str, NetNamespace)>,
    application: Rc<Application>,
    world: World,
}

/// What has reached the application.
#[derive(Default)]
struct Application {
    connections: Cell<usize>,
    bytes: Cell<usize>,
    /// How connections have ended: in order, and by an abort.
    ends: [Cell<usize>; 2],
}

/// Plays a story in a world of its own, on both ends of which nothing may be left.
pub(crate) fn play(story: impl AsyncFnOnce(&Mesh)) {
    let world = World::with_options(7, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(async {
        let mesh = Mesh::new(&world).await;
        story(&mesh).await;
        mesh.end().await;
        assert_eq!(counters().panics, 0, "a task panicked");
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new(), "sockets are left");
}

impl Mesh {
    async fn new(world: &World) -> Mesh {
        let authority = Authority::new(CertificateParams::default());
        let (near, far) = (known_to(&CLIENTS, &authority), known_to(&[("web", WEB)], &authority));
        let limits = Limits { handshakes_per_workload: HANDSHAKES_MAX, ..Limits::default() };
        let config = EngineConfig { limits, ..EngineConfig::default() };
        let namespace = |(name, ip): &(&'static str, &str)| {
            (*name, world.namespace(name, &[ip.parse().unwrap()]))
        };
        let pods = CLIENTS.iter().chain(&[("web", WEB)]);
        let mut namespaces: Vec<_> = pods.map(namespace).collect();
        let mesh = Mesh {
            near: SimHost::start(near, 1),
            far: SimHost::start_with(config, far.clone(), 2),
            snapshot: RefCell::new(far),
            namespaces: namespaces.clone(),
            application: Rc::default(),
            world: world.clone(),
        };
        for (name, namespace) in &namespaces {
            let host = if *name == "web" { &mesh.far } else { &mesh.near };
            host.enroll(&uid(name), namespace).await.expect("free ports");
            world.redirect(namespace, true);
        }
        namespaces.push(namespace(&("outside", OUTSIDE)));
        for (_, namespace) in &namespaces[CLIENTS.len()..] {
            spawn(serve(namespace.clone(), mesh.application.clone()));
        }
        Mesh { namespaces, ..mesh }
    }

    /// Changes what the far host knows, and publishes it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot.borrow_mut());
        self.far.publish(self.snapshot.borrow().clone());
    }

    /// Changes what the far host knows of `web`, and publishes it.
    pub(crate) fn change_web(&self, change: impl FnOnce(&mut WorkloadDescription)) {
        let mut web = description("web", WEB);
        change(&mut web);
        self.change(|snapshot| {
            snapshot.upsert_workload(Interner::new().workload(web).unwrap());
        });
    }

    /// A connection from `alice`, `bob` or `outside` to the application.
    pub(crate) async fn connect(&self, from: &str) -> Call {
        self.dial(from, WEB).await
    }

    /// A connection from there to another port of `web`.
    pub(crate) async fn connect_at(&self, from: &str, port: u16) -> Call {
        self.dial_at(from, SocketAddr::new(WEB.parse().unwrap(), port)).await
    }

    /// A connection from `web` to an application outside the mesh.
    pub(crate) async fn connect_out(&self) -> Call {
        self.dial("web", OUTSIDE).await
    }

    /// A connection from there to a port on which nobody listens, until it has ended.
    pub(crate) async fn knock(&self, from: &str) {
        let nobody = SocketAddr::new(OUTSIDE.parse().unwrap(), PORT + 1);
        let call = self.dial_at(from, nobody).await;
        call.end_within(Duration::from_secs(20)).await.expect("it is reset");
    }

    /// Whether dials are answered from now on.
    pub(crate) fn answer_dials(&self, answered: bool) {
        let blackhole = if answered { 0 } else { 1_000_000 };
        self.world.set_options(WorldOptions { blackhole, ..WorldOptions::calm() });
    }

    /// So many connections at once of somebody outside to the port of tunnels of `web`.
    pub(crate) async fn connect_to_tunnels(&self, count: u64) -> Vec<Call> {
        let dial = |_| Box::pin(self.connect_at("outside", 15008));
        let (mut dials, mut calls): (Vec<_>, _) = ((0..count).map(dial).collect(), Vec::new());
        poll_fn(|cx| {
            dials.retain_mut(|dial| match dial.as_mut().poll(cx) {
                Poll::Ready(call) => {
                    calls.push(call);
                    false
                }
                Poll::Pending => true,
            });
            if dials.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        calls
    }

    /// Tasks of one turn run in any order from now on.
    pub(crate) fn shuffle_tasks(&self) {
        self.world.set_options(WorldOptions { shuffle_tasks: true, ..WorldOptions::calm() });
    }

    async fn dial(&self, from: &str, to: &str) -> Call {
        self.dial_at(from, SocketAddr::new(to.parse().unwrap(), PORT)).await
    }

    async fn dial_at(&self, from: &str, to: SocketAddr) -> Call {
        let (namespace, options) = (self.namespace(from), ConnectOptions::default());
        let dialled = TcpStream::connect(&namespace, &options, to).await;
        Call(dialled.expect("captured, so accepted"))
    }

    /// What a new connection from there gets: `Ok` when the application answered.
    pub(crate) async fn call(&self, from: &str) -> Result<(), ErrorKind> {
        self.connect(from).await.echo().await
    }

    /// How many connections the application has accepted, and bytes it has got.
    pub(crate) fn application_saw(&self) -> (usize, usize) {
        (self.application.connections.get(), self.application.bytes.get())
    }

    /// How many of the application's connections have ended in order, and how many by an abort.
    pub(crate) fn application_ends(&self) -> [usize; 2] {
        self.application.ends.each_ref().map(Cell::get)
    }

    /// How many connections somebody in this namespace holds an end of.
    pub(crate) fn ends_in(&self, namespace: &str) -> usize {
        let of_it = format!("{namespace}: connection ");
        self.world.open_sockets().iter().filter(|socket| socket.starts_with(&of_it)).count()
    }

    /// The far host's next records, once there are as many.
    pub(crate) async fn records(&self, count: usize) -> Vec<AccessRecord> {
        let mut records = Vec::new();
        let all = async {
            while records.len() < count {
                match self.far.telemetry().next_record() {
                    Some(record) => records.push(record),
                    None => sleep(Duration::from_millis(1)).await,
                }
            }
        };
        timeout(Duration::from_secs(20), all).await.expect("so many records");
        records
    }

    fn namespace(&self, name: &str) -> NetNamespace {
        let (_, namespace) = self.namespaces.iter().find(|(known, _)| *known == name).unwrap();
        namespace.clone()
    }

    async fn end(self) {
        for host in [self.near, self.far] {
            host.drain(Duration::from_secs(5)).await;
            host.stop().await;
        }
    }
}

/// An open connection to the application.
pub(crate) struct Call(TcpStream);

impl Call {
    /// Says something and waits for it to come back.
    pub(crate) async fn echo(&self) -> Result<(), ErrorKind> {
        let said = b"ping";
        match self.0.try_write(said) {
            Ok(written) => assert_eq!(written, said.len()),
            Err(error) => return Err(error.kind()),
        }
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            let mut buffer = [0; 16];
            match self.0.try_read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof),
                Ok(got) => heard.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.0.readable().await,
                Err(error) => return Err(error.kind()),
            }
        }
        assert_eq!(heard, said);
        Ok(())
    }

    /// How the connection ends, waiting for it at most so long; nothing if it does not.
    pub(crate) async fn end_within(&self, patience: Duration) -> Option<ErrorKind> {
        let end = async {
            loop {
                match self.0.try_read(&mut [0; 16]) {
                    Ok(0) => return ErrorKind::UnexpectedEof,
                    Ok(_) => panic!("nothing was asked"),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.0.readable().await,
                    Err(error) => return error.kind(),
                }
            }
        };
        timeout(patience, end).await.ok()
    }
}

async fn serve(namespace: NetNamespace, application: Rc<Application>) {
    let any = TcpListener::wildcard(false, PORT);
    let listener = TcpListener::bind(&namespace, any, &ListenOptions::default()).expect("a port");
    while let Ok((stream, _)) = listener.accept().await {
        application.connections.set(application.connections.get() + 1);
        let application = application.clone();
        spawn(async move {
            let mut buffer = [0; 64];
            loop {
                match stream.try_read(&mut buffer) {
                    Ok(0) => break application.ends[0].update(|ended| ended + 1),
                    Ok(got) => {
                        application.bytes.set(application.bytes.get() + got);
                        let _ = stream.try_write(&buffer[..got]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        stream.readable().await;
                    }
                    Err(_) => break application.ends[1].update(|ended| ended + 1),
                }
            }
        });
    }
}

/// A policy for `web` alone, which has to name it.
pub(crate) fn policy(
    name: &str,
    action: PolicyAction,
    rules: Vec<PolicyRule>,
) -> AuthorizationPolicy {
    AuthorizationPolicy {
        name: name.into(),
        namespace: "shop".into(),
        scope: PolicyScope::WorkloadSelector,
        action,
        rules,
        dry_run: false,
    }
}

/// A policy for the whole namespace.
pub(crate) fn namespace_policy(
    name: &str,
    action: PolicyAction,
    rules: Vec<PolicyRule>,
) -> AuthorizationPolicy {
    AuthorizationPolicy { scope: PolicyScope::Namespace, ..policy(name, action, rules) }
}

/// Whatever matches `one`.
pub(crate) fn when(one: PolicyMatch) -> PolicyRule {
    PolicyRule { clauses: vec![PolicyClause { matches: vec![one] }] }
}

/// Everything.
pub(crate) fn everything() -> PolicyRule {
    PolicyRule::default()
}

fn known_to(own: &[(&str, &str)], authority: &Authority) -> Snapshot {
    let mut snapshot = Snapshot::new("");
    for (name, address) in CLIENTS.iter().chain(&[("web", WEB)]) {
        let workload = Interner::new().workload(description(name, address)).unwrap();
        if own.iter().any(|(own, _)| own == name) {
            snapshot.set_credentials(authority.issue(
                workload.identity(),
                CertificateParams::default(),
                &Options::default(),
            ));
        }
        snapshot.upsert_workload(workload);
    }
    snapshot
}

fn description(name: &str, address: &str) -> WorkloadDescription {
    let address: IpAddr = address.parse().unwrap();
    WorkloadDescription {
        uid: uid(name),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: name.to_owned(),
        addresses: vec![address],
        protocol: TunnelProtocol::Hbone,
        ..WorkloadDescription::default()
    }
}

pub(crate) fn uid(name: &str) -> String {
    format!("cluster//Pod/shop/{name}")
}

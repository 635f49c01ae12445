//! Three engines: a client's, the waypoint's, a server's.

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/ports.rs"]
mod ports;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rcgen::CertificateParams;
use ringway_engine::{
    Engine, EngineConfig, OriginalSource, Ports, Role,
    runtime::{NetNamespace, ReactorChoice},
    snapshot::{
        AppProtocol, GatewayAddress, GatewayDestination, Interner, Locality, Membership,
        NamespacedHostname, NetworkAddress, PortMapping, Service, ServicePort, Settings, Snapshot,
        TunnelProtocol, WorkloadDescription, WorkloadKey,
    },
    telemetry::{
        AccessRecord,
        http::{MirrorRecord, RequestRecord},
    },
};
use ringway_http::{
    Tables,
    model::{
        Backend, BackendTarget, GatewayName, HttpConfig, Match, Parent, PathMatch, Retry, Route,
        RouteKind, RouteName, Rule, ServiceName, Timeouts, WeightedBackend, policy::Policies,
    },
};
use ringway_protocols::{identity::Identity, tls::Options};

pub(crate) use self::ports::free_port;
use self::{authority::Authority, ports::free_ports};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const WAYPOINT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// Of the service that the waypoint stands before.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub(crate) const WEB: &str = "web.shop.svc.cluster.local";
/// Longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a story on both reactors.
pub(crate) fn on_both(story: impl Fn(ReactorChoice)) {
    story(ReactorChoice::Auto);
    story(ReactorChoice::Epoll);
}

/// What is behind the waypoint.
pub(crate) struct Plan {
    /// The application's port, by the service's port, and what is declared to be spoken there.
    pub(crate) ports: Vec<(u16, u16, AppProtocol)>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) kind: RouteKind,
    pub(crate) policies: Policies,
    /// Further endpoints of the service, without proxies, and their regions; those of waypoint and server are `eu`.
    pub(crate) others: Vec<(IpAddr, &'static str)>,
    /// What stands between is a gateway, with this configured.
    pub(crate) gateway: Option<(Role, HttpConfig)>,
}

impl Plan {
    /// A service whose port 80 speaks this at `port`, without routes.
    pub(crate) fn of(port: u16, protocol: AppProtocol) -> Self {
        Self {
            ports: vec![(80, port, protocol)],
            rules: Vec::new(),
            kind: RouteKind::Http,
            policies: Policies::default(),
            others: Vec::new(),
            gateway: None,
        }
    }

    pub(crate) fn under(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    pub(crate) fn at_gateway(mut self, role: Role, config: HttpConfig) -> Self {
        self.gateway = Some((role, config));
        self
    }

    pub(crate) fn with(mut self, rules: Vec<Rule>) -> Self {
        self.rules = rules;
        self
    }
}

/// A rule for a path's prefix, to port 80 of the service.
pub(crate) fn rule(prefix: &str) -> Rule {
    Rule {
        matches: vec![Match { path: Some(PathMatch::Prefix(prefix.into())), ..Match::default() }],
        backends: vec![backend(80, 1)],
        ..Rule::default()
    }
}

pub(crate) fn backend(port: u16, weight: u32) -> WeightedBackend {
    let target = BackendTarget::Service { service: web(), port };
    WeightedBackend { backend: Backend { target }, weight, filters: Vec::new() }
}

pub(crate) fn within(request: Duration) -> Timeouts {
    Timeouts { request: Some(request), backend_request: None }
}

pub(crate) fn retrying(attempts: u32, codes: &[u16]) -> Option<Retry> {
    Some(Retry { attempts, backoff: Some(Duration::from_millis(1)), codes: codes.to_vec() })
}

pub(crate) fn web() -> ServiceName {
    ServiceName { namespace: "shop".into(), hostname: WEB.into() }
}

/// The three engines.
pub(crate) struct Mesh {
    _client: Engine,
    pub(crate) waypoint: Engine,
    pub(crate) server: Engine,
    socks5: SocketAddr,
}

impl Mesh {
    pub(crate) fn start(reactor: ReactorChoice, plan: &Plan) -> Self {
        let authority = Authority::new(CertificateParams::default());
        let middle = plan.gateway.as_ref().map_or(Role::Waypoint, |(role, _)| role.clone());
        let ports = [(); 3].map(|()| free_ports());
        let start = |name: &str, at: usize, role| {
            let mut snapshot = snapshot(plan, ports[1].hbone);
            let settings = Settings { hbone_port: ports[2].hbone, ..snapshot.settings().clone() };
            snapshot.set_settings(settings);
            let params = CertificateParams::default();
            snapshot.set_credentials(authority.issue(&identity(name), params, &Options::default()));
            engine(reactor, ports[at], snapshot, name, role)
        };
        Self {
            _client: start("client", 0, Role::Workload),
            waypoint: start("waypoint", 1, middle),
            server: start("server", 2, Role::Workload),
            socks5: (CLIENT, ports[0].socks5).into(),
        }
    }

    /// Has the waypoint go by the routes and policies of another plan.
    pub(crate) fn replan(&self, plan: &Plan) {
        let snapshot = Snapshot::clone(&self.waypoint.snapshot());
        self.waypoint.publish(snapshot.with_http(Some(Arc::new(tables(plan)))));
    }

    /// A connection of the client's to a port of the service.
    pub(crate) fn connect(&self, port: u16) -> TcpStream {
        let (stream, reply) = ask(self.socks5, (VIP, port).into());
        assert_eq!(reply, 0, "connected");
        stream
    }

    /// What SOCKS5 answers to a connection to another address.
    pub(crate) fn refused(&self, to: SocketAddr) -> u8 {
        ask(self.socks5, to).1
    }

    /// The next request's record.
    pub(crate) fn record(&self) -> RequestRecord {
        wait_for(|| self.waypoint.telemetry().http().next_record())
    }

    /// What became of the next copy.
    pub(crate) fn mirrored(&self) -> MirrorRecord {
        wait_for(|| self.waypoint.telemetry().http().next_mirrored())
    }

    /// There is none.
    pub(crate) fn no_record(&self) {
        assert!(self.waypoint.telemetry().http().next_record().is_none(), "one record each");
    }
}

/// The next record of a connection.
pub(crate) fn connection_record(engine: &Engine) -> AccessRecord {
    wait_for(|| engine.telemetry().next_record())
}

pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < patience, "it never comes");
        thread::sleep(Duration::from_millis(5));
    }
}

fn snapshot(plan: &Plan, waypoint: u16) -> Snapshot {
    let mut snapshot = Snapshot::new("n");
    let mut interner = Interner::new();
    let id = NamespacedHostname::new("shop", WEB);
    for (name, address) in [("client", CLIENT), ("waypoint", WAYPOINT), ("server", SERVER)] {
        let ports = plan.ports.iter();
        let ports = ports.map(|(service_port, target_port, _)| PortMapping {
            service_port: *service_port,
            target_port: *target_port,
        });
        let description = WorkloadDescription {
            uid: uid(name),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            service_account: name.to_owned(),
            network: "n".to_owned(),
            addresses: vec![address],
            protocol: TunnelProtocol::Hbone,
            locality: Locality { region: "eu".into(), ..Locality::default() },
            services: match name {
                "server" => vec![Membership { service: id.clone(), ports: ports.collect() }],
                _ => Vec::new(),
            },
            ..WorkloadDescription::default()
        };
        snapshot.upsert_workload(interner.workload(description).expect("well described"));
    }
    for (address, region) in &plan.others {
        let ports = plan.ports.iter();
        let ports = ports.map(|(service_port, target_port, _)| PortMapping {
            service_port: *service_port,
            target_port: *target_port,
        });
        let description = WorkloadDescription {
            uid: uid(&address.to_string()),
            name: "other".to_owned(),
            namespace: "shop".to_owned(),
            network: "n".to_owned(),
            addresses: vec![*address],
            locality: Locality { region: (*region).into(), ..Locality::default() },
            services: vec![Membership { service: id.clone(), ports: ports.collect() }],
            ..WorkloadDescription::default()
        };
        snapshot.upsert_workload(interner.workload(description).expect("well described"));
    }
    let mut service = Service::new(id);
    service.vips = [NetworkAddress::new("n", VIP.into())].into();
    let ports = plan.ports.iter().map(|(service_port, target_port, app_protocol)| ServicePort {
        service_port: *service_port,
        target_port: *target_port,
        app_protocol: *app_protocol,
    });
    service.ports = ports.collect();
    service.waypoint = Some(GatewayAddress {
        destination: GatewayDestination::Address(NetworkAddress::new("n", WAYPOINT)),
        hbone_mtls_port: waypoint,
    });
    snapshot.upsert_service(service);
    snapshot.with_http(Some(Arc::new(tables(plan))))
}

fn tables(plan: &Plan) -> Tables {
    if let Some((_, config)) = &plan.gateway {
        return Tables::compile(config.clone()).expect("good rules");
    }
    let route = Route {
        name: RouteName { kind: plan.kind, namespace: "shop".into(), name: "web".into() },
        parents: vec![Parent::Service { service: web(), port: Some(80), clients_of: None }],
        hostnames: Vec::new(),
        rules: plan.rules.clone(),
    };
    let routes = if plan.rules.is_empty() { Vec::new() } else { vec![route] };
    let gateway = GatewayName { namespace: "shop".into(), name: "waypoint".into() };
    let waypoints = vec![(uid("waypoint").into(), gateway)];
    let policies = plan.policies.clone();
    let config = HttpConfig { routes, waypoints, policies, ..HttpConfig::default() };
    Tables::compile(config).expect("good rules")
}

fn engine(
    reactor: ReactorChoice,
    ports: Ports,
    snapshot: Snapshot,
    name: &str,
    role: Role,
) -> Engine {
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
    let uid: Arc<str> = uid(name).into();
    engine.enroll_as(uid.clone(), WorkloadKey::Uid(uid), here, role).expect("free ports");
    engine
}

/// Asks for a connection by SOCKS5.
fn ask(socks5: SocketAddr, to: SocketAddr) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(socks5).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(&[5, 1, 0]).expect("room");
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).expect("an answer");
    assert_eq!(greeting, [5, 0]);
    let IpAddr::V4(ip) = to.ip() else { unreachable!("no IPv6 here") };
    let request = [&[5, 1, 0, 1], &ip.octets()[..], &to.port().to_be_bytes()].concat();
    stream.write_all(&request).expect("room");
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).expect("a reply");
    (stream, reply[1])
}

pub(crate) fn uid(name: &str) -> String {
    format!("cluster//Pod/shop/{name}")
}

pub(crate) fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).expect("a good name")
}

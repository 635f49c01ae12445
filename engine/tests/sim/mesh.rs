//! The mesh of a run: two hosts, four pods, a service, and what changes about them.
//!
//! Whatever is published is remembered with its time, so that it can be said afterwards on what a
//! connection may have been decided.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ringway_engine::{
    EngineConfig,
    limits::Limits,
    runtime::{NetNamespace, World},
    sim::SimHost,
    snapshot::{
        AuthorizationPolicy, Interner, LocalName, Locals, Membership, NamespacedHostname,
        NetworkAddress, PortMapping, Service, ServicePort, Settings, Snapshot, TunnelProtocol,
        Workload, WorkloadDescription, WorkloadKey,
    },
};
use ringway_protocols::{identity::Identity, tls::Credentials};

use crate::authority::Authority;

pub(crate) const PORT: u16 = 8080;
/// Nobody listens here.
pub(crate) const CLOSED_PORT: u16 = 9;
pub(crate) const VIP: &str = "10.96.0.1";
pub(crate) const OUTSIDE: &str = "192.0.2.1";
pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const TRUST_DOMAIN: &str = "cluster.local";

/// The pods: name, address, host. Those whose names begin with `b` serve.
pub(crate) const PODS: [(&str, &str, usize); 4] =
    [("a1", "10.1.0.1", 0), ("a2", "10.1.0.2", 0), ("b1", "10.2.0.1", 1), ("b2", "10.2.0.2", 1)];

/// A policy, and the pods that name it when only those are meant.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) policy: AuthorizationPolicy,
    pub(crate) selects: Vec<&'static str>,
}

/// What was in force from a moment on.
#[derive(Clone)]
pub(crate) struct InForce {
    pub(crate) since: Duration,
    pub(crate) policies: Rc<Vec<Planned>>,
    /// The pods that are captured, as far as somebody outside of them can tell.
    pub(crate) captured: BTreeSet<&'static str>,
}

/// See the module's text.
pub(crate) struct Mesh {
    pub(crate) world: World,
    pub(crate) hosts: Vec<SimHost>,
    pub(crate) namespaces: Vec<NetNamespace>,
    pub(crate) outside: NetNamespace,
    /// By pod: a host has only those of its own pods.
    pub(crate) credentials: RefCell<BTreeMap<&'static str, Arc<Credentials>>>,
    policies: RefCell<Rc<Vec<Planned>>>,
    captured: RefCell<BTreeSet<&'static str>>,
    history: RefCell<Vec<InForce>>,
    generation: Cell<u64>,
}

impl Mesh {
    pub(crate) fn new(world: &World, seed: u64, authority: &Authority) -> Rc<Self> {
        Self::with_limits(world, seed, authority, Limits::default())
    }

    pub(crate) fn with_limits(
        world: &World,
        seed: u64,
        authority: &Authority,
        limits: Limits,
    ) -> Rc<Self> {
        let namespaces =
            PODS.iter().map(|(name, address, _)| world.namespace(name, &[ip(address)])).collect();
        let outside = world.namespace("outside", &[ip(OUTSIDE)]);
        let credentials = PODS.iter().map(|(name, ..)| (*name, authority.issue(&identity(name))));
        let credentials: BTreeMap<_, _> = credentials.collect();
        let hosts = (0..2)
            .map(|host| {
                let config = EngineConfig { limits: limits.clone(), ..EngineConfig::default() };
                let snapshot = snapshot(host, &credentials, &[], 0);
                SimHost::start_with(config, snapshot, seed ^ host as u64)
            })
            .collect();
        let mesh = Self {
            world: world.clone(),
            hosts,
            namespaces,
            outside,
            credentials: RefCell::new(credentials),
            policies: RefCell::default(),
            captured: RefCell::default(),
            history: RefCell::default(),
            generation: Cell::new(0),
        };
        mesh.remember();
        Rc::new(mesh)
    }

    /// Captures every pod.
    pub(crate) async fn enroll(&self) {
        for (name, ..) in PODS {
            self.enroll_one(name).await;
        }
    }

    pub(crate) async fn enroll_one(&self, name: &'static str) {
        let (host, namespace) = (host_of(name), self.namespace(name));
        // Half of the pods are known by uid, half by what a node agent calls them.
        let key = match name.ends_with('1') {
            true => WorkloadKey::Uid(uid(name).into()),
            false => WorkloadKey::Local(LocalName::new(NAMESPACE, name, name).into()),
        };
        self.hosts[host].enroll_pod(&uid(name), key, namespace).await.expect("free ports");
        self.world.redirect(namespace, true);
        self.captured.borrow_mut().insert(name);
        self.remember();
    }

    pub(crate) async fn withdraw_one(&self, name: &'static str) {
        self.world.redirect(self.namespace(name), false);
        self.captured.borrow_mut().remove(name);
        self.remember();
        self.hosts[host_of(name)].withdraw(&uid(name)).await;
    }

    pub(crate) fn is_captured(&self, name: &str) -> bool {
        self.captured.borrow().contains(name)
    }

    pub(crate) fn namespace(&self, name: &str) -> &NetNamespace {
        let at = PODS.iter().position(|(pod, ..)| *pod == name).expect("a pod");
        &self.namespaces[at]
    }

    /// Makes these the policies, everywhere.
    pub(crate) fn set_policies(&self, policies: Vec<Planned>) {
        *self.policies.borrow_mut() = Rc::new(policies);
        self.publish();
    }

    /// Publishes what is known now to both hosts.
    pub(crate) fn publish(&self) {
        self.generation.set(self.generation.get() + 1);
        for (host, running) in self.hosts.iter().enumerate() {
            let (credentials, policies) = (self.credentials.borrow(), self.policies.borrow());
            running.publish(snapshot(host, &credentials, &policies, self.generation.get()));
        }
        self.remember();
    }

    fn remember(&self) {
        let since = self.world.elapsed();
        let (policies, captured) = (self.policies.borrow().clone(), self.captured.borrow().clone());
        self.history.borrow_mut().push(InForce { since, policies, captured });
    }

    /// Everything that was in force at some moment between the two.
    pub(crate) fn in_force(&self, from: Duration, to: Duration) -> Vec<InForce> {
        let history = self.history.borrow();
        let ends = history.iter().skip(1).map(|next| next.since).chain([Duration::MAX]);
        let overlaps = |(one, end): &(&InForce, Duration)| one.since <= to && *end >= from;
        history.iter().zip(ends).filter(overlaps).map(|(one, _)| one.clone()).collect()
    }
}

/// What a host knows: everything, but for other hosts' keys. `generation` makes each a little different.
fn snapshot(
    host: usize,
    credentials: &BTreeMap<&'static str, Arc<Credentials>>,
    policies: &[Planned],
    generation: u64,
) -> Snapshot {
    let mut snapshot = Snapshot::new("");
    snapshot.set_settings(Settings { locals: Locals::Everybody, ..Settings::new("") });
    let mut interner = Interner::new();
    let web = NamespacedHostname::new(NAMESPACE, "web.shop.svc.cluster.local");
    for (name, address, on) in PODS {
        snapshot.upsert_workload(workload(&mut interner, name, address, &web, policies));
        if let Some(credentials) = credentials.get(name).filter(|_| on == host) {
            snapshot.set_credentials(credentials.clone());
        }
    }
    let unrelated = format!("unrelated-{generation}");
    snapshot.upsert_workload(workload(&mut interner, &unrelated, "10.3.0.1", &web, &[]));
    let mut service = Service::new(web);
    service.vips = [NetworkAddress::new("", ip(VIP))].into();
    let port =
        ServicePort { service_port: 80, target_port: PORT, app_protocol: Default::default() };
    service.ports = [port].into();
    snapshot.upsert_service(service);
    for planned in policies {
        snapshot.upsert_policy(planned.policy.clone());
    }
    snapshot
}

fn workload(
    interner: &mut Interner,
    name: &str,
    address: &str,
    web: &NamespacedHostname,
    policies: &[Planned],
) -> Workload {
    let ports = [PortMapping { service_port: 80, target_port: PORT }].into();
    let services = if name.starts_with('b') {
        vec![Membership { service: web.clone(), ports }]
    } else {
        Vec::new()
    };
    let named = policies.iter().filter(|planned| planned.selects.contains(&name));
    let named = named.map(|planned| format!("{NAMESPACE}/{}", planned.policy.name));
    let description = WorkloadDescription {
        uid: uid(name),
        name: name.to_owned(),
        namespace: NAMESPACE.to_owned(),
        service_account: name.to_owned(),
        addresses: vec![ip(address)],
        protocol: TunnelProtocol::Hbone,
        services,
        authorization_policies: named.collect(),
        ..WorkloadDescription::default()
    };
    interner.workload(description).expect("a good description")
}

pub(crate) fn identity(name: &str) -> Identity {
    let text = format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{name}");
    Identity::parse(&text).expect("an identity")
}

pub(crate) fn host_of(name: &str) -> usize {
    PODS.iter().find(|(pod, ..)| *pod == name).expect("a pod").2
}

pub(crate) fn pod_at(address: IpAddr) -> Option<&'static str> {
    PODS.iter().find(|(_, own, _)| ip(own) == address).map(|(name, ..)| *name)
}

pub(crate) fn uid(name: &str) -> String {
    format!("cluster//Pod/{NAMESPACE}/{name}")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

//! What is done for every connection and for every change of the mesh: decide, authorize, apply.
//!
//! `cargo bench -p ringway-engine --bench micro`: wall time. `micro count NAME` does one thing
//! [`TIMES`] times inside a function called `counted_NAME`, for scripts/micro to count instructions.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use divan::Bencher;
use ringway_engine::decide::{self, Facts};
use ringway_engine::snapshot::{
    AppProtocol, AuthorizationPolicy, Cidr, Interner, Membership, NamespacedHostname,
    NetworkAddress, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope, PortMapping,
    Service, ServicePort, Snapshot, TextMatch, TunnelProtocol, Workload, WorkloadDescription,
};
use ringway_protocols::identity::Identity;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often a counted thing is done.
const TIMES: usize = 100;
const WORKLOADS: usize = 10_000;
const SERVICES: usize = 400;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [verb, name] if verb == "count" => count(name),
        _ => divan::main(),
    }
}

fn count(name: &str) {
    match name {
        "decide_service" => counted_decide_service(&Mesh::new()),
        "decide_workload" => counted_decide_workload(&Mesh::new()),
        "snapshot_apply" => {
            let mut mesh = Mesh::new();
            let changes = mesh.changes(TIMES);
            counted_snapshot_apply(&mesh, changes);
        }
        "authorize" => counted_authorize(&Policed::by(of_many(10_000))),
        "list" => println!("decide_service decide_workload snapshot_apply authorize"),
        other => panic!("nothing is called {other:?}; `count list` lists what is"),
    }
}

#[inline(never)]
fn counted_decide_service(mesh: &Mesh) {
    (0..TIMES).for_each(|n| mesh.decide((vip(n % SERVICES), 80).into(), n as u64));
}

#[inline(never)]
fn counted_decide_workload(mesh: &Mesh) {
    (0..TIMES).for_each(|n| mesh.decide((pod(n), 8080).into(), n as u64));
}

/// Each change becomes a generation of its own beside the published one.
#[inline(never)]
fn counted_snapshot_apply(mesh: &Mesh, changes: Vec<Workload>) {
    for change in changes {
        let mut next = mesh.snapshot.clone();
        next.upsert_workload(change);
        black_box(next);
    }
}

#[inline(never)]
fn counted_authorize(policed: &Policed) {
    (0..TIMES).for_each(|_| policed.authorize());
}

#[divan::bench]
fn decide_service(bencher: Bencher<'_, '_>) {
    let mesh = Mesh::new();
    bencher.bench(|| mesh.decide((vip(7), 80).into(), 3));
}

#[divan::bench]
fn decide_workload(bencher: Bencher<'_, '_>) {
    let mesh = Mesh::new();
    bencher.bench(|| mesh.decide((pod(7), 8080).into(), 3));
}

#[divan::bench]
fn snapshot_apply(bencher: Bencher<'_, '_>) {
    let mesh = Mutex::new(Mesh::new());
    let mesh = || mesh.lock().expect("one thread");
    bencher
        .with_inputs(|| mesh().changes(1))
        .bench_values(|changes| counted_snapshot_apply(&mesh(), changes));
}

/// A policy that lists so many ranges, none of them the client's.
#[divan::bench(args = [10, 1_000, 10_000])]
fn authorize_by_ranges(bencher: Bencher<'_, '_>, ranges: usize) {
    let ranges = (0..ranges).map(|n| Cidr::new(vip(n * 4), 30).expect("short enough"));
    let listed = PolicyMatch { source_ips: ranges.collect(), ..PolicyMatch::default() };
    let policed = Policed::by([policy(0, "shop", listed)]);
    bencher.bench(|| policed.authorize());
}

/// A policy that lists so many principals, and beginnings of some, none of them the client's.
#[divan::bench(args = [10, 1_000, 10_000])]
fn authorize_by_principals(bencher: Bencher<'_, '_>, principals: usize) {
    let principal = |n: usize| match n % 2 {
        0 => TextMatch::Exact(format!("cluster.local/ns/shop/sa/other-{n}").into()),
        _ => TextMatch::Prefix(format!("cluster.local/ns/other-{n}/").into()),
    };
    let principals = (0..principals).map(principal).collect();
    let policed =
        Policed::by([policy(0, "shop", PolicyMatch { principals, ..PolicyMatch::default() })]);
    bencher.bench(|| policed.authorize());
}

/// One policy for the workload, and so many for others.
#[divan::bench(args = [10, 1_000, 10_000])]
fn authorize_among_policies(bencher: Bencher<'_, '_>, others: usize) {
    let policed = Policed::by(of_many(others));
    bencher.bench(|| policed.authorize());
}

/// A new generation in which one of so many policies has changed.
#[divan::bench(args = [10, 1_000, 10_000])]
fn policy_apply(bencher: Bencher<'_, '_>, policies: usize) {
    let policed = Policed::by(of_many(policies));
    bencher
        .with_inputs(|| AuthorizationPolicy { dry_run: true, ..other(policies / 2) })
        .bench_values(|policy| {
            let mut next = policed.snapshot.clone();
            next.upsert_policy(policy);
            next
        });
}

/// One policy of the workload's namespace, and so many of others.
fn of_many(others: usize) -> impl Iterator<Item = AuthorizationPolicy> {
    (1..=others).map(other).chain([policy(0, "shop", port_9090())])
}

/// A policy of another namespace, or of the same for workloads that name it.
fn other(n: usize) -> AuthorizationPolicy {
    let namespace = format!("bank-{}", n % 100);
    match n % 2 {
        0 => policy(n, &namespace, port_9090()),
        _ => AuthorizationPolicy {
            scope: PolicyScope::WorkloadSelector,
            ..policy(n, "shop", port_9090())
        },
    }
}

fn port_9090() -> PolicyMatch {
    PolicyMatch { destination_ports: vec![9090], ..PolicyMatch::default() }
}

/// Denies what matches to workloads of a namespace.
fn policy(n: usize, namespace: &str, one: PolicyMatch) -> AuthorizationPolicy {
    AuthorizationPolicy {
        name: format!("policy-{n}").into(),
        namespace: namespace.into(),
        scope: PolicyScope::Namespace,
        action: PolicyAction::Deny,
        rules: vec![PolicyRule { clauses: vec![PolicyClause { matches: vec![one] }] }],
        dry_run: false,
    }
}

/// A workload with policies, and who wants in.
struct Policed {
    snapshot: Snapshot,
    local: Arc<Workload>,
    identity: Identity,
}

impl Policed {
    fn by(policies: impl IntoIterator<Item = AuthorizationPolicy>) -> Policed {
        let mut snapshot = Snapshot::new("");
        policies.into_iter().for_each(|policy| snapshot.upsert_policy(policy));
        let local = Interner::new().workload(description(0)).expect("well described");
        let identity = Identity::new("cluster.local", "shop", "web").expect("a good name");
        Policed { snapshot, local: Arc::new(local), identity }
    }

    fn authorize(&self) {
        let facts = Facts::new(pod(7), (pod(0), 8080).into(), Some(black_box(&self.identity)));
        let verdict = decide::authorize(&self.snapshot, &self.local, &facts);
        assert!(black_box(verdict).outcome.is_ok());
    }
}

/// Ten thousand workloads, and who asks.
struct Mesh {
    interner: Interner,
    snapshot: Snapshot,
    client: Arc<Workload>,
}

impl Mesh {
    fn new() -> Mesh {
        let mut interner = Interner::new();
        let mut snapshot = Snapshot::new("");
        for n in 0..SERVICES {
            snapshot.upsert_service(interner.service(service(n)));
        }
        for n in 0..WORKLOADS {
            let workload = interner.workload(description(n)).expect("well described");
            snapshot.upsert_workload(workload);
        }
        let client = snapshot.workload_by_uid(&description(0).uid).expect("it is there").clone();
        Mesh { interner, snapshot, client }
    }

    fn changes(&mut self, count: usize) -> Vec<Workload> {
        let change = |n| WorkloadDescription { capacity: 2, ..description(n * 97 % WORKLOADS) };
        (0..count).map(|n| self.interner.workload(change(n)).expect("well described")).collect()
    }

    fn decide(&self, destination: SocketAddr, random: u64) {
        let route = decide::outbound(&self.snapshot, &self.client, black_box(destination), random);
        black_box(route.expect("a route"));
    }
}

fn service(n: usize) -> Service {
    let port =
        ServicePort { service_port: 80, target_port: 8080, app_protocol: AppProtocol::Unknown };
    Service {
        vips: Box::new([NetworkAddress::new("", vip(n))]),
        ports: Box::new([port]),
        ..Service::new(service_id(n))
    }
}

fn service_id(n: usize) -> NamespacedHostname {
    NamespacedHostname::new("shop".to_owned(), format!("api-{n}.shop.svc.cluster.local"))
}

fn vip(n: usize) -> IpAddr {
    IpAddr::from([10, 240, (n >> 8) as u8, n as u8])
}

fn pod(n: usize) -> IpAddr {
    IpAddr::from([10, 1, (n >> 8) as u8, n as u8])
}

fn description(n: usize) -> WorkloadDescription {
    let service = service_id(n % SERVICES);
    let ports = Box::new([PortMapping { service_port: 80, target_port: 8080 }]);
    WorkloadDescription {
        uid: format!("Kubernetes//Pod/shop/api-{n}"),
        name: format!("api-{n}"),
        namespace: "shop".to_owned(),
        service_account: format!("api-{}", n % SERVICES),
        trust_domain: "cluster.local".to_owned(),
        cluster: "Kubernetes".to_owned(),
        node: format!("node-{}", n / 50),
        addresses: vec![pod(n)],
        protocol: TunnelProtocol::Hbone,
        services: vec![Membership { service, ports }],
        ..WorkloadDescription::default()
    }
}

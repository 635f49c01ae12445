//! What is done for every connection and for every change of the mesh: decide, apply.
//!
//! `cargo bench -p ringway-engine --bench micro`: wall time. `micro count NAME` does one thing
//! [`TIMES`] times inside a function called `counted_NAME`, for scripts/micro to count instructions.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use divan::Bencher;
use ringway_engine::decide;
use ringway_engine::snapshot::{
    AppProtocol, Interner, Membership, NamespacedHostname, NetworkAddress, PortMapping, Service,
    ServicePort, Snapshot, TunnelProtocol, Workload, WorkloadDescription,
};

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
        "list" => println!("decide_service decide_workload snapshot_apply"),
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

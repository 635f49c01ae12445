//! Prints what a large snapshot costs: resident memory, and what one change adds.
//!
//! `cargo run --release -p ringway-engine --example snapshot_memory [WORKLOADS] [SERVICES]`
//!
//! Names, addresses and placements are shaped as a large Kubernetes cluster's are: 50 pods to a host, three
//! zones, deployments of equal size, one service each. Descriptions are made one at a time, as a loader does.

use std::net::IpAddr;
use std::time::Instant;

use ringway_engine::decide;
use ringway_engine::snapshot::{
    AppProtocol, Interner, Locality, Membership, NamespacedHostname, NetworkAddress, PortMapping,
    Service, ServicePort, Snapshot, TunnelProtocol, WorkloadDescription,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let workloads: usize = arguments.next().unwrap_or(150_000);
    let services: usize = arguments.next().unwrap_or(6_000);
    println!("empty process:       {}", resident());

    let started = Instant::now();
    let mut interner = Interner::new();
    let mut snapshot = Snapshot::new("");
    for n in 0..services {
        snapshot.upsert_service(interner.service(service(n)));
    }
    for n in 0..workloads {
        let workload = interner.workload(description(n, n % services)).expect("well described");
        snapshot.upsert_workload(workload);
    }
    println!(
        "{workloads} workloads, {services} services: {}, in {:?}",
        resident(),
        started.elapsed()
    );
    println!("indexes alone:       {:?}", snapshot.footprint_beside(&Snapshot::new("")));

    let published = snapshot.clone();
    let changes: Vec<WorkloadDescription> = (0..1000)
        .map(|n| n * (workloads / 1000).max(1) % workloads)
        .map(|n| WorkloadDescription { capacity: 2, ..description(n, n % services) })
        .collect();
    let mut changed = Vec::new();
    let started = Instant::now();
    for change in changes {
        let mut next = published.clone();
        next.upsert_workload(interner.workload(change).expect("well described"));
        changed.push(next);
    }
    let each = started.elapsed() / 1000;
    println!("one change:          {:?}, {each:?}", changed[0].footprint_beside(&published));
    println!("with 1000 changed generations beside it: {}", resident());
    drop(changed);

    let client = published.workload_by_uid(&description(0, 0).uid).expect("it is there").clone();
    let mut tunnels = 0;
    let started = Instant::now();
    for random in 0..1_000_000u64 {
        let vip = vip(random as usize % services);
        let route = decide::outbound(&published, &client, (vip, 80).into(), random);
        tunnels += usize::from(route.is_ok());
    }
    println!(
        "{tunnels} of 1000000 decisions for services: {:?} each",
        started.elapsed() / 1_000_000
    );

    for n in 0..workloads {
        snapshot.remove_workload(&description(n, n % services).uid);
    }
    drop((snapshot, published, client, interner));
    println!("all removed:         {}", resident());
}

fn service(n: usize) -> Service {
    let port = |service_port, target_port| ServicePort {
        service_port,
        target_port,
        app_protocol: AppProtocol::Unknown,
    };
    Service {
        vips: Box::new([NetworkAddress::new("", vip(n))]),
        ports: Box::new([port(80, 8080), port(443, 8443), port(9090, 9090)]),
        ..Service::new(service_id(n))
    }
}

fn service_id(n: usize) -> NamespacedHostname {
    let namespace = format!("team-{}", n % 300);
    let hostname = format!("checkout-api-{n}.{namespace}.svc.cluster.local");
    NamespacedHostname::new(namespace, hostname)
}

fn vip(n: usize) -> IpAddr {
    IpAddr::from([10, 240 + (n >> 16) as u8, (n >> 8) as u8, n as u8])
}

fn description(n: usize, deployment: usize) -> WorkloadDescription {
    let host = n / 50;
    let namespace = format!("team-{}", deployment % 300);
    // As a replica set names its pods: a hash of ten characters and one of five.
    let name = format!("checkout-api-{deployment}-{:010x}-{n:05x}", deployment * 0x1_0001);
    let mapping = |service_port, target_port| PortMapping { service_port, target_port };
    WorkloadDescription {
        uid: format!("Kubernetes//Pod/{namespace}/{name}"),
        name,
        namespace,
        service_account: format!("checkout-api-{deployment}"),
        trust_domain: "cluster.local".to_owned(),
        cluster: "Kubernetes".to_owned(),
        node: format!("ip-10-0-{}-{}.eu-central-1.compute.internal", host / 250, host % 250),
        locality: Locality {
            region: "eu-central-1".into(),
            zone: format!("eu-central-1{}", ["a", "b", "c"][host % 3]).into(),
            subzone: "".into(),
        },
        addresses: vec![IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8])],
        protocol: TunnelProtocol::Hbone,
        workload_name: format!("checkout-api-{deployment}"),
        canonical_name: format!("checkout-api-{deployment}"),
        canonical_revision: "v1".to_owned(),
        services: vec![Membership {
            service: service_id(deployment),
            ports: Box::new([mapping(80, 8080), mapping(443, 8443), mapping(9090, 9090)]),
        }],
        ..WorkloadDescription::default()
    }
}

/// Resident memory now, and at its highest.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let kilobytes: f64 = line.split_whitespace().nth(1).unwrap_or("0").parse().unwrap_or(0.0);
        kilobytes / 1024.0
    };
    format!("{:.1} MiB resident, {:.1} MiB at most", field("VmRSS:"), field("VmHWM:"))
}

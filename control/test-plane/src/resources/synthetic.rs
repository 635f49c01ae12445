//! Workloads that do not exist, in any number: what a large cluster would tell.

use std::net::Ipv4Addr;

use ringway_control::proto::workload as wire;

use super::{ADDRESS, Resource};

/// Workloads behind one service, and of one service account.
const PER_SERVICE: u32 = 25;

/// Where their addresses begin: 100.64.0.0/10, which no test's network uses.
const FIRST_ADDRESS: u32 = 0x6440_0000;

/// The most there can be: what the addresses last for.
pub(crate) const SYNTHETIC_MAX: u32 = 1 << 22;

/// `count` workloads on 200 hosts, and a service for every 25 of them. Another `generation` changes each of them.
pub(crate) fn synthetic(count: u32, generation: u32) -> impl Iterator<Item = Resource> {
    let count = count.min(SYNTHETIC_MAX);
    let workloads = (0..count).map(move |number| workload(number, generation));
    (0..count.div_ceil(PER_SERVICE)).map(service).chain(workloads)
}

fn workload(number: u32, generation: u32) -> Resource {
    let group = number / PER_SERVICE;
    let uid = format!("Kubernetes//Pod/synthetic/synthetic-{group}-{number}");
    let ip = Ipv4Addr::from(FIRST_ADDRESS + number);
    let ports = vec![wire::Port { service_port: 80, target_port: 8080, ..wire::Port::default() }];
    let message = wire::Workload {
        uid: uid.clone(),
        name: format!("synthetic-{group}-{number}"),
        namespace: "synthetic".to_owned(),
        addresses: vec![ip.octets().to_vec()],
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        trust_domain: "cluster.local".to_owned(),
        service_account: format!("synthetic-{group}"),
        node: format!("synthetic-node-{}", number % 200),
        canonical_name: format!("synthetic-{group}"),
        canonical_revision: format!("v{generation}"),
        workload_name: format!("synthetic-{group}"),
        cluster_id: "Kubernetes".to_owned(),
        services: [(key(group), wire::PortList { ports })].into(),
        ..wire::Workload::default()
    };
    let message = wire::Address { r#type: Some(wire::address::Type::Workload(message)) };
    Resource::of(uid, vec![format!("/{ip}")], ADDRESS, &message)
}

fn service(group: u32) -> Resource {
    // 100.128.0.0 and on: past the last address a workload can have.
    let ip = Ipv4Addr::from(0x6480_0000 + group);
    let address = wire::NetworkAddress { address: ip.octets().to_vec(), ..Default::default() };
    let message = wire::Service {
        name: format!("synthetic-{group}"),
        namespace: "synthetic".to_owned(),
        hostname: format!("synthetic-{group}.synthetic.svc.cluster.local"),
        addresses: vec![address],
        ports: vec![wire::Port { service_port: 80, target_port: 8080, ..Default::default() }],
        ..wire::Service::default()
    };
    let message = wire::Address { r#type: Some(wire::address::Type::Service(message)) };
    Resource::of(key(group), vec![format!("/{ip}")], ADDRESS, &message)
}

fn key(group: u32) -> String {
    format!("synthetic/synthetic-{group}.synthetic.svc.cluster.local")
}

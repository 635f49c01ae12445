//! A small mesh in few words, for tests.

use super::*;
use std::net::IpAddr;

/// Changes something in passing: `pod("web-1", "10.1.0.1").with(|pod| pod.capacity = 2)`.
pub(crate) trait With: Sized {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl With for WorkloadDescription {}
impl With for Service {}

/// A pod of namespace `shop` that runs as `name` without its number, reached by HBONE.
pub(crate) fn pod(name: &str, ip: &str) -> WorkloadDescription {
    WorkloadDescription {
        uid: format!("c1//Pod/shop/{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned(),
        addresses: ips(ip),
        protocol: TunnelProtocol::Hbone,
        ..WorkloadDescription::default()
    }
}

/// A service `name.example` of namespace `shop`, port 80 leading to 8080.
pub(crate) fn service(name: &str, vip: &str) -> Service {
    Service {
        vips: ips(vip).into_iter().map(|ip| NetworkAddress::new("", ip)).collect(),
        ports: Box::new([port(80, 8080)]),
        ..Service::new(named("shop", name))
    }
}

pub(crate) fn named(namespace: &str, name: &str) -> NamespacedHostname {
    NamespacedHostname::new(namespace, format!("{name}.example"))
}

pub(crate) fn port(service_port: u16, target_port: u16) -> ServicePort {
    ServicePort { service_port, target_port, app_protocol: AppProtocol::Unknown }
}

/// That a pod serves `name.example` of namespace `shop`, with its own ports where it has any.
pub(crate) fn serves<const N: usize>(name: &str, ports: [(u16, u16); N]) -> Membership {
    let mapping = |(service_port, target_port)| PortMapping { service_port, target_port };
    Membership { service: named("shop", name), ports: ports.into_iter().map(mapping).collect() }
}

/// Addresses separated by spaces.
pub(crate) fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
}

pub(crate) fn cidr(text: &str) -> Cidr {
    let (ip, length) = text.split_once('/').unwrap();
    Cidr::new(ip.parse().unwrap(), length.parse().unwrap()).unwrap()
}

/// `10.1.0.40` by address, `shop/waypoint` by hostname; port 15008.
pub(crate) fn gateway(text: &str) -> GatewayAddress {
    let destination = match text.parse() {
        Ok(ip) => GatewayDestination::Address(NetworkAddress::new("", ip)),
        Err(_) => {
            let (namespace, name) = text.split_once('/').unwrap();
            GatewayDestination::Hostname(named(namespace, name))
        }
    };
    GatewayAddress { destination, hbone_mtls_port: 15008 }
}

/// A snapshot of all that.
pub(crate) fn mesh(
    pods: impl IntoIterator<Item = WorkloadDescription>,
    services: impl IntoIterator<Item = Service>,
) -> Snapshot {
    let mut snapshot = Snapshot::new("");
    for pod in pods {
        upsert(&mut snapshot, pod);
    }
    for service in services {
        snapshot.upsert_service(service);
    }
    snapshot
}

pub(crate) fn upsert(snapshot: &mut Snapshot, description: WorkloadDescription) {
    snapshot.upsert_workload(Interner::new().workload(description).unwrap());
}

//! Services.

use ringway_engine::snapshot::{
    AppProtocol, HealthPolicy, IpFamilies, LoadBalancer, LoadBalancerMode, NamespacedHostname,
    Scope, Service, ServicePort, SubjectAltName, Visibility, WeightedWaypoint,
};

use super::values::{bits, ip, nonempty, port, value};
use super::{Rejection, gateway};
use crate::proto::workload as told;
use crate::source::VirtualAddress;

pub(super) fn read(service: told::Service) -> Result<Service, Rejection> {
    const FAMILIES: &[IpFamilies] =
        &[IpFamilies::Automatic, IpFamilies::Ipv4, IpFamilies::Ipv6, IpFamilies::Dual];
    let namespace = nonempty("namespace", service.namespace)?;
    let hostname = nonempty("hostname", service.hostname)?;
    if namespace.contains('/') || hostname.contains('/') {
        // It could never be removed: its name would not read back.
        return Err(Rejection::NotNamespacedHostname(format!("{namespace}/{hostname}")));
    }
    let ports = service.ports.into_iter().map(service_port);
    let names = service.subject_alt_names.iter();
    let weighted = service.weighted_waypoints.into_iter().map(weighted_waypoint);
    let mut read = Service {
        name: service.name.into(),
        ports: ports.collect::<Result<_, _>>()?,
        load_balancer: service.load_balancing.map(load_balancer).transpose()?.unwrap_or_default(),
        waypoint: gateway::optional("waypoint", service.waypoint)?,
        weighted_waypoints: weighted.collect::<Result<_, _>>()?,
        ingress_use_waypoint: service.ingress_use_waypoint,
        subject_alt_names: names.map(|name| SubjectAltName::from(name.as_str())).collect(),
        ip_families: value("ip_families", service.ip_families, FAMILIES)?,
        canonical: service.canonical,
        visibility: visibility(service.visibility),
        ..Service::new(NamespacedHostname::new(namespace, hostname))
    };
    let addresses = service.addresses.into_iter().map(virtual_address);
    VirtualAddress::assign(addresses.collect::<Result<_, _>>()?, &mut read);
    Ok(read)
}

fn virtual_address(address: told::NetworkAddress) -> Result<VirtualAddress, Rejection> {
    const FIELD: &str = "addresses";
    let ip = ip(FIELD, &address.address)?;
    let length = address.length.map(|length| bits(FIELD, length)).transpose()?;
    let read = VirtualAddress::new(&address.network, ip, length);
    read.ok_or(Rejection::RangeLength(FIELD, address.length.unwrap_or_default()))
}

fn service_port(port_of: told::Port) -> Result<ServicePort, Rejection> {
    const PROTOCOLS: &[AppProtocol] = &[
        AppProtocol::Unknown,
        AppProtocol::Http11,
        AppProtocol::Http2,
        AppProtocol::Grpc,
        AppProtocol::Tcp,
        AppProtocol::Tls,
    ];
    Ok(ServicePort {
        service_port: port("service_port", port_of.service_port)?,
        target_port: port("target_port", port_of.target_port)?,
        app_protocol: value("app_protocol", port_of.app_protocol, PROTOCOLS)?,
    })
}

fn load_balancer(balancing: told::LoadBalancing) -> Result<LoadBalancer, Rejection> {
    const MODES: &[LoadBalancerMode] = &[
        LoadBalancerMode::Standard,
        LoadBalancerMode::Strict,
        LoadBalancerMode::Failover,
        LoadBalancerMode::Passthrough,
    ];
    const POLICIES: &[HealthPolicy] = &[HealthPolicy::OnlyHealthy, HealthPolicy::AllowAll];
    let preferences = balancing.routing_preference.into_iter().map(scope);
    Ok(LoadBalancer {
        mode: value("load_balancing.mode", balancing.mode, MODES)?,
        routing_preferences: preferences.collect::<Result<_, _>>()?,
        health_policy: value("load_balancing.health_policy", balancing.health_policy, POLICIES)?,
    })
}

/// Number 0 is none of them.
fn scope(number: i32) -> Result<Scope, Rejection> {
    const FIELD: &str = "load_balancing.routing_preference";
    const SCOPES: &[Option<Scope>] = &[
        None,
        Some(Scope::Region),
        Some(Scope::Zone),
        Some(Scope::Subzone),
        Some(Scope::Node),
        Some(Scope::Cluster),
        Some(Scope::Network),
    ];
    value(FIELD, number, SCOPES)?.ok_or(Rejection::UnknownValue(FIELD, number))
}

fn weighted_waypoint(weighted: told::WeightedWaypoint) -> Result<WeightedWaypoint, Rejection> {
    const FIELD: &str = "weighted_waypoints.destination";
    let destination = weighted.destination.ok_or(Rejection::Missing(FIELD))?;
    Ok(WeightedWaypoint {
        destination: gateway::read(FIELD, destination)?,
        weight: weighted.weight,
    })
}

/// What is not known was public before it was invented.
fn visibility(number: i32) -> Visibility {
    match told::service::Visibility::try_from(number) {
        Ok(told::service::Visibility::Namespace) => Visibility::Namespace,
        Ok(told::service::Visibility::Public) | Err(_) => Visibility::Public,
    }
}

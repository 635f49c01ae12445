//! Workloads and services as resources.

use std::net::IpAddr;

use ringway_control::proto::workload as wire;
use ringway_engine::snapshot::{
    ApplicationTunnel, ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Membership,
    NamespacedHostname, Service, Workload,
};

use super::vocabulary;
use super::{ADDRESS, Resource, octets};

/// A workload; on demand it is found by its addresses, too.
pub(crate) fn workload(workload: &Workload) -> Resource {
    let aliases = workload.addresses().iter().map(|ip| format!("{}/{ip}", workload.network()));
    let aliases = aliases.collect();
    let message = wire::Workload {
        name: workload.name().to_owned(),
        namespace: workload.namespace().to_owned(),
        addresses: workload.addresses().iter().copied().map(octets).collect(),
        network: workload.network().to_string(),
        tunnel_protocol: vocabulary::protocol(workload.protocol()).into(),
        trust_domain: workload.trust_domain().to_owned(),
        service_account: workload.service_account().to_owned(),
        waypoint: workload.waypoint().map(gateway),
        node: workload.node().to_string(),
        canonical_name: workload.canonical_name().to_string(),
        canonical_revision: workload.canonical_revision().to_string(),
        workload_type: vocabulary::workload_type(workload.workload_type()).into(),
        workload_name: workload.workload_name().to_string(),
        native_tunnel: workload.native_tunnel(),
        authorization_policies: workload.authorization_policies().map(str::to_owned).collect(),
        status: vocabulary::status(workload.health()).into(),
        cluster_id: workload.cluster().to_string(),
        network_gateway: workload.network_gateway().map(gateway),
        uid: workload.uid().to_owned(),
        hostname: workload.hostname().to_owned(),
        services: workload.services().iter().map(membership).collect(),
        application_tunnel: workload.application_tunnel().map(application_tunnel),
        locality: Some(wire::Locality {
            region: workload.locality().region.to_string(),
            zone: workload.locality().zone.to_string(),
            subzone: workload.locality().subzone.to_string(),
        }),
        network_mode: vocabulary::network_mode(workload.network_mode()).into(),
        extensions: Vec::new(),
        capacity: Some(workload.capacity()),
    };
    let name = message.uid.clone();
    address(name, aliases, wire::address::Type::Workload(message))
}

/// A service; on demand it is found by its virtual addresses, too.
pub(crate) fn service(service: &Service) -> Resource {
    let hosts = service.vips.iter().map(|vip| network_address(&vip.network, vip.ip, None));
    let ranges = service
        .cidr_vips
        .iter()
        .map(|vip| network_address(&vip.network, vip.cidr.first(), Some(vip.cidr.length().into())));
    let aliases = service.vips.iter().map(|vip| format!("{}/{}", vip.network, vip.ip));
    let range_aliases = service.cidr_vips.iter().map(|vip| format!("{}/{}", vip.network, vip.cidr));
    let weighted = service.weighted_waypoints.iter().map(|weighted| wire::WeightedWaypoint {
        destination: Some(gateway(&weighted.destination)),
        weight: weighted.weight,
    });
    let preferences = service.load_balancer.routing_preferences.iter();
    let ports = service.ports.iter().map(|port| wire::Port {
        service_port: port.service_port.into(),
        target_port: port.target_port.into(),
        app_protocol: vocabulary::app_protocol(port.app_protocol).into(),
    });
    let message = wire::Service {
        name: service.name.to_string(),
        namespace: service.namespace().to_owned(),
        hostname: service.hostname().to_owned(),
        addresses: hosts.chain(ranges).collect(),
        ports: ports.collect(),
        subject_alt_names: service.subject_alt_names.iter().map(ToString::to_string).collect(),
        waypoint: service.waypoint.as_ref().map(gateway),
        load_balancing: Some(wire::LoadBalancing {
            routing_preference: preferences.map(|scope| vocabulary::scope(*scope).into()).collect(),
            mode: vocabulary::mode(service.load_balancer.mode).into(),
            health_policy: vocabulary::health_policy(service.load_balancer.health_policy).into(),
        }),
        ip_families: vocabulary::ip_families(service.ip_families).into(),
        extensions: Vec::new(),
        canonical: service.canonical,
        ingress_use_waypoint: service.ingress_use_waypoint,
        weighted_waypoints: weighted.collect(),
        visibility: vocabulary::visibility(service.visibility).into(),
    };
    let aliases = aliases.chain(range_aliases).collect();
    address(service.id.to_string(), aliases, wire::address::Type::Service(message))
}

fn address(name: String, aliases: Vec<String>, which: wire::address::Type) -> Resource {
    Resource::of(name, aliases, ADDRESS, &wire::Address { r#type: Some(which) })
}

fn membership(membership: &Membership) -> (String, wire::PortList) {
    let ports = membership.ports.iter().map(|mapping| wire::Port {
        service_port: mapping.service_port.into(),
        target_port: mapping.target_port.into(),
        app_protocol: wire::AppProtocol::Unknown.into(),
    });
    (membership.service.to_string(), wire::PortList { ports: ports.collect() })
}

fn gateway(gateway: &GatewayAddress) -> wire::GatewayAddress {
    let destination = match &gateway.destination {
        GatewayDestination::Address(address) => {
            let address = network_address(&address.network, address.ip, None);
            wire::gateway_address::Destination::Address(address)
        }
        GatewayDestination::Hostname(name) => {
            wire::gateway_address::Destination::Hostname(hostname(name))
        }
    };
    wire::GatewayAddress {
        destination: Some(destination),
        hbone_mtls_port: gateway.hbone_mtls_port.into(),
    }
}

fn hostname(name: &NamespacedHostname) -> wire::NamespacedHostname {
    let (namespace, hostname) = (name.namespace().to_owned(), name.hostname().to_owned());
    wire::NamespacedHostname { namespace, hostname }
}

fn network_address(network: &str, ip: IpAddr, length: Option<u32>) -> wire::NetworkAddress {
    wire::NetworkAddress { network: network.to_owned(), address: octets(ip), length }
}

fn application_tunnel(tunnel: ApplicationTunnel) -> wire::ApplicationTunnel {
    let protocol = match tunnel.protocol {
        ApplicationTunnelProtocol::None => wire::application_tunnel::Protocol::None,
        ApplicationTunnelProtocol::Proxy => wire::application_tunnel::Protocol::Proxy,
    };
    let port = tunnel.port.unwrap_or_default().into();
    wire::ApplicationTunnel { protocol: protocol.into(), port }
}

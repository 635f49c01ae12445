//! Makes a service of a Service, as Istio's control plane does.

use std::net::IpAddr;

use ringway_engine::snapshot::{
    HealthPolicy, LoadBalancer, LoadBalancerMode, NetworkAddress, Scope, Service, ServicePort,
    SubjectAltName, Visibility,
};

use super::selectors::host_name;
use crate::source::VirtualAddress;
use crate::source::gateway::BeforeService;
use crate::source::node::config::NodeConfig;
use crate::source::objects::{Preference, ServiceObject, TargetPort};

pub(super) fn service(object: &ServiceObject, own: &NodeConfig, before: BeforeService) -> Service {
    let id = host_name(object, &own.cluster_domain);
    let network = &own.network;
    let one = |(ip, _): &(IpAddr, _)| NetworkAddress::new(network.clone(), *ip);
    let addresses = object.addresses.iter().map(|address| VirtualAddress::One(one(address)));
    let ranges = object.ranges.iter();
    let ranges = ranges.filter_map(|(ip, bits)| VirtualAddress::new(network, *ip, Some(*bits)));
    let names = object.subject_alt_names.iter();
    let ports = object.ports.iter().map(|port| ServicePort {
        service_port: port.number,
        target_port: match port.target {
            TargetPort::Number(number) => number,
            TargetPort::Named(..) => 0,
        },
        app_protocol: port.protocol,
    });
    let mut service = Service {
        name: (&*object.name).into(),
        ports: ports.collect(),
        load_balancer: load_balancer(object),
        waypoint: before.waypoint,
        weighted_waypoints: before.weighted,
        ingress_use_waypoint: before.ingress,
        ip_families: object.families,
        subject_alt_names: names.map(|name| SubjectAltName::from(&**name)).collect(),
        visibility: if object.private { Visibility::Namespace } else { Visibility::Public },
        // Of several that have a name, the cluster's own goes first.
        canonical: object.hostname.is_none(),
        ..Service::new(id)
    };
    VirtualAddress::assign(addresses.chain(ranges).collect(), &mut service);
    service
}

fn load_balancer(object: &ServiceObject) -> LoadBalancer {
    use Scope::{Network, Node, Region, Subzone, Zone};
    let (mode, preferences): (_, &[Scope]) = match object.preference {
        Preference::None => (LoadBalancerMode::Standard, &[]),
        Preference::Close => (LoadBalancerMode::Failover, &[Network, Region, Zone, Subzone]),
        Preference::SameNode => {
            (LoadBalancerMode::Failover, &[Network, Region, Zone, Subzone, Node])
        }
        Preference::Passthrough => (LoadBalancerMode::Passthrough, &[]),
        Preference::OnlyNode => (LoadBalancerMode::Strict, &[Node]),
    };
    let health_policy =
        if object.unready { HealthPolicy::AllowAll } else { HealthPolicy::OnlyHealthy };
    LoadBalancer { mode, routing_preferences: preferences.into(), health_policy }
}

//! Makes a service of a Service, as Istio's control plane does.

use ringway_engine::snapshot::{
    HealthPolicy, LoadBalancer, LoadBalancerMode, NetworkAddress, Scope, Service, ServicePort,
};

use super::selectors::host_name;
use crate::source::gateway::BeforeService;
use crate::source::node::config::NodeConfig;
use crate::source::objects::{Preference, ServiceObject, TargetPort};

pub(super) fn service(object: &ServiceObject, own: &NodeConfig, before: BeforeService) -> Service {
    let id = host_name(object, &own.cluster_domain);
    let addresses = object.addresses.iter();
    let ports = object.ports.iter().map(|port| ServicePort {
        service_port: port.number,
        target_port: match port.target {
            TargetPort::Number(number) => number,
            TargetPort::Named(..) => 0,
        },
        app_protocol: port.protocol,
    });
    Service {
        name: (&*object.name).into(),
        vips: addresses.map(|(ip, _)| NetworkAddress::new(own.network.clone(), *ip)).collect(),
        ports: ports.collect(),
        load_balancer: load_balancer(object),
        waypoint: before.waypoint,
        weighted_waypoints: before.weighted,
        ingress_use_waypoint: before.ingress,
        ip_families: object.families,
        canonical: true,
        ..Service::new(id)
    }
}

fn load_balancer(object: &ServiceObject) -> LoadBalancer {
    use Scope::{Network, Node, Region, Subzone, Zone};
    let (mode, preferences): (_, &[Scope]) = match object.preference {
        Preference::None => (LoadBalancerMode::Standard, &[]),
        Preference::Close => (LoadBalancerMode::Failover, &[Network, Region, Zone, Subzone]),
        Preference::SameNode => {
            (LoadBalancerMode::Failover, &[Network, Region, Zone, Subzone, Node])
        }
        Preference::OnlyNode => (LoadBalancerMode::Strict, &[Node]),
    };
    let health_policy =
        if object.unready { HealthPolicy::AllowAll } else { HealthPolicy::OnlyHealthy };
    LoadBalancer { mode, routing_preferences: preferences.into(), health_policy }
}

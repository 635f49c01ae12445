//! A service of ztunnel's local file.

use ringway_engine::snapshot::{
    AppProtocol, HealthPolicy, IpFamilies, LoadBalancer, LoadBalancerMode, NamespacedHostname,
    Scope, Service, ServicePort, SubjectAltName, Visibility, WeightedWaypoint,
};

use super::workload::report_no_port;
use super::{LocalObjects, VirtualAddress, gateway, virtual_address};
use crate::source::diagnostics::Reporter;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, integer, nonempty, parse_port, spelled};
use crate::source::yaml::value::Value;

pub(crate) fn service(value: &Value, local: &mut LocalObjects, reporter: &mut Reporter) {
    let service = mapping("services[]", value, reporter, |fields| {
        let place = fields.value_place("hostname");
        read(fields).map(|service| (place, service))
    });
    local.services.extend(service.flatten());
}

fn read(fields: &mut Fields<'_, '_>) -> Option<Service> {
    let name = fields.required("name", nonempty);
    let namespace = fields.required("namespace", nonempty);
    let hostname = fields.required("hostname", nonempty);
    let addresses =
        fields.required("vips", |value, reporter| list(value, reporter, virtual_address));
    let ports = fields.required("ports", ports);
    let names = fields.optional("subjectAltNames", |value, reporter| {
        list(value, reporter, |value, reporter| nonempty(value, reporter).map(SubjectAltName::from))
    });
    let weighted = fields
        .optional("weightedWaypoints", |value, reporter| list(value, reporter, weighted_waypoint));
    let load_balancer = fields.optional("loadBalancer", load_balancer);
    let families = fields.optional("ipFamilies", spelled(IpFamilies::ALL, IpFamilies::as_str));
    let visibility = fields.optional("visibility", spelled(Visibility::ALL, Visibility::as_str));
    let (canonical, ingress) =
        (fields.optional("canonical", boolean), fields.optional("ingressUseWaypoint", boolean));
    let waypoint = fields.optional("waypoint", gateway);
    let id = NamespacedHostname::new(namespace?, hostname?);
    let mut service = Service {
        name: name?.into(),
        ports: ports?,
        load_balancer: load_balancer.unwrap_or_default(),
        waypoint,
        weighted_waypoints: weighted.unwrap_or_default().into(),
        ingress_use_waypoint: ingress.unwrap_or(false),
        subject_alt_names: names.unwrap_or_default().into(),
        ip_families: families.unwrap_or_default(),
        canonical: canonical.unwrap_or(false),
        visibility: visibility.unwrap_or_default(),
        ..Service::new(id)
    };
    VirtualAddress::assign(addresses?, &mut service);
    Some(service)
}

/// `service port: target port`, of which the latter is 0 when every workload says it itself.
fn ports(value: &Value, reporter: &mut Reporter) -> Option<Box<[ServicePort]>> {
    let Some(entries) = value.entries() else {
        return mapping("ports", value, reporter, |_| None)?;
    };
    let mut ports = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let target_port = integer(0..=65_535)(value, reporter);
        match (parse_port(&key.text), target_port) {
            (Some(service_port), Some(target_port)) => ports.push(ServicePort {
                service_port,
                target_port: target_port as u16,
                app_protocol: AppProtocol::Unknown,
            }),
            (None, _) => report_no_port(&key.text, key.place, reporter),
            (Some(_), None) => {}
        }
    }
    Some(ports.into())
}

fn load_balancer(value: &Value, reporter: &mut Reporter) -> Option<LoadBalancer> {
    mapping("loadBalancer", value, reporter, |fields| {
        let scopes = fields.optional("routingPreferences", |value, reporter| {
            list(value, reporter, spelled(Scope::ALL, Scope::as_str))
        });
        let policies = spelled(HealthPolicy::ALL, HealthPolicy::as_str);
        let mode =
            fields.optional("mode", spelled(LoadBalancerMode::ALL, LoadBalancerMode::as_str));
        LoadBalancer {
            mode: mode.unwrap_or_default(),
            routing_preferences: scopes.unwrap_or_default().into(),
            health_policy: fields.optional("healthPolicy", policies).unwrap_or_default(),
        }
    })
}

fn weighted_waypoint(value: &Value, reporter: &mut Reporter) -> Option<WeightedWaypoint> {
    mapping("weightedWaypoints[]", value, reporter, |fields| {
        let destination = fields.required("destination", gateway);
        let weight = fields.optional("weight", integer(0..=u64::from(u32::MAX)));
        Some(WeightedWaypoint { destination: destination?, weight: weight.unwrap_or(0) as u32 })
    })?
}

//! Services in a dump, with their endpoints by uid.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_engine::snapshot::{IpFamilies, Membership, Service, Snapshot, Workload};
use serde::Serialize;

use super::workloads::GatewayView;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceView<'a> {
    name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) hostname: &'a str,
    vips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cidr_vips: Vec<CidrView<'a>>,
    ports: BTreeMap<u16, u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer: Option<LoadBalancerView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<GatewayView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weighted_waypoints: Vec<WeightedWaypointView>,
    endpoints: BTreeMap<&'a str, EndpointView<'a>>,
    subject_alt_names: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_families: Option<&'a str>,
    canonical: bool,
    visibility: &'a str,
}

#[derive(Serialize)]
struct CidrView<'a> {
    network: &'a str,
    cidr: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LoadBalancerView<'a> {
    mode: &'a str,
    routing_preferences: Vec<&'a str>,
    health_policy: &'a str,
}

#[derive(Serialize)]
struct WeightedWaypointView {
    destination: GatewayView,
    weight: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointView<'a> {
    workload_uid: &'a str,
    port: BTreeMap<u16, u16>,
    status: &'a str,
}

impl<'a> ServiceView<'a> {
    pub(super) fn of(service: &'a Service, snapshot: &'a Snapshot) -> Self {
        let load_balancer = &service.load_balancer;
        Self {
            name: &service.name,
            namespace: service.namespace(),
            hostname: service.hostname(),
            vips: service.vips.iter().map(ToString::to_string).collect(),
            cidr_vips: service
                .cidr_vips
                .iter()
                .map(|vip| CidrView { network: &vip.network, cidr: vip.cidr.to_string() })
                .collect(),
            ports: service.ports.iter().map(|port| (port.service_port, port.target_port)).collect(),
            load_balancer: (*load_balancer != Default::default()).then(|| LoadBalancerView {
                mode: load_balancer.mode.as_str(),
                routing_preferences: load_balancer
                    .routing_preferences
                    .iter()
                    .map(|scope| scope.as_str())
                    .collect(),
                health_policy: load_balancer.health_policy.as_str(),
            }),
            waypoint: service.waypoint.as_ref().map(GatewayView::of),
            weighted_waypoints: service
                .weighted_waypoints
                .iter()
                .map(|one| WeightedWaypointView {
                    destination: GatewayView::of(&one.destination),
                    weight: one.weight,
                })
                .collect(),
            endpoints: snapshot.endpoints(&service.id).map(endpoint_entry).collect(),
            subject_alt_names: service.subject_alt_names.iter().map(|name| name.as_str()).collect(),
            ip_families: (service.ip_families != IpFamilies::Automatic)
                .then(|| service.ip_families.as_str()),
            canonical: service.canonical,
            visibility: service.visibility.as_str(),
        }
    }
}

pub(super) fn endpoint_entry<'a>(
    (workload, membership): (&'a Arc<Workload>, &'a Membership),
) -> (&'a str, EndpointView<'a>) {
    let port = membership.ports.iter().map(|port| (port.service_port, port.target_port)).collect();
    let status = workload.health().as_str();
    (workload.uid(), EndpointView { workload_uid: workload.uid(), port, status })
}

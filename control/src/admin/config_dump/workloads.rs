//! Workloads in a dump, and the gateways that they and services name.

use ringway_engine::snapshot::{ApplicationTunnel, GatewayAddress, Locality, Workload};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadView<'a> {
    pub(super) uid: &'a str,
    workload_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<GatewayView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_gateway: Option<GatewayView>,
    protocol: &'a str,
    network_mode: &'a str,
    name: &'a str,
    namespace: &'a str,
    service_account: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    workload_name: &'a str,
    workload_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    canonical_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    canonical_revision: &'a str,
    cluster_id: &'a str,
    trust_domain: &'a str,
    #[serde(skip_serializing_if = "LocalityView::is_empty")]
    locality: LocalityView<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    native_tunnel: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    network: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
    capacity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_tunnel: Option<ApplicationTunnelView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_policies: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
}

impl<'a> WorkloadView<'a> {
    pub(super) fn of(workload: &'a Workload) -> Self {
        Self {
            uid: workload.uid(),
            workload_ips: workload.addresses().iter().map(ToString::to_string).collect(),
            waypoint: workload.waypoint().map(GatewayView::of),
            network_gateway: workload.network_gateway().map(GatewayView::of),
            protocol: workload.protocol().as_str(),
            network_mode: workload.network_mode().as_str(),
            name: workload.name(),
            namespace: workload.namespace(),
            service_account: workload.service_account(),
            workload_name: workload.workload_name(),
            workload_type: workload.workload_type().as_str(),
            canonical_name: workload.canonical_name(),
            canonical_revision: workload.canonical_revision(),
            cluster_id: workload.cluster(),
            trust_domain: workload.trust_domain(),
            locality: LocalityView::of(workload.locality()),
            node: workload.node(),
            native_tunnel: workload.native_tunnel(),
            network: workload.network(),
            status: workload.health().as_str(),
            hostname: workload.hostname(),
            capacity: workload.capacity(),
            application_tunnel: workload.application_tunnel().map(ApplicationTunnelView::of),
            authorization_policies: workload.authorization_policies().collect(),
            services: workload.services().iter().map(|one| one.service.to_string()).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GatewayView {
    destination: String,
    hbone_mtls_port: u16,
}

impl GatewayView {
    pub(super) fn of(gateway: &GatewayAddress) -> Self {
        Self {
            destination: gateway.destination.to_string(),
            hbone_mtls_port: gateway.hbone_mtls_port,
        }
    }
}

#[derive(Serialize)]
struct LocalityView<'a> {
    region: &'a str,
    zone: &'a str,
    subzone: &'a str,
}

impl<'a> LocalityView<'a> {
    fn of(locality: &'a Locality) -> Self {
        Self { region: &locality.region, zone: &locality.zone, subzone: &locality.subzone }
    }

    fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }
}

#[derive(Serialize)]
struct ApplicationTunnelView {
    protocol: &'static str,
    port: Option<u16>,
}

impl ApplicationTunnelView {
    fn of(tunnel: ApplicationTunnel) -> Self {
        Self { protocol: tunnel.protocol.as_str(), port: tunnel.port }
    }
}

//! What the process knows, as the JSON that `istioctl ztunnel-config` reads.
//!
//! Keys are camelCase; lists are sorted, so that two dumps can be compared; what is at its default is left out where
//! `istioctl` does without it.

mod policies;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_engine::snapshot::{
    ApplicationTunnel, GatewayAddress, IpFamilies, Locality, Membership, Service, Snapshot,
    Workload,
};
use ringway_protocols::tls::Credentials;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde_json::Value;

use self::policies::PolicyView;
use crate::identity::certificate;
use crate::identity::{CertificateSummary, IdentityStatus};

/// Everything a dump is made of. May be sent to another thread to be rendered there.
pub struct DumpInput {
    /// The world.
    pub snapshot: Arc<Snapshot>,
    /// The identities of this host.
    pub identities: Vec<IdentityStatus>,
    /// The captured workloads, by uid.
    pub workload_state: BTreeMap<String, WorkloadState>,
    /// The effective settings.
    pub config: Value,
    /// What runs.
    pub version: VersionInfo,
}

/// What runs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// Ours.
    pub version: String,
    /// The commit it was built from.
    pub git_revision: String,
    /// The compiler.
    pub rust_version: String,
    /// `release` or `debug`.
    pub build_profile: String,
    /// `Clean` or `Modified`, as far as known.
    pub build_status: String,
    /// Istio's, from `ISTIO_META_ISTIO_VERSION`.
    pub istio_version: String,
    /// Who does the cryptography.
    pub crypto_provider: String,
}

/// Whether a captured workload is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkloadState {
    /// `Pending` or `Up`.
    pub state: &'static str,
    /// Why it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is open.
    #[serde(skip_serializing_if = "Connections::is_empty")]
    pub connections: Connections,
    /// Who it is.
    pub info: WorkloadInfo,
}

/// The open connections of a captured workload, in their shape.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Those it accepted.
    pub inbound: Vec<Value>,
    /// Those it opened.
    pub outbound: Vec<Value>,
}

impl Connections {
    fn is_empty(&self) -> bool {
        self.inbound.is_empty() && self.outbound.is_empty()
    }
}

/// Who a captured workload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadInfo {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// Renders a dump, pretty. With 150,000 workloads this takes a while: not for the control thread.
pub fn render(input: &DumpInput) -> Vec<u8> {
    let snapshot = &*input.snapshot;
    let mut workloads: Vec<_> = snapshot.workloads().map(|one| WorkloadView::of(one)).collect();
    workloads.sort_by_key(|one| one.uid);
    let mut services: Vec<_> =
        snapshot.services().map(|one| ServiceView::of(one, snapshot)).collect();
    services.sort_by_key(|one| (one.hostname, one.namespace));
    let mut policies: Vec<_> = snapshot.policies().map(|one| PolicyView::of(one)).collect();
    policies.sort_by_key(|one| (one.namespace, one.name));
    let staged_services = snapshot
        .missing_services()
        .map(|name| {
            let endpoints = snapshot.endpoints(name).map(endpoint_entry).collect();
            (name.to_string(), endpoints)
        })
        .collect();
    let mut certificates: Vec<_> = input.identities.iter().map(CertificateView::of).collect();
    certificates.sort_by(|one, other| one.identity.cmp(&other.identity));
    let dump = Dump {
        workloads,
        services,
        policies,
        staged_services,
        certificates,
        workload_state: &input.workload_state,
        config: &input.config,
        version: &input.version,
    };
    serde_json::to_vec_pretty(&dump).expect("plain data serializes")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dump<'a> {
    workloads: Vec<WorkloadView<'a>>,
    services: Vec<ServiceView<'a>>,
    policies: Vec<PolicyView<'a>>,
    staged_services: BTreeMap<String, BTreeMap<&'a str, EndpointView<'a>>>,
    certificates: Vec<CertificateView>,
    workload_state: &'a BTreeMap<String, WorkloadState>,
    config: &'a Value,
    version: &'a VersionInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadView<'a> {
    uid: &'a str,
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
    fn of(workload: &'a Workload) -> Self {
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
struct GatewayView {
    destination: String,
    hbone_mtls_port: u16,
}

impl GatewayView {
    fn of(gateway: &GatewayAddress) -> Self {
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceView<'a> {
    name: &'a str,
    namespace: &'a str,
    hostname: &'a str,
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
struct EndpointView<'a> {
    workload_uid: &'a str,
    port: BTreeMap<u16, u16>,
    status: &'a str,
}

impl<'a> ServiceView<'a> {
    fn of(service: &'a Service, snapshot: &'a Snapshot) -> Self {
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

fn endpoint_entry<'a>(
    (workload, membership): (&'a Arc<Workload>, &'a Membership),
) -> (&'a str, EndpointView<'a>) {
    let port = membership.ports.iter().map(|port| (port.service_port, port.target_port)).collect();
    let status = workload.health().as_str();
    (workload.uid(), EndpointView { workload_uid: workload.uid(), port, status })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateView {
    identity: String,
    state: String,
    cert_chain: Vec<PemView>,
    root_certs: Vec<PemView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PemView {
    /// Base64 of the PEM text.
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

impl CertificateView {
    fn of(status: &IdentityStatus) -> Self {
        let state = match (&status.credentials, &status.error) {
            (Some(_), _) => "Available".to_owned(),
            (None, Some(error)) => format!("Unavailable: {error}"),
            (None, None) => "Initializing".to_owned(),
        };
        let views = |of: fn(&Credentials) -> &[CertificateDer<'static>]| {
            let certificates = status.credentials.as_deref().map(of).unwrap_or_default();
            certificates.iter().filter_map(PemView::of).collect()
        };
        Self {
            identity: status.identity.to_string(),
            state,
            cert_chain: views(Credentials::chain),
            root_certs: views(Credentials::trust_anchors),
        }
    }
}

impl PemView {
    fn of(der: &CertificateDer<'static>) -> Option<Self> {
        let summary = CertificateSummary::of(der)?;
        Some(Self {
            pem: certificate::base64(certificate::to_pem(der).as_bytes()),
            serial_number: summary.serial_number,
            valid_from: summary.valid_from,
            expiration_time: summary.expiration_time,
        })
    }
}

//! What the process knows, as the JSON that `istioctl ztunnel-config` reads.
//!
//! Keys are camelCase; lists are sorted, so that two dumps can be compared; what is at its default is left out where
//! `istioctl` does without it.

mod certificates;
mod policies;
mod services;
#[cfg(test)]
mod tests;
mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_engine::snapshot::Snapshot;
use serde::Serialize;
use serde_json::{Value, json};

use self::certificates::CertificateView;
use self::policies::PolicyView;
use self::services::{EndpointView, ServiceView, endpoint_entry};
use self::workloads::WorkloadView;
use crate::identity::IdentityStatus;

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
    /// What was read from a file at the start, see [`static_config`].
    pub static_config: Value,
    /// What runs.
    pub version: VersionInfo,
}

/// What runs.
#[derive(Default, Debug, Clone, Serialize)]
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
    /// Its trust domain; empty where it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trust_domain: String,
    /// Its service account.
    pub service_account: String,
}

/// Renders a dump, pretty. With 150,000 workloads this takes a while: not for the control thread.
pub fn render(input: &DumpInput) -> Vec<u8> {
    let snapshot = &*input.snapshot;
    let World { workloads, services, policies } = World::of(snapshot);
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
        static_config: &input.static_config,
        version: &input.version,
    };
    serde_json::to_vec_pretty(&dump).expect("plain data serializes")
}

/// What a local file said, for [`DumpInput::static_config`]; of no file with `None`.
pub fn static_config(local: Option<&Snapshot>) -> Value {
    match local.map(|snapshot| serde_json::to_value(World::of(snapshot))) {
        Some(world) => world.expect("plain data serializes"),
        None => json!({"workloads": [], "policies": [], "services": []}),
    }
}

/// What a snapshot holds, sorted.
#[derive(Serialize)]
struct World<'a> {
    workloads: Vec<WorkloadView<'a>>,
    policies: Vec<PolicyView<'a>>,
    services: Vec<ServiceView<'a>>,
}

impl<'a> World<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut workloads: Vec<_> = snapshot.workloads().map(|one| WorkloadView::of(one)).collect();
        workloads.sort_by_key(|one| one.uid);
        let mut services: Vec<_> =
            snapshot.services().map(|one| ServiceView::of(one, snapshot)).collect();
        services.sort_by_key(|one| (one.hostname, one.namespace));
        let mut policies: Vec<_> = snapshot.policies().map(|one| PolicyView::of(one)).collect();
        policies.sort_by_key(|one| (one.namespace, one.name));
        Self { workloads, policies, services }
    }
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
    static_config: &'a Value,
    version: &'a VersionInfo,
}

//! Policies of waypoints: what they say, and what they are attached to.
//!
//! ```text
//! AuthorizationPolicy, RequestAuthentication, RateLimitPolicy, FaultPolicy, DestinationRule, XBackendTrafficPolicy ─┐
//! MeshConfig (who is asked outside) ─▶ PolicyObjects ─ targets, services ─▶ Policies ◀─────────────────────────────┘
//! ```
//!
//! What stands in a policy is honoured or refused by name; a policy that is attached to what is not there is a mistake, or
//! if it is one of the Gateway API's, has a condition that says so.

mod backend_traffic;
mod client_tls;
mod faults;
mod limits;
mod providers;
mod resolve;
mod rules;
mod service;
mod session;
mod targets;
mod tokens;
mod traffic;
mod unenforced;

use std::sync::Arc;

use ringway_http::model::policy::{AuthorizationPolicy, RequestAuthentication, TextMatch};
use ringway_http::model::traffic::{FaultPolicy, TrafficPolicy};

pub(crate) use backend_traffic::{BackendTraffic, backend_traffic_policy};
pub(crate) use faults::fault_policy;
pub(crate) use limits::{RateLimits, rate_limit_policy};
pub(crate) use providers::{ProviderObject, mesh_config};
pub(crate) use resolve::resolve;
pub(crate) use rules::rules;
pub(crate) use session::{SessionObject, session_persistence};
pub(crate) use tokens::request_authentication;
pub(crate) use traffic::destination_rule;
pub(crate) use unenforced::report_unenforced;

use super::context::Context;
use super::diagnostics::{Place, Reporter};
use super::kubernetes::metadata;
use super::security::TargetReference;
use super::yaml::fields::mapping;
use super::yaml::value::Value;

/// Everything that was read of these kinds.
#[derive(Default)]
pub(crate) struct PolicyObjects {
    pub(crate) authorizations: Vec<PolicyObject<AuthorizationPolicy>>,
    pub(crate) authentications: Vec<PolicyObject<RequestAuthentication>>,
    pub(crate) rate_limits: Vec<PolicyObject<RateLimits>>,
    pub(crate) faults: Vec<PolicyObject<FaultPolicy>>,
    pub(crate) traffic: Vec<PolicyObject<TrafficPolicy>>,
    pub(crate) backend_traffic: Vec<PolicyObject<BackendTraffic>>,
    /// External authorizers.
    pub(crate) providers: Vec<ProviderObject>,
}

/// A policy, before it is known whether there is what it is attached to.
pub(crate) struct PolicyObject<P> {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) targets: Vec<TargetReference>,
    pub(crate) policy: P,
}

/// Reads a document of a kind that is always attached; `spec` gives targets and content.
fn object<P>(
    what: &'static str,
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
    spec: impl FnOnce(&Value, &str, &mut Reporter) -> Option<(Vec<TargetReference>, P)>,
) -> Option<PolicyObject<P>> {
    mapping(what, value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let namespace = metadata.as_ref().map_or("default", |metadata| &*metadata.namespace);
        let read = fields.required("spec", |value, reporter| spec(value, namespace, reporter));
        let (metadata, (targets, policy)) = (metadata?, read?);
        let (place, name, namespace) = (metadata.place, metadata.name, metadata.namespace);
        Some(PolicyObject { place, name, namespace, targets, policy })
    })?
}

/// The same in the words of L7.
fn text_match(text: ringway_engine::snapshot::TextMatch) -> TextMatch {
    use ringway_engine::snapshot::TextMatch as Said;
    match text {
        Said::Exact(text) => TextMatch::Exact(text.into()),
        Said::Prefix(text) => TextMatch::Prefix(text.into()),
        Said::Suffix(text) => TextMatch::Suffix(text.into()),
        Said::Presence => TextMatch::Presence,
    }
}

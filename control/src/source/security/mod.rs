//! Istio's `security.istio.io` objects: who may connect to a workload, and whether without an identity.
//!
//! An `AuthorizationPolicy` is read into the form in which a control plane would send it to a node proxy. What a node
//! proxy cannot see (methods, paths, headers, tokens) is told as a warning that says what becomes of the rule; what
//! cannot be understood is a mistake and never left out, because a list that has lost an entry means something else.

mod authorization;
mod peer_authentication;
mod rule;
mod selector;
mod targets;
mod values;

pub(crate) use authorization::{Authorization, authorization_policy};
pub(crate) use peer_authentication::peer_authentication;
#[cfg(feature = "waypoint")]
pub(crate) use rule::{elements, entries, report_two_ways_to_name_accounts};
#[cfg(feature = "waypoint")]
pub(crate) use targets::{TargetReference, target_references};
pub(crate) use values::range;
#[cfg(feature = "waypoint")]
pub(crate) use values::{address, pattern, port, principal, service_account};

use std::sync::Arc;

use ringway_engine::snapshot::AuthorizationPolicy;

use super::diagnostics::Place;
use super::objects::Labels;

/// An AuthorizationPolicy that is for node proxies. Its scope depends on the root namespace, which is not known yet.
pub(crate) struct AuthorizationObject {
    /// Of the name.
    pub(crate) place: Place,
    /// `None`: every workload of the namespace, or of the mesh.
    pub(crate) selector: Option<Labels>,
    pub(crate) policy: AuthorizationPolicy,
}

/// A PeerAuthentication.
pub(crate) struct PeerAuthenticationObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    /// `None`: every workload of the namespace, or of the mesh.
    pub(crate) selector: Option<Labels>,
    /// `None`: whatever is said for more workloads than these.
    pub(crate) mode: Option<MutualTls>,
    /// What differs for single ports of the workload.
    pub(crate) ports: Vec<(u16, MutualTls)>,
}

/// Whether a workload is reached without a tunnel, by clients that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MutualTls {
    /// It is not.
    Strict,
    /// It is.
    Permissive,
}

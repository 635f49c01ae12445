//! The Kubernetes and Istio objects Ringway understands.
//!
//! Each is read as the cluster would: keys that Kubernetes knows and Ringway has no use for are accepted without
//! looking into them, so that the output of `kubectl get -o yaml` can be used as it is; any other key is a mistake.

mod endpoint_slice;
mod metadata;
mod pod;
mod service;
mod service_entry;
mod workload_entry;

pub(crate) use endpoint_slice::endpoint_slice;
#[cfg(feature = "waypoint")]
pub(crate) use metadata::created;
pub(crate) use metadata::{
    ANNOTATIONS, CANARY_WEIGHT, IGNORED, Metadata, TELLS_CLIENT, generation, labels, metadata,
};
pub(crate) use pod::pod;
pub(crate) use service::service;
pub(crate) use service_entry::service_entry;
pub(crate) use workload_entry::{locality, workload_entry};

use super::context::Context;
use super::diagnostics::Reporter;
use super::objects::{NamespaceObject, ServiceAccountObject};
use super::yaml::fields::mapping;
use super::yaml::value::Value;

/// A ServiceAccount matters for its labels.
pub(crate) fn service_account(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<ServiceAccountObject> {
    let metadata = mapping("ServiceAccount", value, reporter, |fields| {
        // What a cluster mounts and pulls with it.
        fields.ignore(&["apiVersion", "kind", "secrets", "imagePullSecrets"]);
        fields.ignore(&["automountServiceAccountToken"]);
        fields.required("metadata", |value, reporter| metadata(value, context, reporter))
    })??;
    Some(ServiceAccountObject {
        place: metadata.place,
        name: metadata.name,
        namespace: metadata.namespace,
        labels: metadata.labels,
    })
}

/// A Namespace matters for its labels.
pub(crate) fn namespace(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<NamespaceObject> {
    let metadata = mapping("Namespace", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "spec", "status"]);
        fields.required("metadata", |value, reporter| metadata(value, context, reporter))
    })??;
    Some(NamespaceObject {
        place: metadata.place,
        name: metadata.name,
        labels: metadata.labels,
        annotations: metadata.annotations,
    })
}

//! The messages of the control plane and of the CNI agent, compiled from `proto/*.proto`.
//!
//! One module per file, each with its messages; a service has a client beside them and, with the feature `test-plane`
//! and in this crate's own tests, a server. Everything here is plain data as it was told: what it means, and what is
//! refused, is for those that read it.

#![allow(missing_docs, reason = "generated; the files in `proto/` say what everything is")]
#![allow(clippy::large_enum_variant, reason = "generated; an `Address` lives for a moment")]

/// `envoy.service.discovery.v3`: how resources are asked for and delivered.
pub mod discovery {
    tonic::include_proto!("envoy.service.discovery.v3");
}

/// `istio.workload`: workloads and services.
pub mod workload {
    tonic::include_proto!("istio.workload");
}

/// `istio.security`: authorization policies.
pub mod security {
    tonic::include_proto!("istio.security");
}

/// `istio.workload.zds`: what the CNI agent tells about pods.
pub mod zds {
    tonic::include_proto!("istio.workload.zds");
}

/// `istio.v1.auth`: the certificate service.
pub mod ca {
    tonic::include_proto!("istio.v1.auth");
}

/// `opentelemetry.proto.collector.trace.v1`: spans of requests, for a collector.
#[cfg(feature = "waypoint")]
pub mod trace {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}

#[cfg(test)]
mod tests;

//! The messages of the control plane and of the CNI agent, and for tests of a SPIFFE agent, compiled from `proto/*.proto`.
//!
//! One module per file, each with its messages; a service has a client beside them and, with the feature `test-plane`
//! and in this crate's own tests, a server. Everything here is plain data as it was told: what it means, and what is
//! refused, is for those that read it.

#![allow(missing_docs, reason = "generated; the files in `proto/` say what everything is")]
#![allow(clippy::module_inception, reason = "generated; one message of a package has its name")]
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

/// The SPIFFE Workload API, which has no package.
#[cfg(any(test, feature = "test-plane"))]
pub mod spiffe {
    tonic::include_proto!("_");
}

/// `opentelemetry.proto.collector.trace.v1`: spans of requests, for a collector.
#[cfg(feature = "waypoint")]
pub mod trace {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}

/// `agentgateway.dev.resource`: listeners, routes and policies of one Gateway.
#[cfg(feature = "waypoint")]
pub use self::agentgateway::dev::resource as agent;

/// Folders as the messages' packages have them: what is made of one file finds what it imports by them.
#[cfg(feature = "waypoint")]
mod agentgateway {
    pub(super) mod dev {
        pub mod resource {
            tonic::include_proto!("agentgateway.dev.resource");
        }
    }
}

#[cfg(feature = "waypoint")]
mod istio {
    pub(super) use super::workload;
}

#[cfg(test)]
mod tests;

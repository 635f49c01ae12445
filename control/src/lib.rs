//! Learns about the world, compiles it into one immutable snapshot, issues certificates, and tells what the engine did.

pub mod admin;
#[cfg(feature = "waypoint")]
pub mod canary;
pub mod cni;
#[cfg(test)]
mod deploy;
pub mod dns;
pub mod environment;
pub mod grpc;
pub mod handover;
pub mod identity;
pub mod import;
pub mod policy;
pub mod profile;
pub mod proto;
pub mod redirect;
pub mod run;
pub mod source;
pub(crate) mod state_files;
pub mod telemetry;
pub mod xds;

//! Resources as they are sent, read into what the engine understands.
//!
//! Nothing is guessed: what is not understood refuses the resource, with a reason for the control plane's log, and the last
//! good one stays in force. A policy above all: an entry left out of a list, or a condition of a kind that is not known,
//! would let in, or shut out, somebody else.
//! The two exceptions are a service's visibility, which is public when it is unknown, and Istio's old tunnel protocol,
//! which makes a workload a plain one: a workload that is not there at all would be worse.

mod gateway;
mod policy;
mod rejection;
mod service;
mod unknown;
mod values;
mod workload;

use prost::Message;
use ringway_engine::snapshot::{AuthorizationPolicy, Service, WorkloadDescription};

pub use self::rejection::Rejection;
#[cfg(feature = "waypoint")]
pub(super) use self::unknown::in_route;
use crate::proto::security::Authorization;
use crate::proto::workload::{Address, address};

/// What an `istio.workload.Address` turns out to be.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and 100,000 are made in a row"
)]
pub enum AddressResource {
    /// A workload.
    Workload {
        /// What is told about it.
        description: WorkloadDescription,
        /// It speaks a tunnel protocol that nobody speaks any more, and is taken for one without.
        is_degraded: bool,
    },
    /// A service.
    Service(Service),
}

/// Reads an `istio.workload.Address`.
///
/// # Errors
/// Why it is refused.
pub fn read_address(bytes: &[u8]) -> Result<AddressResource, Rejection> {
    match Address::decode(bytes).map_err(Rejection::Malformed)?.r#type {
        Some(address::Type::Workload(workload)) => {
            let is_degraded = workload::is_degraded(&workload);
            let description = workload::read(workload)?;
            Ok(AddressResource::Workload { description, is_degraded })
        }
        Some(address::Type::Service(service)) => {
            service::read(service).map(AddressResource::Service)
        }
        None => Err(Rejection::Missing("type")),
    }
}

/// Reads an `istio.security.Authorization`.
///
/// # Errors
/// Why it is refused.
pub fn read_authorization(bytes: &[u8]) -> Result<AuthorizationPolicy, Rejection> {
    let told = Authorization::decode(bytes).map_err(Rejection::Malformed)?;
    unknown::in_authorization(bytes)?;
    policy::read(told)
}

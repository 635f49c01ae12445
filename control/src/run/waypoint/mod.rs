//! The L7 roles: a waypoint, and a gateway.
//!
//! ```text
//!   the nodes' files ─▶ the Gateway that is meant ─▶ its listeners and the routes ─▶ tables, in the snapshot
//!   one workload: this process ─▶ one certificate ─▶ one enrolment, in another role
//!   keys of tokens' issuers, fetched ─▶ tables, in the snapshot
//!   records of requests ─▶ access log, spans
//! ```
//!
//! Each is a process of its own beside the nodes, with an identity of its own: what goes wrong in one tenant's touches
//! neither another's nor anything at L4. Beyond what is said here it is a run from files that serves one workload:
//! the same start, reload, drain and servers.
//!
//! **Invariant:** such a process holds the certificate of its own workload and no other, and captures nothing.

mod failed_open;
mod fetch;
mod keys;
mod lingering;
pub(super) mod options;
mod requests;
mod status;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ringway_engine::{GatewayRole, Role};
pub use ringway_http::model::GatewayName;
use ringway_http::model::{HttpConfig, Listener, ListenerProtocol};
use ringway_http::tables::Tables;
use ringway_http::trace::Tracing;

pub(super) use self::keys::TokenKeys;
pub(super) use self::lingering::Lingering;
pub use self::options::{Kind, L7Options, gateway_name};
pub(super) use self::requests::Requests;
pub(super) use self::status::{refused, status};

use super::error::RunError;
use super::options::OverrideError;
use crate::source::{MeshConfig, OriginalSource, Redirect};

impl L7Options {
    /// Puts what concerns this process into the snapshot of `mesh`, in the form in which it is asked.
    ///
    /// # Errors
    /// When there is no such Gateway, it is of the other kind, or something of it cannot be made ready.
    pub(super) fn prepare(&self, mesh: &mut MeshConfig) -> Result<(), RunError> {
        self.check(&mesh.http).map_err(RunError::Override)?;
        // What is for workloads whose connections are captured.
        mesh.node.redirect = Redirect::None;
        mesh.node.packet_mark = None;
        mesh.node.original_source = OriginalSource::Never;
        mesh.node.dns.capture = false;
        mesh.http = self.narrowed(std::mem::take(&mut mesh.http));
        let tables = Tables::compile(self.own(mesh)).map_err(RunError::Routes)?;
        let snapshot = mesh.snapshot.clone();
        mesh.snapshot = snapshot.with_http(Some(Arc::new(tables)));
        Ok(())
    }

    /// What of `mesh` concerns this process.
    pub(super) fn own(&self, mesh: &MeshConfig) -> HttpConfig {
        let mut http = self.narrowed(mesh.http.clone());
        let own = mesh.enrollments.iter().map(|one| (one.uid.clone(), self.gateway.clone()));
        http.waypoints = own.collect();
        http
    }

    /// What the process's workload is to its connections.
    pub(super) fn role(&self, http: &HttpConfig) -> Role {
        match self.kind {
            Kind::Waypoint => Role::Waypoint,
            Kind::Gateway => {
                let ours = http.listeners.iter().filter(|one| one.key.gateway() == self.gateway);
                let mut ports: Vec<u16> = ours.map(|one| one.port).collect();
                ports.sort_unstable();
                ports.dedup();
                Role::Gateway(Arc::new(GatewayRole { name: self.gateway.clone(), ports }))
            }
        }
    }

    /// What shards do about traces: without a collector they pass.
    pub(super) fn tracing(&self) -> Tracing {
        match &self.traces {
            Some(traces) => Tracing::Spans { share: traces.share },
            None => Tracing::Pass,
        }
    }

    fn check(&self, http: &HttpConfig) -> Result<(), OverrideError> {
        let is_tunnel = |one: &Listener| one.protocol == ListenerProtocol::Hbone;
        let fits = |one: &Listener| match self.kind {
            Kind::Waypoint => is_tunnel(one),
            Kind::Gateway => !is_tunnel(one),
        };
        let mut ours =
            http.listeners.iter().filter(|one| one.key.gateway() == self.gateway).peekable();
        if ours.peek().is_some() {
            return match ours.any(fits) {
                true => Ok(()),
                false => Err(OverrideError::OtherKindOfGateway(self.gateway.clone(), self.kind)),
            };
        }
        let mut known: Vec<_> =
            http.listeners.iter().filter(|one| fits(one)).map(|one| one.key.gateway()).collect();
        known.sort_unstable();
        known.dedup();
        Err(OverrideError::UnknownGateway { name: self.gateway.clone(), kind: self.kind, known })
    }

    /// Without the listeners of other processes, and their keys. Routes that nothing leads to cost nothing.
    fn narrowed(&self, mut http: HttpConfig) -> HttpConfig {
        http.listeners.retain(|one| one.key.gateway() == self.gateway);
        http
    }
}

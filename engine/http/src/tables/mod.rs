//! What a shard asks for each request: compiled once for each configuration, then only read.
//!
//! ```text
//!  for_service(service, port, client) ──────────────────┐
//!  for_listener(gateway, port, host) ── hosts ── own ───┴─▶ RouteTable ── hosts ── paths ── candidates ─▶ Found
//! ```
//!
//! Each arrow is a look-up by hash, or a walk along the request's own path. **Invariant:** what a look-up costs
//! depends on the request, and on the rules that share its host and path; never on how many services, hosts and other
//! paths there are.

mod compile;
mod error;
mod hosts;
mod listener;
mod paths;
mod rule;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::head::RequestHead;
use crate::model::{GatewayName, ServiceName};
use crate::path::PathMode;
use crate::policies::PolicyTables;

pub use self::compile::check_route;
pub use self::error::{CompileError, CompileErrors, Mistake};
pub use self::listener::{ListenerTable, Misdirected, PortTable};
pub use self::rule::{Found, RouteRule};

use self::hosts::HostMap;
use self::paths::PathTable;
use self::service::ServiceTable;

/// Everything that is configured at L7, ready to be asked.
#[derive(Debug, Default)]
pub struct Tables {
    paths: PathMode,
    services: HashMap<ServiceName, ServiceTable>,
    gateways: HashMap<GatewayName, HashMap<u16, PortTable>>,
    rules: Vec<Arc<RouteRule>>,
    waypoints: HashMap<Arc<str>, GatewayName>,
    tells_client: HashSet<GatewayName>,
    policies: PolicyTables,
}

/// What is attached to a port of a service, for a client.
#[derive(Clone, Copy, Debug)]
pub enum Attached<'t> {
    /// Nothing: what comes is passed through.
    None,
    /// Routes. What none of them matches is answered with 404.
    Routes(&'t RouteTable),
}

/// What is attached to a port of a service for whole connections.
#[derive(Clone, Copy, Debug)]
pub enum AttachedStream<'t> {
    /// Nothing: they are passed through.
    None,
    /// This rule; of two, the older one.
    Rule(&'t Arc<RouteRule>),
    /// There are routes, and none is for this server name: they are closed.
    NoMatch,
}

impl Tables {
    /// How paths are put into order: of each request, before it is looked for.
    pub fn paths(&self) -> PathMode {
        self.paths
    }

    /// Whether a workload that is a waypoint tells backends which client asks.
    pub fn tells_client(&self, workload: &str) -> bool {
        let gateway = self.waypoints.get(workload);
        gateway.is_some_and(|gateway| self.tells_client.contains(gateway))
    }

    /// What is attached to a port of a service for the requests of clients in a namespace. Their own (consumer) routes
    /// go before the service's.
    pub fn for_service(
        &self,
        service: &ServiceName,
        port: u16,
        client_namespace: Option<&str>,
    ) -> Attached<'_> {
        let table = self.services.get(service).and_then(|it| it.http(port, client_namespace));
        table.map_or(Attached::None, Attached::Routes)
    }

    /// What is attached to a port of a service for connections that are not HTTP to us.
    pub fn for_service_stream(
        &self,
        service: &ServiceName,
        port: u16,
        client_namespace: Option<&str>,
        server_name: Option<&str>,
    ) -> AttachedStream<'_> {
        let Some(service) = self.services.get(service) else { return AttachedStream::None };
        service.stream(port, client_namespace, server_name)
    }

    /// A port of a Gateway: everything that listens there.
    pub fn for_port(&self, gateway: &GatewayName, port: u16) -> Option<&PortTable> {
        self.gateways.get(gateway)?.get(&port)
    }

    /// The listener that a request for `host` belongs to: the most specific one, and no other.
    pub fn for_listener(
        &self,
        gateway: &GatewayName,
        port: u16,
        host: &str,
    ) -> Option<&ListenerTable> {
        self.for_port(gateway, port)?.by_host(host)
    }

    /// The ports of a Gateway, in order.
    pub fn ports(&self, gateway: &GatewayName) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .gateways
            .get(gateway)
            .into_iter()
            .flat_map(|ports| ports.keys().copied())
            .collect();
        ports.sort_unstable();
        ports
    }

    /// The Gateway that a workload is a waypoint of.
    pub fn gateway_of(&self, workload: &str) -> Option<&GatewayName> {
        self.waypoints.get(workload)
    }

    /// Who may, how often, and how it is passed on.
    pub fn policies(&self) -> &PolicyTables {
        &self.policies
    }

    /// All rules; a rule's place is its [`RouteRule::id`].
    pub fn rules(&self) -> &[Arc<RouteRule>] {
        &self.rules
    }
}

/// The rules that a request can meet at one place.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HostMap<PathTable>,
}

impl RouteTable {
    /// The rule for a request. None: 404.
    ///
    /// The hosts of routes first, the more specific before the less; then, over all routes of a host: exact paths,
    /// longer prefixes, longer expressions, everything; then who asks for a method, for more headers, for more
    /// parameters; then the older route, and the rule that stands first.
    ///
    /// A prefix of `/` says no more about a path than nothing does, so expressions go before it.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<Found<'_>> {
        self.hosts.find(head.host(), |paths| paths.find(head))
    }
}

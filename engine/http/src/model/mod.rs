//! What is configured at L7, whoever told it: plain values.
//!
//! They say what the standard's documents say (Gateway API 1.6, Istio's security API), without the documents'
//! shorthands: names are whole, defaults are filled in, references are resolved to what they mean or to why they
//! mean nothing.

mod backend;
mod filter;
mod listener;
pub mod policy;
mod route;
pub mod traffic;

use std::fmt;
use std::sync::Arc;

use crate::path::PathMode;

pub use self::backend::{Backend, BackendTarget};
pub use self::filter::{
    Cors, Filter, HeaderChange, HeaderChanges, Mirror, OriginMatch, PathChange, Redirect, Rewrite,
};
pub use self::listener::{
    ClientCertificates, ClientDemand, GatewayName, HostPattern, Listener, ListenerKey,
    ListenerProtocol, ListenerTls,
};
pub use self::route::{
    Match, NamedMatch, Parent, PathMatch, Retry, Route, RouteKind, RouteName, Rule, Timeouts,
    ValueMatch, WeightedBackend, whole,
};

/// Everything that is configured at L7 for one process.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// Where requests come in, beside the waypoint's own HBONE port.
    pub listeners: Vec<Listener>,
    /// In order of age: of two routes that match alike, the first wins.
    pub routes: Vec<Route>,
    /// Which workloads, by their ids in the snapshot, are waypoints, and of which Gateway.
    pub waypoints: Vec<(Arc<str>, GatewayName)>,
    /// Who may, how often, and how it is passed on.
    pub policies: policy::Policies,
    /// How paths are put into order, of requests and of what is configured alike.
    pub paths: PathMode,
    /// Gateways whose backends are told which client asks.
    pub tells_client: Vec<GatewayName>,
}

/// A service by namespace and hostname, as in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The whole hostname, `reviews.default.svc.cluster.local`.
    pub hostname: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

//! The kinds of the Gateway API: where requests come in, and which of them goes where.
//!
//! ```text
//! Gateway, HTTPRoute, … ─▶ objects ─▶ compile   ─▶ HttpConfig, and what became of each object (status)
//!                              └────▶ waypoints ─▶ the waypoint before each service and workload
//! ```
//!
//! What a cluster would refuse to store is a mistake, with its place. What it would store and then say about in conditions
//! (a backend that does not exist, a listener that does not admit the route) has the standard's effect, its condition,
//! and a warning with its place.
//!
//! A node proxy uses only what says where waypoints are. It reads the rest all the same, so that one directory serves
//! every role; a program without L7 accepts it unread.

mod gateways;
#[cfg_attr(
    not(feature = "waypoint"),
    allow(dead_code, reason = "read for their mistakes; nothing of a node's depends on the rest")
)]
mod objects;
mod tls;
mod values;
mod waypoints;

#[cfg(feature = "waypoint")]
mod backend_tls;
#[cfg(feature = "waypoint")]
mod compile;
#[cfg(feature = "waypoint")]
mod filters;
#[cfg(feature = "waypoint")]
mod grant;
#[cfg(feature = "waypoint")]
mod grpc_route;
#[cfg(feature = "waypoint")]
mod http_route;
#[cfg(feature = "waypoint")]
mod listener_set;
#[cfg(feature = "waypoint")]
mod matches;
#[cfg(feature = "waypoint")]
mod references;
#[cfg(feature = "waypoint")]
mod route;
#[cfg(feature = "waypoint")]
mod secrets;
#[cfg(feature = "waypoint")]
mod status;
#[cfg(feature = "waypoint")]
mod stream_route;

#[cfg(feature = "waypoint")]
pub(crate) use compile::{Fronted, Given, HttpCompiled, Registry, compile};
pub(crate) use objects::GatewayObjects;
#[cfg(feature = "waypoint")]
pub(crate) use secrets::read as read_file;
#[cfg(feature = "waypoint")]
pub use status::{Condition, ListenerStatus, ObjectStatus, ParentStatus, status_as_json};
#[cfg(feature = "waypoint")]
pub(crate) use values::GATEWAY_GROUP;
pub(crate) use waypoints::{BeforeService, Placed, Waypoints};

use std::path::Path;

use super::context::Context;
use super::diagnostics::{Place, Reporter};
use super::yaml::value::Value;

/// The kinds that are read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GatewayKind {
    Gateway,
    GatewayClass,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    ReferenceGrant,
    Secret,
    ConfigMap,
    BackendTlsPolicy,
    ListenerSet,
    XListenerSet,
}

/// `None`: it could not be read, which was reported.
pub(crate) fn read(
    kind: GatewayKind,
    value: &Value,
    #[cfg_attr(not(feature = "waypoint"), allow(unused, reason = "Secrets are read at L7"))]
    directory: &Path,
    context: &mut Context,
    objects: &mut GatewayObjects,
    reporter: &mut Reporter,
) -> Option<()> {
    match kind {
        GatewayKind::Gateway => {
            objects.gateways.push(gateways::gateway(value, context, reporter)?);
        }
        GatewayKind::GatewayClass => {
            objects.classes.push(gateways::gateway_class(value, context, reporter)?);
        }
        #[cfg(feature = "waypoint")]
        kind => return read_l7(kind, value, directory, context, objects, reporter),
        #[cfg(not(feature = "waypoint"))]
        _ => {}
    }
    Some(())
}

#[cfg(feature = "waypoint")]
fn read_l7(
    kind: GatewayKind,
    value: &Value,
    directory: &Path,
    context: &mut Context,
    objects: &mut GatewayObjects,
    reporter: &mut Reporter,
) -> Option<()> {
    let route = match kind {
        GatewayKind::HttpRoute => http_route::http_route(value, context, reporter)?,
        GatewayKind::GrpcRoute => grpc_route::grpc_route(value, context, reporter)?,
        GatewayKind::TlsRoute => stream_route::tls_route(value, context, reporter)?,
        GatewayKind::TcpRoute => stream_route::tcp_route(value, context, reporter)?,
        GatewayKind::ReferenceGrant => {
            objects.grants.push(grant::reference_grant(value, context, reporter)?);
            return Some(());
        }
        GatewayKind::Secret => {
            objects.secrets.push(secrets::secret(value, directory, context, reporter)?);
            return Some(());
        }
        GatewayKind::ConfigMap => {
            objects.secrets.push(secrets::config_map(value, directory, context, reporter)?);
            return Some(());
        }
        GatewayKind::BackendTlsPolicy => {
            let policy = backend_tls::backend_tls_policy(value, context, reporter)?;
            objects.backend_tls.push(policy);
            return Some(());
        }
        GatewayKind::ListenerSet | GatewayKind::XListenerSet => {
            let kind = match kind {
                GatewayKind::XListenerSet => (values::GATEWAY_X_GROUP, "XListenerSet"),
                _ => (GATEWAY_GROUP, "ListenerSet"),
            };
            objects.sets.push(listener_set::listener_set(kind, value, context, reporter)?);
            return Some(());
        }
        GatewayKind::Gateway | GatewayKind::GatewayClass => return Some(()),
    };
    objects.routes.push(route);
    Some(())
}

/// Namespaces, names and places of objects.
type Paths<'o> = Vec<((&'o str, &'o str), Place)>;

/// Calls `each` with the names of the objects of every kind: of one kind, no two may be the same.
pub(crate) fn paths<'o>(objects: &'o GatewayObjects, mut each: impl FnMut(&str, Paths<'o>)) {
    let gateways = objects.gateways.iter();
    each("Gateways", gateways.map(|one| ((&*one.namespace, &*one.name), one.place)).collect());
    #[cfg(feature = "waypoint")]
    {
        use ringway_http::model::RouteKind::{Grpc, Http, Tcp, Tls};
        let kinds =
            [(Http, "HTTPRoutes"), (Grpc, "GRPCRoutes"), (Tls, "TLSRoutes"), (Tcp, "TCPRoutes")];
        for (kind, what) in kinds {
            let routes = objects.routes.iter().filter(|route| route.kind == kind);
            each(what, routes.map(|one| ((&*one.namespace, &*one.name), one.place)).collect());
        }
        let policies = objects.backend_tls.iter();
        let policies = policies.map(|one| ((&*one.namespace, &*one.name), one.place));
        each("BackendTLSPolicies", policies.collect());
        for (kind, what) in [("ListenerSet", "ListenerSets"), ("XListenerSet", "XListenerSets")] {
            let sets = objects.sets.iter().filter(|set| set.kind == kind);
            each(what, sets.map(|one| ((&*one.namespace, &*one.name), one.place)).collect());
        }
        for (kind, what) in [("Secret", "Secrets"), ("ConfigMap", "ConfigMaps")] {
            let secrets = objects.secrets.iter().filter(|secret| secret.kind == kind);
            each(what, secrets.map(|one| ((&*one.namespace, &*one.name), one.place)).collect());
        }
    }
}

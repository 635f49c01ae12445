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
mod values;
mod waypoints;

#[cfg(feature = "waypoint")]
mod compile;
#[cfg(feature = "waypoint")]
mod filters;
#[cfg(feature = "waypoint")]
mod grant;
#[cfg(feature = "waypoint")]
mod http_route;
#[cfg(feature = "waypoint")]
mod matches;
#[cfg(feature = "waypoint")]
mod references;
#[cfg(feature = "waypoint")]
mod status;

#[cfg(feature = "waypoint")]
pub(crate) use compile::{Given, HttpCompiled, compile};
pub(crate) use objects::GatewayObjects;
#[cfg(feature = "waypoint")]
pub use status::{Condition, ListenerStatus, ObjectStatus, ParentStatus};
pub(crate) use waypoints::{BeforeService, CANARY_WEIGHT, Placed, Waypoints};

use super::diagnostics::Reporter;
use super::kubernetes::Context;
use super::yaml::value::Value;

/// The kinds that are read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GatewayKind {
    Gateway,
    GatewayClass,
    HttpRoute,
    ReferenceGrant,
}

/// `None`: it could not be read, which was reported.
pub(crate) fn read(
    kind: GatewayKind,
    value: &Value,
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
        GatewayKind::HttpRoute => {
            objects.routes.push(http_route::http_route(value, context, reporter)?);
        }
        #[cfg(feature = "waypoint")]
        GatewayKind::ReferenceGrant => {
            objects.grants.push(grant::reference_grant(value, context, reporter)?);
        }
        #[cfg(not(feature = "waypoint"))]
        GatewayKind::HttpRoute | GatewayKind::ReferenceGrant => {}
    }
    Some(())
}

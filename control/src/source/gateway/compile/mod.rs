//! What the Gateway API's objects mean together: an [`HttpConfig`], and conditions for each object.
//!
//! Nothing here is an error. Where an object asks for what is not there, the standard says what happens to its requests,
//! and its conditions say why.

mod admission;
mod authorities;
mod backend_tls;
mod backends;
mod certificates;
mod clients;
mod conflicts;
mod gateways;
mod known_gateway;
mod known_listener;
mod parents;
mod references;
mod registry;
mod routes;
mod served;
mod sets;

use ringway_http::model::{GatewayName, HttpConfig, Route};

use super::status::{Condition, ObjectStatus};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::gateway::objects::{GatewayClassObject, GatewayObjects};
use crate::source::local::LocalObjects;
use crate::source::objects::{NamespaceObject, ServiceObject};
use crate::source::policy::{self, PolicyObjects};
use backend_tls::BackendTlsCompiler;
use gateways::Gateways;
pub(crate) use registry::Registry;
use routes::RouteCompiler;
use served::Served;

/// The result.
#[derive(Default)]
pub(crate) struct HttpCompiled {
    pub(crate) http: HttpConfig,
    pub(crate) status: Vec<ObjectStatus>,
}

/// What is compiled, and what it refers to.
pub(crate) struct Given<'o> {
    pub(crate) services: &'o [ServiceObject],
    pub(crate) namespaces: &'o [NamespaceObject],
    pub(crate) gateway: &'o GatewayObjects,
    pub(crate) policies: &'o PolicyObjects,
    pub(crate) root_namespace: &'o str,
    pub(crate) local: &'o LocalObjects,
    pub(crate) cluster_domain: &'o str,
    pub(crate) fronted: &'o [Fronted],
}

/// A Service that a waypoint stands before.
pub(crate) struct Fronted {
    pub(crate) namespace: std::sync::Arc<str>,
    pub(crate) name: std::sync::Arc<str>,
    pub(crate) waypoint: GatewayName,
}

/// Compiles all objects.
pub(crate) fn compile(given: &Given<'_>, reporter: &mut Reporter) -> HttpCompiled {
    let registry = Registry::new(given);
    let mut gateways = Gateways::new(given.gateway, &registry, reporter);
    let mut status: Vec<ObjectStatus> =
        given.gateway.classes.iter().filter_map(class_status).collect();
    let mut routes: Vec<Route> = Vec::new();
    let mut of_routes = Vec::new();
    let mut compiler = RouteCompiler { registry: &registry, gateways: &mut gateways, reporter };
    for object in routes::by_age(&given.gateway.routes) {
        let (route, status) = compiler.route(object);
        routes.extend(route);
        of_routes.push(status);
    }
    let mut compiler = BackendTlsCompiler {
        registry: &registry,
        gateways: &mut gateways,
        routes: &routes,
        fronted: given.fronted,
        reporter,
    };
    let (mut traffic, of_backend_tls) = compiler.compile(&given.gateway.backend_tls);
    status.extend(gateways.status(&registry));
    status.extend(of_routes);
    status.extend(of_backend_tls);
    let root = given.root_namespace;
    let (mut policies, of_policies) =
        policy::resolve(given.policies, given.gateway, &registry, root, reporter);
    status.extend(of_policies);
    // Of what two policies say for one target, the first counts: a DestinationRule says no more of TLS there.
    traffic.append(&mut policies.traffic);
    policies.traffic = traffic;
    let telling = given.gateway.gateways.iter().filter(|gateway| gateway.tells_client);
    let tells_client = telling
        .map(|gateway| GatewayName {
            namespace: gateway.namespace.clone(),
            name: gateway.name.clone(),
        })
        .collect();
    let listeners = gateways.into_listeners();
    HttpCompiled {
        http: HttpConfig { listeners, routes, policies, tells_client, ..HttpConfig::default() },
        status,
    }
}

/// Only of classes that are ours: what others look after is theirs to say.
fn class_status(class: &GatewayClassObject) -> Option<ObjectStatus> {
    Served::by_controller(&class.controller)?;
    Some(ObjectStatus {
        kind: "GatewayClass",
        namespace: "".into(),
        name: class.name.clone(),
        generation: class.generation,
        conditions: vec![Condition::good("Accepted", "Accepted")],
        listeners: Vec::new(),
        attached_sets: None,
        parents: Vec::new(),
    })
}

/// Tells what a condition says, where in the files it was caused.
fn warn(
    place: crate::source::diagnostics::Place,
    message: &str,
    help: Option<String>,
    reporter: &mut Reporter,
) {
    reporter.report(Problem::warning(place, message).help(help));
}

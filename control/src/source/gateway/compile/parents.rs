//! To what a route attaches.

use ringway_http::model::{HostPattern, Parent, RouteKind};

use super::backends::ISTIO_NETWORKING;
use super::gateways::Gateways;
use super::known_gateway::KnownGateway;
use super::known_listener::{KnownListener, intersect, kind_name};
use super::registry::{KnownService, Registry};
use crate::source::did_you_mean;
use crate::source::gateway::objects::routed::{
    ListenerSetObject, ParentReference, Reference, RouteObject,
};
use crate::source::gateway::values::{GATEWAY_GROUP, GATEWAY_X_GROUP};

/// Why a route does not attach.
pub(super) struct Refused {
    /// One word of the standard.
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Refused {
    fn new(reason: &'static str, message: impl Into<String>) -> Refused {
        Refused { reason, message: message.into(), help: None }
    }
}

/// `None`: the parent is another's to look after.
pub(super) fn attach(
    route: &RouteObject,
    reference: &ParentReference,
    registry: &Registry<'_>,
    gateways: &mut Gateways<'_>,
) -> Option<Result<Vec<Parent>, Refused>> {
    let to = &reference.to;
    match (&*to.group, &*to.kind) {
        (GATEWAY_GROUP, "Gateway") => to_gateway(route, reference, registry, gateways),
        (GATEWAY_GROUP, "ListenerSet") | (GATEWAY_X_GROUP, "XListenerSet") => {
            to_set(route, reference, registry, gateways)
        }
        ("", "Service") => {
            let known = registry.service(&to.namespace, &to.name);
            let known = known.into_iter().collect::<Vec<_>>();
            Some(to_services(route, reference, &known, registry))
        }
        (ISTIO_NETWORKING, "ServiceEntry") => {
            let known = registry.entry(&to.namespace, &to.name);
            Some(to_services(route, reference, &known, registry))
        }
        (_, kind) => {
            let message = format!("nothing attaches to an object of the kind `{kind}`");
            let help =
                "routes attach to a Gateway, a ListenerSet, a Service or a ServiceEntry".to_owned();
            Some(Err(Refused { help: Some(help), ..Refused::new("NoMatchingParent", message) }))
        }
    }
}

fn to_gateway(
    route: &RouteObject,
    reference: &ParentReference,
    registry: &Registry<'_>,
    gateways: &mut Gateways<'_>,
) -> Option<Result<Vec<Parent>, Refused>> {
    let to = &reference.to;
    let Some(gateway) = gateways.get(&to.namespace, &to.name) else {
        let message =
            format!("there is no Gateway `{}` in the namespace `{}`", to.name, to.namespace);
        let help = did_you_mean(&to.name, gateways.names(&to.namespace));
        return Some(Err(Refused { help, ..Refused::new("NoMatchingParent", message) }));
    };
    to_listeners(route, reference, registry, gateway, None)
}

fn to_set(
    route: &RouteObject,
    reference: &ParentReference,
    registry: &Registry<'_>,
    gateways: &mut Gateways<'_>,
) -> Option<Result<Vec<Parent>, Refused>> {
    let to = &reference.to;
    let help = did_you_mean(&to.name, gateways.set_names(&to.namespace));
    let missing = |message: String, help| {
        Some(Err(Refused { help, ..Refused::new("NoMatchingParent", message) }))
    };
    let Some((set, gateway)) = gateways.set(to) else {
        let message =
            format!("there is no {} `{}` in the namespace `{}`", to.kind, to.name, to.namespace);
        return missing(message, help);
    };
    match gateway {
        Some(gateway) if gateway.served.is_none() || gateway.has(set) => {
            to_listeners(route, reference, registry, gateway, Some(set))
        }
        _ => {
            let message = format!("the {} `{}` is attached to no Gateway", to.kind, to.name);
            missing(message, None)
        }
    }
}

/// To listeners of the Gateway itself, or to those of a set; `None`: they are another's.
fn to_listeners(
    route: &RouteObject,
    reference: &ParentReference,
    registry: &Registry<'_>,
    gateway: &mut KnownGateway<'_>,
    set: Option<&ListenerSetObject>,
) -> Option<Result<Vec<Parent>, Refused>> {
    let to = &reference.to;
    gateway.served?;
    let labels = registry.namespace_labels(&route.namespace);
    let is_meant = |listener: &KnownListener<'_>| {
        listener.is_in(set)
            && reference.section.as_ref().is_none_or(|name| *name == listener.object.name)
            && reference.port.is_none_or(|port| port == listener.object.port)
    };
    let admits = |listener: &KnownListener<'_>| {
        let from = &listener.object.from;
        listener.admits_kind(route.kind)
            && from.admits(listener.namespace, &route.namespace, Some(&labels))
    };
    let meant = || gateway.listeners.iter().filter(|each| is_meant(each));
    if meant().next().is_none() {
        let message = format!("the {} `{}` has no such listener", to.kind, to.name);
        return Some(Err(Refused::new("NoMatchingParent", message)));
    }
    let admitting = || meant().filter(|each| admits(each));
    if admitting().next().is_none() {
        return Some(Err(not_admitted(
            route,
            to,
            meant().any(|each| each.admits_kind(route.kind)),
        )));
    }
    let serves = |listener: &KnownListener<'_>| is_for(listener, route);
    if !admitting().any(serves) {
        let message =
            format!("no listener of the {} `{}` is for a hostname of this route", to.kind, to.name);
        return Some(Err(Refused::new("NoMatchingListenerHostname", message)));
    }
    let served =
        |listener: &KnownListener<'_>| is_meant(listener) && admits(listener) && serves(listener);
    let keys = gateway.listeners.iter().filter(|each| served(each) && each.is_served());
    let parents = keys.map(|each| Parent::Listener(gateway.key(each))).collect();
    for listener in gateway.listeners.iter_mut().filter(|each| served(each)) {
        listener.attach();
    }
    Some(Ok(parents))
}

fn not_admitted(route: &RouteObject, to: &Reference, kind_fits: bool) -> Refused {
    let (kind, namespace) = (kind_name(route.kind), &route.namespace);
    let Reference { kind: parent, name, .. } = to;
    let (message, help) = match kind_fits {
        true => (
            format!("no listener of the {parent} `{name}` admits routes of the namespace `{namespace}`"),
            Some("see `allowedRoutes.namespaces` of the listeners: alone they admit routes of their own namespace only".to_owned()),
        ),
        false => (format!("no listener of the {parent} `{name}` admits a {kind}"), None),
    };
    Refused { help, ..Refused::new("NotAllowedByListeners", message) }
}

/// Whether some host is both the listener's and the route's. A TCPRoute has no hosts.
fn is_for(listener: &KnownListener<'_>, route: &RouteObject) -> bool {
    let Some(own) = listener.hostname.as_ref().filter(|_| route.kind != RouteKind::Tcp) else {
        return true;
    };
    let fits = |host: &HostPattern| intersect(own, host);
    route.hostnames.is_empty() || route.hostnames.iter().any(fits)
}

fn to_services(
    route: &RouteObject,
    reference: &ParentReference,
    known: &[&KnownService],
    registry: &Registry<'_>,
) -> Result<Vec<Parent>, Refused> {
    let to = &reference.to;
    if known.is_empty() {
        let message =
            format!("there is no {} `{}` in the namespace `{}`", to.kind, to.name, to.namespace);
        let help = did_you_mean(&to.name, registry.service_names(&to.namespace));
        return Err(Refused { help, ..Refused::new("NoMatchingParent", message) });
    }
    if reference.section.is_some() {
        let message = format!("a {} is named with its port, not with `sectionName`", to.kind);
        return Err(Refused::new("UnsupportedValue", message));
    }
    if let Some(port) = reference.port
        && !known.iter().any(|service| service.ports.contains(&port))
    {
        let message = format!("the {} `{}` has no port {port}", to.kind, to.name);
        return Err(Refused::new("NoMatchingParent", message));
    }
    // Of another namespace than the service's, it is a wish of clients there and binds nobody else.
    let clients_of = (route.namespace != to.namespace).then(|| route.namespace.clone());
    let parents = known.iter().map(|service| Parent::Service {
        service: service.name.clone(),
        port: reference.port,
        clients_of: clients_of.clone(),
    });
    Ok(parents.collect())
}

//! Gateways and their listeners: which are served, and what attaches to them.

use std::collections::HashMap;

use ringway_http::model::{
    HostPattern, Listener, ListenerKey, ListenerProtocol, ListenerTls, RouteKind,
};

use super::super::route::host_pattern;
use super::super::status::{Condition, ListenerStatus, ObjectStatus};
use super::super::values::GATEWAY_GROUP;
use super::certificates::{Referrer, TlsFound, Unresolved, listener_tls};
use super::conflicts::conflict;
use super::registry::Registry;
use super::{sets, warn};
use crate::source::diagnostics::Reporter;
use crate::source::gateway::objects::routed::{ListenerSetObject, Reference};
use crate::source::gateway::objects::{
    Addressed, GatewayObject, GatewayObjects, ListenerObject, SpokenAtListener, ValidationMode,
};

/// What a Gateway is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// A waypoint.
    Waypoint,
    /// An ingress gateway.
    Gateway,
}

/// Classes that need no GatewayClass, by name.
const CLASSES: &[(&str, Served)] = &[
    ("ringway", Served::Gateway),
    ("istio", Served::Gateway),
    ("istio-agentgateway", Served::Gateway),
    ("ringway-waypoint", Served::Waypoint),
    ("istio-waypoint", Served::Waypoint),
    ("istio-agentgateway-waypoint", Served::Waypoint),
];

/// Whose Gateways we serve, by the controller that their class names.
const CONTROLLERS: &[(&str, Served)] = &[
    ("ringway.dev/gateway-controller", Served::Gateway),
    ("istio.io/gateway-controller", Served::Gateway),
    ("istio.io/agentgateway-controller", Served::Gateway),
    ("ringway.dev/waypoint-controller", Served::Waypoint),
    ("istio.io/mesh-controller", Served::Waypoint),
    ("istio.io/agentgateway-waypoint-controller", Served::Waypoint),
];

impl Served {
    pub(super) fn by_controller(controller: &str) -> Option<Served> {
        CONTROLLERS.iter().find(|(name, _)| *name == controller).map(|(_, served)| *served)
    }

    fn of(class: &str, objects: &GatewayObjects) -> Option<Served> {
        match objects.classes.iter().find(|object| *object.name == *class) {
            Some(object) => Served::by_controller(&object.controller),
            None => CLASSES.iter().find(|(name, _)| *name == class).map(|(_, served)| *served),
        }
    }
}

/// All Gateways, with the ListenerSets that add to them.
pub(super) struct Gateways<'o> {
    gateways: Vec<KnownGateway<'o>>,
    by_name: HashMap<(&'o str, &'o str), usize>,
    sets: &'o [ListenerSetObject],
}

/// A Gateway.
pub(super) struct KnownGateway<'o> {
    pub(super) object: &'o GatewayObject,
    /// `None`: another's.
    pub(super) served: Option<Served>,
    /// Its own, then those of its sets, by precedence.
    pub(super) listeners: Vec<KnownListener<'o>>,
    /// Those it admits, by precedence.
    sets: Vec<&'o ListenerSetObject>,
}

/// A listener of it.
pub(super) struct KnownListener<'o> {
    pub(super) object: &'o ListenerObject,
    /// What it stands in, unless that is the Gateway.
    pub(super) set: Option<&'o ListenerSetObject>,
    /// Of the Gateway, or of the set.
    pub(super) namespace: &'o str,
    pub(super) hostname: Option<HostPattern>,
    /// The kinds of routes that may attach.
    kinds: Vec<RouteKind>,
    /// A kind is named that may not.
    invalid_kinds: Option<String>,
    /// Why it is not served.
    refused: Option<Condition>,
    conflict: Option<Condition>,
    /// `None`: it has no TLS.
    tls: Option<TlsFound>,
    attached: usize,
}

impl<'o> Gateways<'o> {
    pub(super) fn new(
        objects: &'o GatewayObjects,
        registry: &Registry<'_>,
        reporter: &mut Reporter,
    ) -> Gateways<'o> {
        let gateways: Vec<KnownGateway<'o>> = objects
            .gateways
            .iter()
            .map(|object| KnownGateway::new(object, objects, registry))
            .collect();
        for gateway in &gateways {
            gateway.report(reporter);
        }
        let names = gateways.iter().map(|each| (&*each.object.namespace, &*each.object.name));
        let by_name = names.zip(0..).collect();
        let gateways = Gateways { gateways, by_name, sets: &objects.sets };
        for set in gateways.sets {
            sets::report(set, gateways.of(set), registry, reporter);
        }
        gateways
    }

    /// The Gateway that a set names.
    fn of(&self, set: &ListenerSetObject) -> Option<&KnownGateway<'o>> {
        let index = self.by_name.get(&set.gateway()?)?;
        self.gateways.get(*index)
    }

    /// The ListenerSet of this name, if there is one, with the Gateway that it names.
    pub(super) fn set(
        &mut self,
        to: &Reference,
    ) -> Option<(&'o ListenerSetObject, Option<&mut KnownGateway<'o>>)> {
        let set = self.sets.iter().find(|set| {
            (set.group, set.kind, &set.namespace, &set.name)
                == (&*to.group, &*to.kind, &to.namespace, &to.name)
        })?;
        let gateway = set.gateway().and_then(|(namespace, name)| self.get(namespace, name));
        Some((set, gateway))
    }

    /// The names of a namespace's sets, for a suggestion.
    pub(super) fn set_names(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.sets.iter().filter(move |set| *set.namespace == *namespace).map(|set| &*set.name)
    }

    pub(super) fn get(&mut self, namespace: &str, name: &str) -> Option<&mut KnownGateway<'o>> {
        let index = self.by_name.get(&(namespace, name))?;
        self.gateways.get_mut(*index)
    }

    /// The names of a namespace's Gateways, for a suggestion.
    pub(super) fn names(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.by_name.keys().filter(move |(own, _)| *own == namespace).map(|(_, name)| *name)
    }

    pub(super) fn status(&self, registry: &Registry<'_>) -> Vec<ObjectStatus> {
        let ours = self.gateways.iter().filter(|gateway| gateway.served.is_some());
        let sets = self.sets.iter().filter_map(|set| sets::status(set, self.of(set), registry));
        ours.map(KnownGateway::status).chain(sets).collect()
    }

    pub(super) fn into_listeners(self) -> Vec<Listener> {
        let ours = self.gateways.into_iter().filter(|gateway| gateway.served.is_some());
        ours.flat_map(|gateway| {
            let object = gateway.object;
            let served = gateway.listeners.into_iter().filter(KnownListener::is_served);
            served.filter_map(|listener| listener.listener(object))
        })
        .collect()
    }
}

impl<'o> KnownGateway<'o> {
    fn new(
        object: &'o GatewayObject,
        objects: &'o GatewayObjects,
        registry: &Registry<'_>,
    ) -> KnownGateway<'o> {
        let served = Served::of(&object.class, objects);
        let sets = sets::admitted(object, served, objects, registry);
        let known = |each: &'o ListenerObject, set: Option<&'o ListenerSetObject>| {
            let referrer = match set {
                None => {
                    Referrer { group: GATEWAY_GROUP, kind: "Gateway", namespace: &object.namespace }
                }
                Some(set) => {
                    Referrer { group: set.group, kind: set.kind, namespace: &set.namespace }
                }
            };
            let tls = listener_tls(object, referrer, each, registry);
            KnownListener::new(each, (set, referrer.namespace), served, tls)
        };
        let own = object.listeners.iter().map(|each| known(each, None));
        let further = sets.iter().flat_map(|set| {
            let known = &known;
            set.listeners.iter().map(move |each| known(each, Some(set)))
        });
        let mut listeners: Vec<KnownListener<'o>> = own.chain(further).collect();
        for at in 0..listeners.len() {
            listeners[at].conflict = conflict(at, &listeners);
        }
        KnownGateway { object, served, listeners, sets }
    }

    /// Its own listeners, or those of one of its sets.
    pub(super) fn listeners_in(
        &self,
        set: Option<&ListenerSetObject>,
    ) -> impl Iterator<Item = &KnownListener<'o>> {
        self.listeners.iter().filter(move |listener| listener.is_in(set))
    }

    /// Whether it admits this set.
    pub(super) fn has(&self, set: &ListenerSetObject) -> bool {
        self.sets.iter().any(|own| std::ptr::eq(*own, set))
    }

    fn report(&self, reporter: &mut Reporter) {
        if self.served.is_none() {
            let message = format!(
                "no class `{}` is known as Ringway's: nobody here serves this Gateway",
                self.object.class
            );
            let help = "ingress has the class `ringway`, a waypoint `ringway-waypoint`".to_owned();
            warn(self.object.place, &message, Some(help), reporter);
            return;
        }
        for listener in &self.listeners {
            for condition in [&listener.refused, &listener.conflict].into_iter().flatten() {
                warn(listener.object.place, &condition.message, None, reporter);
            }
            if let Some(message) = &listener.invalid_kinds {
                warn(listener.object.place, message, None, reporter);
            }
            if let Some(unresolved) = listener.unresolved() {
                let place = unresolved.place.unwrap_or(listener.object.place);
                warn(place, &unresolved.message, None, reporter);
            }
        }
        if self.is_insecure() {
            let message = format!(
                "the Gateway `{}` lets in clients whatever certificate they show (`AllowInsecureFallback`)",
                self.object.name
            );
            warn(self.object.place, &message, None, reporter);
        }
    }

    fn status(&self) -> ObjectStatus {
        let own: Vec<&KnownListener<'_>> = self.listeners_in(None).collect();
        let served = own.iter().filter(|listener| listener.is_accepted()).count();
        let accepted = match (self.unsupported_address(), served) {
            (Some(address), _) => {
                let message = format!("addresses of the type of `{address}` are not supported");
                Condition::bad("Accepted", "UnsupportedAddress", message)
            }
            (None, served) if served < own.len() => {
                let message = format!("{} of its listeners are not served", own.len() - served);
                let condition = Condition::bad("Accepted", "ListenersNotValid", message);
                Condition { holds: served > 0, ..condition }
            }
            (None, _) => Condition::good("Accepted", "Accepted"),
        };
        let programmed = match served {
            0 => Condition::bad("Programmed", "Invalid", "none of its listeners is served"),
            _ => Condition::good("Programmed", "Programmed"),
        };
        let insecure = self
            .is_insecure()
            .then(|| Condition::good("InsecureFrontendValidationMode", "ConfigurationChanged"));
        ObjectStatus {
            kind: "Gateway",
            namespace: self.object.namespace.clone(),
            name: self.object.name.clone(),
            generation: self.object.generation,
            conditions: [accepted, programmed].into_iter().chain(insecure).collect(),
            listeners: own.into_iter().map(KnownListener::status).collect(),
            parents: Vec::new(),
            attached_sets: Some(
                self.sets.iter().filter(|set| sets::is_attached(set, self)).count(),
            ),
        }
    }

    /// Somebody is let in by a certificate that does not hold.
    fn is_insecure(&self) -> bool {
        let of_listeners = self.listeners.iter().filter_map(|listener| {
            listener.object.tls.as_ref().and_then(|tls| tls.validation.as_ref())
        });
        let mut all = self.object.frontend.all().chain(of_listeners);
        all.any(|validation| validation.mode == ValidationMode::AllowInsecureFallback)
    }

    fn unsupported_address(&self) -> Option<&str> {
        self.object.addresses.iter().find_map(|address| match address {
            Addressed::Other(text) => Some(&**text),
            _ => None,
        })
    }

    /// The name of a listener.
    pub(super) fn key(&self, listener: &KnownListener<'_>) -> ListenerKey {
        listener.key(self.object)
    }
}

impl<'o> KnownListener<'o> {
    fn new(
        object: &'o ListenerObject,
        (set, namespace): (Option<&'o ListenerSetObject>, &'o str),
        served: Option<Served>,
        tls: Option<TlsFound>,
    ) -> KnownListener<'o> {
        let supported = supported_kinds(object);
        let (mut kinds, mut invalid_kinds) = (supported.to_vec(), None);
        if let Some(asked) = &object.kinds {
            kinds.retain(|kind| {
                asked
                    .iter()
                    .any(|(group, name)| **group == *GATEWAY_GROUP && **name == *kind_name(*kind))
            });
            let is_supported = |name: &str| supported.iter().any(|kind| kind_name(*kind) == name);
            let invalid =
                asked.iter().find(|(group, name)| **group != *GATEWAY_GROUP || !is_supported(name));
            invalid_kinds = invalid.map(|(_, name)| {
                format!(
                    "routes of the kind `{name}` cannot attach to the listener `{}`",
                    object.name
                )
            });
        }
        KnownListener {
            object,
            set,
            namespace,
            hostname: object.hostname.as_deref().map(host_pattern),
            kinds,
            invalid_kinds,
            refused: served.and_then(|served| unsupported(object, served)),
            conflict: None,
            tls,
            attached: 0,
        }
    }

    /// Whether it stands in the Gateway itself, or in this set.
    pub(super) fn is_in(&self, set: Option<&ListenerSetObject>) -> bool {
        match (self.set, set) {
            (None, None) => true,
            (Some(own), Some(set)) => std::ptr::eq(own, set),
            _ => false,
        }
    }

    /// A listener of a set has the set's name before its own: two sets may have listeners of one name.
    fn key(&self, gateway: &GatewayObject) -> ListenerKey {
        let name = &self.object.name;
        ListenerKey {
            namespace: gateway.namespace.clone(),
            gateway: gateway.name.clone(),
            listener: match self.set {
                None => name.clone(),
                Some(set) => format!("{}/{}.{name}", set.namespace, set.name).into(),
            },
        }
    }

    /// Whether anybody can come by it.
    pub(super) fn is_served(&self) -> bool {
        let no_kind = self.invalid_kinds.is_some() && self.kinds.is_empty();
        self.refused.is_none() && self.conflict.is_none() && !no_kind
    }

    /// Whether it is served to anybody.
    pub(super) fn is_accepted(&self) -> bool {
        self.is_served() && self.no_authority().is_none()
    }

    fn unresolved(&self) -> Option<&Unresolved> {
        self.tls.as_ref()?.unresolved.as_ref()
    }

    fn no_authority(&self) -> Option<&str> {
        self.tls.as_ref()?.no_authority.as_deref()
    }

    pub(super) fn admits_kind(&self, kind: RouteKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Counts a route that attached.
    pub(super) fn attach(&mut self) {
        self.attached += 1;
    }

    pub(super) fn status(&self) -> ListenerStatus {
        let no_authority =
            self.no_authority().map(|why| Condition::bad("Accepted", "NoValidCACertificate", why));
        let of_set = self.conflict.as_ref().filter(|_| self.set.is_some());
        let in_conflict =
            of_set.map(|one| Condition::bad("Accepted", one.reason, one.message.clone()));
        let accepted = self.refused.clone().or(no_authority).or(in_conflict);
        let resolved = match (&self.invalid_kinds, self.unresolved()) {
            (_, Some(unresolved)) => {
                Condition::bad("ResolvedRefs", unresolved.reason, unresolved.message.clone())
            }
            (Some(message), _) => {
                Condition::bad("ResolvedRefs", "InvalidRouteKinds", message.clone())
            }
            (None, _) => Condition::good("ResolvedRefs", "ResolvedRefs"),
        };
        let is_broken =
            matches!(&self.tls, Some(found) if matches!(found.tls, ListenerTls::Broken(_)));
        let programmed = match self.is_served() && !is_broken {
            true => Condition::good("Programmed", "Programmed"),
            false => Condition::bad("Programmed", "Invalid", "the listener is not served"),
        };
        let no_conflict = Condition::bad("Conflicted", "NoConflicts", "");
        ListenerStatus {
            name: self.object.name.clone(),
            supported_kinds: self.kinds.iter().map(|kind| kind_name(*kind)).collect(),
            attached_routes: self.attached,
            conditions: vec![
                accepted.unwrap_or_else(|| Condition::good("Accepted", "Accepted")),
                self.conflict.clone().unwrap_or(no_conflict),
                resolved,
                programmed,
            ],
        }
    }

    fn listener(self, gateway: &GatewayObject) -> Option<Listener> {
        let protocol = match self.object.protocol {
            SpokenAtListener::Http => ListenerProtocol::Http,
            SpokenAtListener::Https => ListenerProtocol::Https,
            SpokenAtListener::Tls => ListenerProtocol::Tls,
            SpokenAtListener::Tcp => ListenerProtocol::Tcp,
            SpokenAtListener::Hbone => ListenerProtocol::Hbone,
            SpokenAtListener::Other(_) => return None,
        };
        let key = self.key(gateway);
        let tls = self.tls.map(|found| found.tls);
        Some(Listener { key, port: self.object.port, protocol, hostname: self.hostname, tls })
    }
}

/// A waypoint has one listener, for tunnels, and only a waypoint has it.
fn unsupported(listener: &ListenerObject, served: Served) -> Option<Condition> {
    let fits = match (&listener.protocol, served) {
        (SpokenAtListener::Other(_), _) => false,
        (SpokenAtListener::Hbone, served) => served == Served::Waypoint,
        (_, served) => served == Served::Gateway,
    };
    let what = match served {
        Served::Waypoint => "a waypoint has a listener of the protocol HBONE, and no other",
        Served::Gateway => "a Gateway's listeners speak HTTP, HTTPS, TLS or TCP",
    };
    (!fits).then(|| Condition::bad("Accepted", "UnsupportedProtocol", what))
}

fn supported_kinds(listener: &ListenerObject) -> &'static [RouteKind] {
    match listener.protocol {
        SpokenAtListener::Http | SpokenAtListener::Https => &[RouteKind::Http, RouteKind::Grpc],
        SpokenAtListener::Tls => &[RouteKind::Tls],
        SpokenAtListener::Tcp => &[RouteKind::Tcp],
        SpokenAtListener::Hbone | SpokenAtListener::Other(_) => &[],
    }
}

/// As documents call it.
pub(super) fn kind_name(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Http => "HTTPRoute",
        RouteKind::Grpc => "GRPCRoute",
        RouteKind::Tls => "TLSRoute",
        RouteKind::Tcp => "TCPRoute",
    }
}

/// Whether some host fits both.
pub(super) fn intersect(one: &HostPattern, other: &HostPattern) -> bool {
    let ends = |text: &str, suffix: &str| {
        text.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
    };
    match (one, other) {
        (HostPattern::Exact(one), HostPattern::Exact(other)) => one == other,
        (HostPattern::Exact(text), HostPattern::Suffix(suffix))
        | (HostPattern::Suffix(suffix), HostPattern::Exact(text)) => ends(text, suffix),
        (HostPattern::Suffix(one), HostPattern::Suffix(other)) => {
            one == other || ends(one, other) || ends(other, one)
        }
    }
}

//! A listener: which hosts and routes it is for, why it is not served, and what became of it.

use ringway_http::model::{
    HostPattern, Listener, ListenerKey, ListenerProtocol, ListenerTls, RouteKind,
};

use super::certificates::TlsFound;
use super::references::Unresolved;
use super::served::Served;
use super::warn;
use crate::source::diagnostics::Reporter;
use crate::source::gateway::objects::routed::ListenerSetObject;
use crate::source::gateway::objects::{GatewayObject, ListenerObject, SpokenAtListener};
use crate::source::gateway::route::host_pattern;
use crate::source::gateway::status::{Condition, ListenerStatus};
use crate::source::gateway::values::GATEWAY_GROUP;

/// A listener of a Gateway, or of a set that adds to it.
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
    /// With one that goes before it, or stands beside it.
    pub(super) conflict: Option<Condition>,
    /// `None`: it has no TLS.
    tls: Option<TlsFound>,
    attached: usize,
}

impl<'o> KnownListener<'o> {
    pub(super) fn new(
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
    pub(super) fn key(&self, gateway: &GatewayObject) -> ListenerKey {
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

    pub(super) fn report(&self, reporter: &mut Reporter) {
        for condition in [&self.refused, &self.conflict].into_iter().flatten() {
            warn(self.object.place, &condition.message, None, reporter);
        }
        if let Some(message) = &self.invalid_kinds {
            warn(self.object.place, message, None, reporter);
        }
        if let Some(unresolved) = self.unresolved() {
            let place = unresolved.place.unwrap_or(self.object.place);
            warn(place, &unresolved.message, None, reporter);
        }
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

    pub(super) fn listener(self, gateway: &GatewayObject) -> Option<Listener> {
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

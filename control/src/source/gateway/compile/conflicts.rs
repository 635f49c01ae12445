//! Listeners of one port that cannot be told apart.
//!
//! Of one object neither is served; of two objects, the one that goes before.

use super::known_listener::KnownListener;
use crate::source::gateway::objects::{ListenerObject, SpokenAtListener};
use crate::source::gateway::status::Condition;

/// Why a listener cannot be served beside the others of its Gateway. They stand in the order of their precedence, and
/// what became of those before it is known.
pub(super) fn conflict(at: usize, listeners: &[KnownListener<'_>]) -> Option<Condition> {
    let listener = &listeners[at];
    let is_own = |other: &&KnownListener<'_>| other.is_in(listener.set);
    let prior = listeners[..at].iter().filter(|other| !is_own(other) && other.is_served());
    let own = listeners.iter().filter(is_own);
    let mut others = prior.chain(own).filter(|other| {
        !std::ptr::eq(other.object, listener.object) && other.object.port == listener.object.port
    });
    others.find_map(|other| between(listener, other))
}

/// Whether what two listeners of one port are for cannot be told apart.
fn between(listener: &KnownListener<'_>, other: &KnownListener<'_>) -> Option<Condition> {
    let (one, beside) = (listener.object, other.object);
    let (name, port) = (&one.name, one.port);
    if family(one)? != family(beside)? {
        let other = told_name(other, listener);
        let message =
            format!("the port {port} cannot have the protocol of `{name}` and that of {other}");
        return Some(in_conflict("ProtocolConflict", message));
    }
    let indistinct = one.hostname == beside.hostname
        || matches!(one.protocol, SpokenAtListener::Tcp | SpokenAtListener::Hbone);
    indistinct.then(|| {
        let other = told_name(other, listener);
        let message = format!("`{name}` and {other} are for the same hosts of the port {port}");
        in_conflict("HostnameConflict", message)
    })
}

/// Protocols that can share a port; `None`: it is not served anyway.
fn family(listener: &ListenerObject) -> Option<u8> {
    match listener.protocol {
        SpokenAtListener::Http => Some(0),
        SpokenAtListener::Https | SpokenAtListener::Tls => Some(1),
        SpokenAtListener::Tcp => Some(2),
        SpokenAtListener::Hbone => Some(3),
        SpokenAtListener::Other(_) => None,
    }
}

/// What somebody else's set has is not told.
fn told_name(other: &KnownListener<'_>, to: &KnownListener<'_>) -> String {
    let name = &other.object.name;
    match other.set {
        _ if other.is_in(to.set) => format!("`{name}`"),
        None => format!("`{name}` of the Gateway"),
        Some(_) => "a listener of another ListenerSet".to_owned(),
    }
}

fn in_conflict(reason: &'static str, message: String) -> Condition {
    Condition { holds: true, ..Condition::bad("Conflicted", reason, message) }
}

//! ListenerSets: which of them a Gateway admits, in which order, and what becomes of them.
//!
//! A Gateway's own listeners go before those of its sets, an older set before a younger one.

use super::listeners::{KnownGateway, KnownListener, Served};
use super::registry::Registry;
use crate::source::diagnostics::Reporter;
use crate::source::gateway::objects::routed::ListenerSetObject;
use crate::source::gateway::objects::{GatewayObject, GatewayObjects};
use crate::source::gateway::status::{Condition, ObjectStatus};

/// The sets that a Gateway admits, the first of precedence first.
pub(super) fn admitted<'o>(
    gateway: &GatewayObject,
    served: Option<Served>,
    objects: &'o GatewayObjects,
    registry: &Registry<'_>,
) -> Vec<&'o ListenerSetObject> {
    let mut sets: Vec<&ListenerSetObject> = objects
        .sets
        .iter()
        .filter(|set| set.gateway() == Some((&gateway.namespace, &gateway.name)))
        .filter(|set| refusal(set, gateway, served, registry).is_none())
        .collect();
    sets.sort_by_key(|set| (set.created.is_none(), set.created, &set.namespace, &set.name));
    sets
}

/// Why a Gateway does not admit a set.
fn refusal(
    set: &ListenerSetObject,
    gateway: &GatewayObject,
    served: Option<Served>,
    registry: &Registry<'_>,
) -> Option<String> {
    let GatewayObject { name, namespace, allowed_listeners, .. } = gateway;
    if served == Some(Served::Waypoint) {
        return Some(format!("the Gateway `{name}` is a waypoint, which has no further listeners"));
    }
    let labels = registry.namespace_labels(&set.namespace);
    (!allowed_listeners.admits(namespace, &set.namespace, Some(&labels))).then(|| {
        format!(
            "the Gateway `{name}` does not admit ListenerSets of the namespace `{}`",
            set.namespace
        )
    })
}

/// What became of a set; `None`: its Gateway is another's to look after.
pub(super) fn status(
    set: &ListenerSetObject,
    gateway: Option<&KnownGateway<'_>>,
    registry: &Registry<'_>,
) -> Option<ObjectStatus> {
    let (conditions, listeners) = match gateway {
        None => {
            let to = &set.parent;
            let message = format!(
                "there is no {} `{}` in the namespace `{}`",
                to.kind, to.name, to.namespace
            );
            (both("ParentNotAccepted", &message), Vec::new())
        }
        Some(gateway) => {
            gateway.served?;
            match refusal(set, gateway.object, gateway.served, registry) {
                Some(why) => (both("NotAllowed", &why), Vec::new()),
                None => {
                    let listeners: Vec<_> = gateway.listeners_in(Some(set)).collect();
                    let conditions = by_listeners(&listeners);
                    (conditions, listeners.into_iter().map(KnownListener::status).collect())
                }
            }
        }
    };
    Some(ObjectStatus {
        kind: set.kind,
        namespace: set.namespace.clone(),
        name: set.name.clone(),
        generation: set.generation,
        conditions,
        listeners,
        parents: Vec::new(),
        attached_sets: None,
    })
}

/// Whether a set that is admitted adds anything.
pub(super) fn is_attached(set: &ListenerSetObject, gateway: &KnownGateway<'_>) -> bool {
    gateway.listeners_in(Some(set)).any(KnownListener::is_accepted)
}

fn by_listeners(listeners: &[&KnownListener<'_>]) -> Vec<Condition> {
    let accepted = listeners.iter().filter(|listener| listener.is_accepted()).count();
    let message = format!("{} of its listeners are not served", listeners.len() - accepted);
    match accepted {
        0 => both("ListenersNotValid", &message),
        some if some < listeners.len() => vec![
            Condition { message, ..Condition::good("Accepted", "ListenersNotValid") },
            Condition::good("Programmed", "Programmed"),
        ],
        _ => {
            vec![
                Condition::good("Accepted", "Accepted"),
                Condition::good("Programmed", "Programmed"),
            ]
        }
    }
}

fn both(reason: &'static str, message: &str) -> Vec<Condition> {
    ["Accepted", "Programmed"].map(|kind| Condition::bad(kind, reason, message)).into()
}

/// Tells of a set that adds nothing, where it names its Gateway.
pub(super) fn report(
    set: &ListenerSetObject,
    gateway: Option<&KnownGateway<'_>>,
    registry: &Registry<'_>,
    reporter: &mut Reporter,
) {
    let Some(status) = status(set, gateway, registry) else { return };
    if let Some(bad) = status.conditions.first().filter(|accepted| !accepted.holds) {
        super::warn(set.parent_place, &bad.message, None, reporter);
    }
}

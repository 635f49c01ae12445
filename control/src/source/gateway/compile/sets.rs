//! What becomes of ListenerSets.

use super::admission::refusal;
use super::known_gateway::KnownGateway;
use super::known_listener::KnownListener;
use super::registry::Registry;
use crate::source::diagnostics::Reporter;
use crate::source::gateway::objects::routed::ListenerSetObject;
use crate::source::gateway::status::{Condition, ObjectStatus};

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

//! Which ListenerSets a Gateway admits, and in which order.
//!
//! A Gateway's own listeners go before those of its sets, an older set before a younger one.

use super::registry::Registry;
use super::served::Served;
use crate::source::gateway::objects::routed::ListenerSetObject;
use crate::source::gateway::objects::{GatewayObject, GatewayObjects};

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
pub(super) fn refusal(
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

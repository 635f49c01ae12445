//! What became of what was told, as `/config/status` tells it.

use serde_json::{Value, json};

use super::world::World;
use crate::xds::l7::{ToldL7, ToldRole};

/// Resources that are told one by one.
const TOLD_MAX: usize = 1000;

pub(super) fn status(gateway: &str, world: &World, told: &ToldL7, generation: u64) -> Value {
    let complaints = told.complaints().take(TOLD_MAX);
    let complaints = complaints.map(|(name, message)| json!({"name": name, "message": message}));
    json!({
        "generation": generation,
        "gateway": gateway,
        "role": match world.role() {
            None => Value::Null,
            Some(ToldRole::Waypoint) => "waypoint".into(),
            Some(ToldRole::Gateway(ports)) => json!({ "gateway": ports }),
        },
        "valid": world.error.is_none(),
        "errors": world.error.iter().map(|message| json!({"message": message})).collect::<Vec<_>>(),
        "resources": told.len(),
        "refused": complaints.collect::<Vec<_>>(),
        "warnings": world.warnings.iter().map(|message| json!({"message": message})).collect::<Vec<_>>(),
        "authorizationPolicies": "istiod tells none to processes of this kind",
    })
}

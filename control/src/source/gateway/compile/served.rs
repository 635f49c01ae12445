//! Which Gateways we serve, and as what: by their class.

use crate::source::gateway::objects::GatewayObjects;

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

    pub(super) fn of(class: &str, objects: &GatewayObjects) -> Option<Served> {
        match objects.classes.iter().find(|object| *object.name == *class) {
            Some(object) => Served::by_controller(&object.controller),
            None => CLASSES.iter().find(|(name, _)| *name == class).map(|(_, served)| *served),
        }
    }
}

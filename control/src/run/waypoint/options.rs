//! What a process of an L7 role is told beside what every run is.

use ringway_http::model::GatewayName;

use crate::telemetry::requests::RequestLog;
use crate::telemetry::traces::TraceOptions;

/// Which L7 role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connections come in tunnels, for the services behind it.
    Waypoint,
    /// Connections come from outside of the mesh.
    Gateway,
}

impl Kind {
    /// The verb that begins it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waypoint => "waypoint",
            Self::Gateway => "gateway",
        }
    }
}

/// Reads `namespace/name`.
///
/// # Errors
/// When it is something else, in a sentence.
pub fn gateway_name(text: &str) -> Result<GatewayName, String> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Ok(GatewayName { namespace: (*namespace).into(), name: (*name).into() })
        }
        _ => Err(format!("{text:?} is not namespace/name")),
    }
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct L7Options {
    /// Which role.
    pub kind: Kind,
    /// The Gateway that this process is.
    pub gateway: GatewayName,
    /// How lines of requests look.
    pub request_log: RequestLog,
    /// Where traces go, if they go anywhere.
    pub traces: Option<TraceOptions>,
}

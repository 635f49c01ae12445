//! What an enrolled pod is to its connections.

use crate::handover::Way;

/// See the module's text. It says which listeners are bound for a pod, and who serves what comes by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// An application's workload: what it opens and what is opened to it is captured.
    #[default]
    Workload,
    /// The pod this process runs in: it is reached through tunnels. Nothing of its own is captured; no rules are where it
    /// is, so no packet is marked and no client's address borrowed.
    OwnPod,
    /// A waypoint of the mesh: what comes in tunnels for the services behind it is served here, by what the snapshot's
    /// [`http`](crate::snapshot::Snapshot::http) says. Nothing of its own is captured.
    #[cfg(feature = "waypoint")]
    Waypoint,
    /// A gateway into the mesh.
    #[cfg(feature = "waypoint")]
    Gateway(std::sync::Arc<GatewayRole>),
}

/// Which gateway a pod is, and where it listens: on each port as the snapshot's
/// [`http`](crate::snapshot::Snapshot::http) says of this gateway's listeners there.
#[cfg(feature = "waypoint")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRole {
    /// Its name.
    pub name: ringway_http::model::GatewayName,
    /// Its ports.
    pub ports: Vec<u16>,
}

impl Role {
    /// By what ways of the capture its connections come.
    pub(crate) fn ways(&self) -> &'static [Way] {
        match self {
            Self::Workload => &Way::ALL,
            Self::OwnPod => &[Way::Hbone],
            #[cfg(feature = "waypoint")]
            Self::Waypoint => &[Way::Hbone],
            #[cfg(feature = "waypoint")]
            Self::Gateway(_) => &[],
        }
    }
}

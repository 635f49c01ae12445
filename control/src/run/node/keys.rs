//! Keys of tokens' issuers, which a waypoint fetches: a node that believes no tokens has none.

use super::Node;
use crate::source::MeshConfig;

#[cfg(feature = "waypoint")]
pub(in crate::run) use crate::run::waypoint::TokenKeys;

/// Nothing to wait for.
#[cfg(not(feature = "waypoint"))]
#[derive(Default)]
pub(in crate::run) struct TokenKeys;

#[cfg(not(feature = "waypoint"))]
impl TokenKeys {
    /// Never.
    pub(super) async fn changed(&mut self) {
        std::future::pending().await
    }
}

#[cfg(not(feature = "waypoint"))]
impl Node {
    pub(super) fn take_keys(&mut self) {}

    pub(super) fn follow_keys(&mut self, mesh: MeshConfig) -> MeshConfig {
        mesh
    }
}

#[cfg(feature = "waypoint")]
impl Node {
    /// Puts keys into force that were fetched.
    pub(super) fn take_keys(&mut self) {
        if let Some(tables) = self.keys.tables() {
            let world = ringway_engine::snapshot::Snapshot::clone(&self.engine.snapshot());
            self.publish(world.with_http(Some(tables)));
        }
    }

    /// Another configuration, with the keys that are known already.
    pub(super) fn follow_keys(&mut self, mut mesh: MeshConfig) -> MeshConfig {
        let Some(l7) = &self.options.l7 else { return mesh };
        if let Some(tables) = self.keys.follow(|| l7.own(&mesh), &mesh.http) {
            mesh.snapshot = mesh.snapshot.with_http(Some(tables));
        }
        mesh
    }
}

//! What has changed about certificates goes into the world.

use ringway_engine::snapshot::Snapshot;

use crate::identity::{CredentialChange, certificate};

/// Makes the changes, and tells them.
pub(super) fn apply(changes: Vec<CredentialChange>, world: &mut Snapshot) {
    for change in changes {
        match change {
            CredentialChange::Set(credentials) => {
                let expires = certificate::rfc3339_seconds(credentials.not_after());
                tracing::debug!(identity = %credentials.identity(), expires, "certificate in force");
                world.set_credentials(credentials);
            }
            CredentialChange::Removed(identity) => {
                tracing::warn!(%identity, "no valid certificate any more");
                world.remove_credentials(&identity);
            }
        }
    }
}

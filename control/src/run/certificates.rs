//! What becomes of certificates while a process serves: they are renewed and revoked, and what has changed goes into the
//! world.

use std::sync::Arc;
use std::time::SystemTime;

use ringway_engine::snapshot::Snapshot;

use super::revocation::Revocation;
use crate::identity::{Certifier, CredentialChange, certificate};

/// Asks for what is due, and tells what was asked for in vain.
pub(super) fn renew(certifier: &mut Certifier) -> Vec<CredentialChange> {
    let failures = certifier.counts().failed;
    let changes = certifier.poll(SystemTime::now());
    if certifier.counts().failed > failures {
        for status in certifier.statuses() {
            if let Some(error) = status.error {
                tracing::warn!(identity = %status.identity, error, "no new certificate; tried again");
            }
        }
    }
    changes
}

/// Reads the revocation lists again; every peer is held against what is new in them.
pub(super) fn revoke(
    certifier: &mut Certifier,
    revocation: &mut Revocation,
) -> Vec<CredentialChange> {
    match revocation.refresh() {
        Ok(true) => {
            let lists = Arc::clone(revocation.lists());
            let changes = certifier.set_revocation(&lists);
            tracing::info!(lists = lists.len(), "revocation lists changed");
            changes
        }
        Ok(false) => Vec::new(),
        Err(error) => {
            tracing::error!(%error, "the revocation lists cannot be used; those before stay");
            Vec::new()
        }
    }
}

/// Every few seconds: did somebody change the embedded authority?
pub(super) fn follow_authority(certifier: &mut Certifier) {
    if let Err(error) = certifier.refresh(SystemTime::now()) {
        tracing::warn!(%error, "the certificate authority changed and cannot be used; the one before stays");
    }
}

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

//! What peers are held against changes: the same leaves are made ready anew.

use std::sync::Arc;
use std::time::SystemTime;

use ringway_protocols::tls::{Credentials, Error, RevocationLists};
use rustls_pki_types::CertificateDer;

use super::{CredentialChange, IdentityStore};
use crate::identity::certificate;

/// Roots that are remembered as seen; with more, all are forgotten, which costs everybody one renewal.
const ROOTS_SEEN_MAX: usize = 256;

impl IdentityStore {
    /// Holds peers against other revocation lists from now on: the same leaves, made ready anew.
    pub fn set_revocation(&mut self, lists: &Arc<RevocationLists>) -> Vec<CredentialChange> {
        self.options.revocation = Arc::clone(lists);
        self.remake(|held| Some(held.with_revocation(Arc::clone(lists))))
    }

    /// Makes what is held anew, where `change` says how.
    fn remake(
        &mut self,
        change: impl Fn(&Credentials) -> Option<Result<Credentials, Error>>,
    ) -> Vec<CredentialChange> {
        let mut changes = Vec::new();
        for entry in self.entries.values_mut() {
            let Some(held) = &mut entry.credentials else { continue };
            // What was made from the same parts before can be made again; if not, the entry is due at once.
            match change(&held.credentials) {
                None => {}
                Some(Ok(credentials)) => {
                    // One that is itself revoked is due; until there is another one, it is better than none.
                    if credentials.are_revoked() {
                        entry.due = SystemTime::UNIX_EPOCH;
                    }
                    held.credentials = Arc::new(credentials);
                    changes.push(CredentialChange::Set(Arc::clone(&held.credentials)));
                }
                Some(Err(error)) => {
                    changes.push(CredentialChange::Removed(held.credentials.identity().clone()));
                    entry.credentials = None;
                    entry.error = Some(error.to_string());
                    entry.due = SystemTime::UNIX_EPOCH;
                }
            }
        }
        changes
    }

    /// Trusts roots that one identity's certificate came with for all of them, and has the others issued anew.
    ///
    /// An authority that changes its roots tells so with the next certificate: until then, whoever has an older one
    /// would refuse peers that have a newer one. A root is added here once, and lasts until the identity's next
    /// certificate says whom it really trusts: authorities that disagree for a while cannot keep us renewing.
    pub fn learn_roots(
        &mut self,
        roots: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Vec<CredentialChange> {
        let is_first = self.roots_seen.is_empty();
        if self.roots_seen.len() + roots.len() > ROOTS_SEEN_MAX {
            self.roots_seen.clear();
        }
        let unseen = |root: &&CertificateDer<'static>| {
            self.roots_seen.insert(certificate::fingerprint(root))
        };
        let new: Vec<_> = roots.iter().filter(unseen).cloned().collect();
        if is_first || new.is_empty() {
            return Vec::new();
        }
        self.counts.roots_learned += 1;
        let lacks =
            |held: &Credentials| new.iter().any(|root| !held.trust_anchors().contains(root));
        for entry in self.entries.values_mut() {
            if entry.failures == 0
                && entry.credentials.as_ref().is_some_and(|held| lacks(&held.credentials))
            {
                entry.due = entry.due.min(now);
            }
        }
        self.remake(|held| {
            lacks(held).then(|| {
                let mut anchors = held.trust_anchors().to_vec();
                anchors.extend(
                    new.iter().filter(|root| !held.trust_anchors().contains(root)).cloned(),
                );
                held.with_trust_anchors(anchors)
            })
        })
    }
}

//! One valid leaf for every identity of this host's workloads.
//!
//! ```text
//!   ensure() ─▶ Initializing ──issued──▶ Available ──half of its life──▶ issued again ─▶ Available
//!                    │                      │  └─ the authority's roots change ─▶ issued again
//!                 refused                refused: the valid one stays, tried again with growing pauses
//!                    ▼                      ▼ expired
//!               Unavailable ◀───────────────┘     tried again until it succeeds
//! ```
//!
//! A plain machine: [`IdentityStore::poll`] is called at [`IdentityStore::next_deadline`] and whenever the authority
//! may have changed, and says which credentials the engine must be given. Live connections keep what they have.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{Credentials, Material, Options, RevocationLists};

use crate::identity::embedded_ca::{CaError, EmbeddedCa, Epoch};

/// First pause after a refusal; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest pause after refusals.
const RETRY_MAX: Duration = Duration::from_secs(150);

/// Leaves issued in one poll: a root that changes must not hold up the control thread for long.
const ISSUES_PER_POLL_MAX: usize = 32;

/// Who issues certificates.
pub trait Issuer {
    /// A fresh key and certificate for `identity`.
    ///
    /// # Errors
    /// Why not, as a sentence.
    fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, CaError>;

    /// What credentials made at `now` look like.
    fn epoch(&self, now: SystemTime) -> Epoch;
}

impl Issuer for EmbeddedCa {
    fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, CaError> {
        EmbeddedCa::issue(self, identity, now)
    }

    fn epoch(&self, now: SystemTime) -> Epoch {
        EmbeddedCa::epoch(self, now)
    }
}

/// What the engine must be told.
#[derive(Debug)]
pub enum CredentialChange {
    /// From now on these.
    Set(Arc<Credentials>),
    /// None any more: they expired, or nobody here has this identity now.
    Removed(Identity),
}

/// What is known about one identity.
#[derive(Debug, Clone)]
pub struct IdentityStatus {
    /// Whose.
    pub identity: Identity,
    /// Its credentials, if it has valid ones.
    pub credentials: Option<Arc<Credentials>>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IssueCounts {
    /// Leaves issued.
    pub issued: u64,
    /// Refusals.
    pub failed: u64,
}

/// The leaves of this host.
pub struct IdentityStore {
    options: Options,
    entries: BTreeMap<Identity, Entry>,
    counts: IssueCounts,
    random: u64,
}

struct Entry {
    credentials: Option<Available>,
    error: Option<String>,
    failures: u32,
    /// When to try next.
    due: SystemTime,
}

struct Available {
    credentials: Arc<Credentials>,
    epoch: Epoch,
}

impl IdentityStore {
    /// An empty store. `seed` spreads the renewals of many hosts.
    pub fn new(options: Options, seed: u64) -> Self {
        Self { options, entries: BTreeMap::new(), counts: IssueCounts::default(), random: seed }
    }

    /// Keeps leaves for exactly `identities` from now on. New ones are issued by the next poll.
    pub fn keep<'a>(
        &mut self,
        identities: impl IntoIterator<Item = &'a Identity>,
        now: SystemTime,
    ) -> Vec<CredentialChange> {
        let mut kept = BTreeMap::new();
        for identity in identities {
            if kept.contains_key(identity) {
                continue;
            }
            let entry = self.entries.remove(identity).unwrap_or_else(|| Entry {
                credentials: None,
                error: None,
                failures: 0,
                due: now,
            });
            kept.insert(identity.clone(), entry);
        }
        let gone = std::mem::replace(&mut self.entries, kept);
        let had = gone.into_iter().filter(|(_, entry)| entry.credentials.is_some());
        had.map(|(identity, _)| CredentialChange::Removed(identity)).collect()
    }

    /// Holds peers against other revocation lists from now on: the same leaves, made ready anew.
    pub fn set_revocation(&mut self, lists: &Arc<RevocationLists>) -> Vec<CredentialChange> {
        self.options.revocation = Arc::clone(lists);
        let mut changes = Vec::new();
        for entry in self.entries.values_mut() {
            let Some(held) = &mut entry.credentials else { continue };
            // What was made from the same parts before can be made again; if not, the entry is due at once.
            match held.credentials.with_revocation(Arc::clone(lists)) {
                Ok(credentials) => {
                    held.credentials = Arc::new(credentials);
                    changes.push(CredentialChange::Set(Arc::clone(&held.credentials)));
                }
                Err(error) => {
                    changes.push(CredentialChange::Removed(held.credentials.identity().clone()));
                    entry.credentials = None;
                    entry.error = Some(error.to_string());
                    entry.due = SystemTime::UNIX_EPOCH;
                }
            }
        }
        changes
    }

    /// Does what is due, and says what changed.
    ///
    /// Whatever one call leaves undone is due at once: [`IdentityStore::next_deadline`] then lies in the past.
    pub fn poll(&mut self, issuer: &dyn Issuer, now: SystemTime) -> Vec<CredentialChange> {
        let epoch = issuer.epoch(now);
        let mut changes = self.expire(now);
        for entry in self.entries.values_mut() {
            if entry.is_outdated(&epoch, now) && entry.failures == 0 {
                entry.due = entry.due.min(now);
            }
        }
        for identity in self.due(now) {
            if let Some(change) = self.issue(issuer, &identity, &epoch, now) {
                changes.push(change);
            }
        }
        changes
    }

    /// Whether an identity has neither a leaf nor a refusal yet, and a poll would try.
    pub fn waits_for_first(&self, now: SystemTime) -> bool {
        self.entries
            .values()
            .any(|entry| entry.credentials.is_none() && entry.failures == 0 && entry.due <= now)
    }

    /// When to poll next.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        self.entries.values().map(Entry::deadline).min()
    }

    /// Every identity with its state, in order.
    pub fn statuses(&self) -> Vec<IdentityStatus> {
        let status = |(identity, entry): (&Identity, &Entry)| IdentityStatus {
            identity: identity.clone(),
            credentials: entry.credentials.as_ref().map(|held| Arc::clone(&held.credentials)),
            error: entry.error.clone(),
        };
        self.entries.iter().map(status).collect()
    }

    /// How often what happened.
    pub fn counts(&self) -> IssueCounts {
        self.counts
    }

    /// Credentials that are past their last moment go: peers would refuse them, and say so less clearly.
    fn expire(&mut self, now: SystemTime) -> Vec<CredentialChange> {
        let mut changes = Vec::new();
        for (identity, entry) in &mut self.entries {
            if entry.expires().is_some_and(|expires| expires <= now) {
                entry.credentials = None;
                changes.push(CredentialChange::Removed(identity.clone()));
            }
        }
        changes
    }

    /// What is due, those without credentials first, a bounded number.
    fn due(&self, now: SystemTime) -> Vec<Identity> {
        let due = self.entries.iter().filter(|(_, entry)| entry.due <= now);
        let mut due: Vec<_> = due
            .map(|(identity, entry)| (entry.credentials.is_some(), entry.due, identity))
            .collect();
        due.sort();
        due.truncate(ISSUES_PER_POLL_MAX);
        due.into_iter().map(|(_, _, identity)| identity.clone()).collect()
    }

    fn issue(
        &mut self,
        issuer: &dyn Issuer,
        identity: &Identity,
        epoch: &Epoch,
        now: SystemTime,
    ) -> Option<CredentialChange> {
        let issued =
            issuer.issue(identity, now).map_err(|error| error.to_string()).and_then(|material| {
                Credentials::new(material, &self.options).map_err(|error| error.to_string())
            });
        let spread = self.spread();
        let entry = self.entries.get_mut(identity)?;
        match issued {
            Ok(credentials) => {
                self.counts.issued += 1;
                let credentials = Arc::new(credentials);
                entry.succeed(Arc::clone(&credentials), epoch.clone(), spread, now);
                Some(CredentialChange::Set(credentials))
            }
            Err(error) => {
                self.counts.failed += 1;
                entry.fail(error, spread, now);
                None
            }
        }
    }

    /// A factor from 0.8 to 1.2.
    fn spread(&mut self) -> f64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        0.8 + 0.4 * ((mixed >> 11) as f64 / (1u64 << 53) as f64)
    }
}

impl Entry {
    fn succeed(
        &mut self,
        credentials: Arc<Credentials>,
        epoch: Epoch,
        spread: f64,
        now: SystemTime,
    ) {
        // Counted from now and not from the backdated first moment: half of what is left of its life.
        let life = credentials.not_after().duration_since(now).unwrap_or_default();
        self.due = now + (life / 2).mul_f64(spread);
        self.credentials = Some(Available { credentials, epoch });
        self.error = None;
        self.failures = 0;
    }

    fn fail(&mut self, error: String, spread: f64, now: SystemTime) {
        let pause = RETRY_FIRST.saturating_mul(1u32 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause.mul_f64(spread).min(RETRY_MAX);
        // Not later than the moment the valid one ends.
        if let Some(expires) = self.expires() {
            self.due = self.due.min(expires);
        }
        self.error = Some(error);
    }

    /// Whether what it has is no longer what the authority would issue, or lies in the future of a clock set back.
    fn is_outdated(&self, epoch: &Epoch, now: SystemTime) -> bool {
        match &self.credentials {
            Some(held) => held.epoch != *epoch || held.credentials.not_before() > now,
            None => true,
        }
    }

    fn expires(&self) -> Option<SystemTime> {
        self.credentials.as_ref().map(|held| held.credentials.not_after())
    }

    fn deadline(&self) -> SystemTime {
        self.expires().map_or(self.due, |expires| self.due.min(expires))
    }
}

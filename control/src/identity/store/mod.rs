//! One valid leaf for every identity of this host's workloads.
//!
//! ```text
//!   keep() ─▶ Initializing ──issued──▶ Available ──half of its life──▶ issued again ─▶ Available
//!                  │                      │  └─ the authority's roots change ─▶ issued again
//!               refused                refused: the valid one stays, tried again with growing pauses
//!                  ▼                      ▼ expired
//!             Unavailable ◀───────────────┘     tried again until it succeeds; sooner when somebody waits for it
//! ```
//!
//! A plain machine that asks nobody itself. [`IdentityStore::tick`] is called at [`IdentityStore::next_deadline`] and
//! whenever the authority may have changed; then [`IdentityStore::next_job`] says for whom to ask, most urgent first, and
//! [`IdentityStore::finish`] takes the answer. With an authority that answers at once, [`IdentityStore::poll`] is all
//! three. What they return is what the engine must be told. Live connections keep what they have.
//!
//! **Invariant:** at any moment each identity is asked for at most once, and no more than [`ASKED_MAX`] are.

mod entry;
mod issuer;
mod outage;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{Credentials, Material, Options};

use self::entry::Entry;
pub use self::issuer::{Epoch, Issuer, Job, Priority, Refusal};
use self::outage::Outage;
use crate::identity::certificate;

/// Requests under way at one time: a node that starts with many identities must not be a burden to the authority.
pub const ASKED_MAX: usize = 8;

/// Leaves issued in one poll: a root that changes must not hold up the control thread for long.
const ISSUES_PER_POLL_MAX: usize = 32;

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

/// How often what happened, and how much is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IssueCounts {
    /// Leaves issued.
    pub issued: u64,
    /// Attempts in vain, of either kind.
    pub failed: u64,
    /// Those of them for which the authority was not reached.
    pub unreachable: u64,
    /// Attempts that were moved forward because a connection waited.
    pub demanded: u64,
    /// Times that a root was seen for the first time beside others.
    pub roots_learned: u64,
    /// Requests under way now.
    pub asked: usize,
    /// Identities without valid credentials now.
    pub without: usize,
    /// Since when the authority has not been reached, if it is away.
    pub unreachable_since: Option<SystemTime>,
}

/// The leaves of this host.
pub struct IdentityStore {
    options: Options,
    entries: BTreeMap<Identity, Entry>,
    /// For whom somebody has been asked and has not answered. They need not have an entry any more.
    asked: BTreeSet<Identity>,
    outage: Option<Outage>,
    /// The last answer was a refusal.
    refuses: bool,
    epoch: Epoch,
    roots_seen: BTreeSet<String>,
    counts: IssueCounts,
    random: u64,
}

impl IdentityStore {
    /// An empty store. `seed` spreads the renewals of many hosts.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            entries: BTreeMap::new(),
            asked: BTreeSet::new(),
            outage: None,
            refuses: false,
            epoch: Epoch::default(),
            roots_seen: BTreeSet::new(),
            counts: IssueCounts::default(),
            random: seed,
        }
    }

    /// Keeps leaves for exactly `identities` from now on. New ones are due at once.
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
            let entry = self.entries.remove(identity).unwrap_or_else(|| Entry::new(now));
            kept.insert(identity.clone(), entry);
        }
        let gone = std::mem::replace(&mut self.entries, kept);
        let had = gone.into_iter().filter(|(_, entry)| entry.credentials.is_some());
        had.map(|(identity, _)| CredentialChange::Removed(identity)).collect()
    }

    /// A connection waits for this identity: it comes before all that can wait, and soon even after refusals.
    pub fn demand(&mut self, identity: &Identity, now: SystemTime) {
        let Some(entry) = self.entries.get_mut(identity) else { return };
        if entry.demand(now) {
            self.counts.demanded += 1;
        }
    }

    /// Has an authority that answers at once do what is due, and says what changed.
    ///
    /// Whatever one call leaves undone is due at once: [`IdentityStore::next_deadline`] then lies in the past.
    pub fn poll(&mut self, issuer: &dyn Issuer, now: SystemTime) -> Vec<CredentialChange> {
        let mut changes = self.tick(&issuer.epoch(now), now);
        for _ in 0..ISSUES_PER_POLL_MAX {
            let Some(job) = self.next_job(now) else { break };
            let issued = issuer.issue(&job.identity, now);
            changes.extend(self.finish(job, issued, now));
        }
        changes
    }

    /// Takes note of the time and of how the authority issues now.
    pub fn tick(&mut self, epoch: &Epoch, now: SystemTime) -> Vec<CredentialChange> {
        let is_new = self.epoch != *epoch;
        self.epoch = epoch.clone();
        let changes = self.expire(now);
        if is_new {
            // It has said something: it may be back, and may say something else.
            self.outage = None;
        }
        for entry in self.entries.values_mut() {
            if is_new {
                entry.retry_soon(now);
            }
            if entry.is_outdated(epoch, now) && entry.failures == 0 {
                entry.due = entry.due.min(now);
            }
        }
        changes
    }

    /// For whom to ask now: the most urgent first, among those the one that is due for the longest time.
    pub fn next_job(&mut self, now: SystemTime) -> Option<Job> {
        if !self.has_room() || self.outage.as_ref().is_some_and(|outage| now < outage.probe) {
            return None;
        }
        let due = self
            .entries
            .iter()
            .filter(|(identity, entry)| entry.due <= now && !self.asked.contains(identity));
        let (identity, entry) = due.min_by_key(|(identity, entry)| {
            (std::cmp::Reverse(entry.priority()), entry.due, *identity)
        })?;
        let job = Job {
            identity: identity.clone(),
            priority: entry.priority(),
            epoch: self.epoch.clone(),
        };
        self.asked.insert(job.identity.clone());
        Some(job)
    }

    /// Takes the answer to a job, and says what changed. What nobody wants any more is dropped.
    pub fn finish(
        &mut self,
        job: Job,
        answer: Result<Material, Refusal>,
        now: SystemTime,
    ) -> Option<CredentialChange> {
        self.asked.remove(&job.identity);
        let spread = self.spread();
        if let Err(Refusal::Unreachable(_)) = &answer {
            self.outage.get_or_insert_with(|| Outage::begin(now)).go_on(spread, now);
        } else {
            self.outage = None;
        }
        let made = answer.and_then(|material| match self.held_already(&job.identity, &material) {
            Some(held) => Ok((held, false)),
            None => self.make(&job.identity, material, now).map(|made| (Arc::new(made), true)),
        });
        if made.is_ok() && std::mem::take(&mut self.refuses) {
            // It has come round: those that it refused meanwhile need not sit out their pauses.
            for entry in self.entries.values_mut() {
                entry.retry_soon(now);
            }
        }
        self.refuses |= matches!(made, Err(Refusal::Refused(_)));
        let entry = self.entries.get_mut(&job.identity)?;
        match made {
            Ok((credentials, is_new)) => {
                entry.succeed(Arc::clone(&credentials), job.epoch, spread, now);
                self.counts.issued += u64::from(is_new);
                is_new.then_some(CredentialChange::Set(credentials))
            }
            Err(refusal) => {
                self.counts.failed += 1;
                match refusal {
                    Refusal::Refused(why) => entry.fail(why, spread, now),
                    // It keeps its place: when to ask again is for the outage to say.
                    Refusal::Unreachable(why) => {
                        self.counts.unreachable += 1;
                        entry.error = Some(why);
                    }
                }
                None
            }
        }
    }

    /// Whether an identity has neither a leaf nor a refusal yet, and would be asked for now.
    pub fn waits_for_first(&self, now: SystemTime) -> bool {
        self.entries
            .values()
            .any(|entry| entry.credentials.is_none() && entry.failures == 0 && entry.due <= now)
    }

    /// Whether the authority has yet to say of an identity whether it gives it.
    pub fn lacks_answer(&self) -> bool {
        self.entries.values().any(|entry| entry.credentials.is_none() && entry.failures == 0)
    }

    /// When to tick next, unless an answer comes before.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        let probe = self.outage.as_ref().map(|outage| outage.probe);
        let has_room = self.has_room();
        let deadline = |(identity, entry): (&Identity, &Entry)| {
            let may_ask = has_room && !self.asked.contains(identity);
            let ask = may_ask.then(|| probe.map_or(entry.due, |probe| probe.max(entry.due)));
            [ask, entry.expires()].into_iter().flatten().min()
        };
        self.entries.iter().filter_map(deadline).min()
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

    /// Whether an identity is kept and has no valid credentials.
    pub fn lacks_any(&self) -> bool {
        self.entries.values().any(|entry| entry.credentials.is_none())
    }

    /// How often what happened.
    pub fn counts(&self) -> IssueCounts {
        let without = self.entries.values().filter(|entry| entry.credentials.is_none()).count();
        let unreachable_since = self.outage.as_ref().map(|outage| outage.since);
        IssueCounts { asked: self.asked.len(), without, unreachable_since, ..self.counts }
    }

    /// Whether one more may be asked for: while the authority is away, one at a time finds out that it is back.
    fn has_room(&self) -> bool {
        let most = if self.outage.is_some() { 1 } else { ASKED_MAX };
        self.asked.len() < most
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

    /// What is held, if this is the same once more: an agent tells everything again when one part changes.
    fn held_already(&self, identity: &Identity, material: &Material) -> Option<Arc<Credentials>> {
        let held = &self.entries.get(identity)?.credentials.as_ref()?.credentials;
        let same = held.chain() == material.chain && held.trust_anchors() == material.trust_anchors;
        same.then(|| Arc::clone(held))
    }

    /// Makes material ready, if it is for this identity and for now.
    fn make(
        &self,
        identity: &Identity,
        material: Material,
        now: SystemTime,
    ) -> Result<Credentials, Refusal> {
        let refused = |why: String| Refusal::Refused(why);
        let credentials = Credentials::new(material, &self.options)
            .map_err(|error| refused(format!("its certificate cannot be used: {error}")))?;
        if credentials.identity() != identity {
            let other = credentials.identity();
            return Err(refused(format!("the certificate is for {other}, not for {identity}")));
        }
        let moment = certificate::rfc3339_seconds;
        let (from, until) = (credentials.not_before(), credentials.not_after());
        if until <= now {
            let until = moment(until);
            return Err(refused(format!(
                "the certificate has expired at {until} already; is a clock wrong, here or at the authority?"
            )));
        }
        if from > now {
            let from = moment(from);
            return Err(refused(format!(
                "the certificate is not valid before {from}; is a clock wrong, here or at the authority?"
            )));
        }
        Ok(credentials)
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

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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{Credentials, Material, Options};

use super::embedded_ca::{CaError, EmbeddedCa, Epoch};

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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::embedded_ca::{CaOptions, Rotation};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn identity(name: &str) -> Identity {
        Identity::new("cluster.local", "shop", name).unwrap()
    }

    /// An authority that can be told to refuse.
    struct Moody {
        ca: RefCell<EmbeddedCa>,
        refuses: Cell<bool>,
        asked: Cell<u32>,
        _home: TempDir,
    }

    impl Moody {
        fn new() -> Self {
            let home = TempDir::new().unwrap();
            let ca = EmbeddedCa::open(&home.path().join("ca"), CaOptions::default(), start());
            Self {
                ca: RefCell::new(ca.unwrap()),
                refuses: Cell::new(false),
                asked: Cell::new(0),
                _home: home,
            }
        }
    }

    impl Issuer for Moody {
        fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, CaError> {
            self.asked.set(self.asked.get() + 1);
            if self.refuses.get() {
                return Err(CaError::Gap);
            }
            self.ca.borrow().issue(identity, now)
        }

        fn epoch(&self, now: SystemTime) -> Epoch {
            self.ca.borrow().epoch(now)
        }
    }

    fn store() -> IdentityStore {
        IdentityStore::new(Options::default(), 7)
    }

    /// Which identities were set and removed.
    fn summary(changes: &[CredentialChange]) -> Vec<String> {
        let name = |change: &CredentialChange| match change {
            CredentialChange::Set(credentials) => {
                format!("+{}", credentials.identity().service_account())
            }
            CredentialChange::Removed(identity) => format!("-{}", identity.service_account()),
        };
        changes.iter().map(name).collect()
    }

    #[test]
    fn each_identity_gets_one_leaf_and_loses_it_with_its_last_workload() {
        let (moody, mut store) = (Moody::new(), store());
        let (a, b) = (identity("a"), identity("b"));
        assert!(store.keep([&a, &b, &a], start()).is_empty());
        assert_eq!(summary(&store.poll(&moody, start())), ["+a", "+b"]);
        assert!(store.poll(&moody, start()).is_empty(), "nothing is due");
        assert_eq!(summary(&store.keep([&b], start())), ["-a"]);
        assert!(store.keep([&b], start()).is_empty());
        assert_eq!(moody.asked.get(), 2);
    }

    #[test]
    fn it_is_renewed_around_half_its_life() {
        let (moody, mut store) = (Moody::new(), store());
        let a = identity("a");
        store.keep([&a], start());
        store.poll(&moody, start());
        let deadline = store.next_deadline().unwrap();
        let wait = deadline.duration_since(start()).unwrap();
        assert!(wait >= 9 * HOUR && wait <= 15 * HOUR, "{wait:?}");
        assert!(store.poll(&moody, deadline - Duration::from_secs(1)).is_empty());
        assert_eq!(summary(&store.poll(&moody, deadline)), ["+a"]);
    }

    #[test]
    fn a_refused_renewal_keeps_the_valid_leaf_and_tries_with_growing_pauses() {
        let (moody, mut store) = (Moody::new(), store());
        let a = identity("a");
        store.keep([&a], start());
        store.poll(&moody, start());
        moody.refuses.set(true);

        let expires = store.statuses()[0].credentials.as_ref().unwrap().not_after();
        let mut now = store.next_deadline().unwrap();
        let mut pauses = Vec::new();
        while now < expires {
            let changes = store.poll(&moody, now);
            assert!(changes.is_empty(), "the valid one stays");
            let status = &store.statuses()[0];
            assert!(status.credentials.is_some() && status.error.is_some());
            let next = store.next_deadline().unwrap();
            pauses.push(next.duration_since(now).unwrap());
            now = next;
        }
        assert!(pauses[0] <= Duration::from_millis(1200));
        assert!(pauses[3] > 4 * pauses[0]);
        assert!(pauses.iter().all(|pause| *pause <= RETRY_MAX));
        assert_eq!(now, expires);
        assert_eq!(summary(&store.poll(&moody, now)), ["-a"], "expired credentials go");

        moody.refuses.set(false);
        let next = store.next_deadline().unwrap();
        assert_eq!(summary(&store.poll(&moody, next)), ["+a"]);
        assert_eq!(store.statuses()[0].error, None);
    }

    #[test]
    fn a_change_of_roots_renews_everybody_a_few_at_a_time() {
        let (moody, mut store) = (Moody::new(), store());
        let identities: Vec<_> = (0..70).map(|n| identity(&format!("n{n:02}"))).collect();
        store.keep(&identities, start());
        let mut polls = 0;
        while store.next_deadline().unwrap() <= start() {
            assert!(store.poll(&moody, start()).len() <= ISSUES_PER_POLL_MAX);
            polls += 1;
        }
        assert_eq!(polls, 3);
        let rotation = Rotation { new_signs_after: HOUR, old_trusted_for: HOUR };
        moody.ca.borrow_mut().rotate(&rotation, None, start()).unwrap();
        let mut renewed = 0;
        for _ in 0..4 {
            renewed += store.poll(&moody, start()).len();
        }
        assert_eq!(renewed, 70);
        for status in store.statuses() {
            assert_eq!(status.credentials.unwrap().trust_anchors().len(), 2);
        }
    }

    #[test]
    fn a_clock_set_back_renews() {
        let (moody, mut store) = (Moody::new(), store());
        let a = identity("a");
        store.keep([&a], start() + HOUR);
        store.poll(&moody, start() + HOUR);
        assert_eq!(summary(&store.poll(&moody, start())), ["+a"]);
    }

    #[test]
    fn those_without_any_leaf_come_first() {
        let (moody, mut store) = (Moody::new(), store());
        let old: Vec<_> = (0..40).map(|n| identity(&format!("n{n:02}"))).collect();
        store.keep(&old, start());
        store.poll(&moody, start());
        store.poll(&moody, start());
        let new = identity("zz");
        let later = start() + 20 * HOUR;
        store.keep(old.iter().chain([&new]), later);
        assert_eq!(summary(&store.poll(&moody, later))[0], "+zz");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever the authority does, credentials that are handed out are valid, and the next deadline lies ahead.
        #[test]
        fn no_sequence_leaves_invalid_credentials(
            steps in proptest::collection::vec((any::<bool>(), 1u64..40_000), 1..20)
        ) {
            let (moody, mut store) = (Moody::new(), store());
            let a = identity("a");
            let mut now = start();
            store.keep([&a], now);
            for (refuses, seconds) in steps {
                moody.refuses.set(refuses);
                store.poll(&moody, now);
                let status = store.statuses().remove(0);
                if let Some(credentials) = status.credentials {
                    prop_assert!(credentials.not_before() <= now && now < credentials.not_after());
                }
                prop_assert!(store.next_deadline().unwrap() > now);
                now += Duration::from_secs(seconds);
            }
        }
    }
}

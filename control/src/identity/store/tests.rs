//! The store in front of an authority with moods.

use std::cell::{Cell, RefCell};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::identity::embedded_ca::{CaOptions, Rotation};

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

//! The store in front of an authority with moods.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use proptest::prelude::*;
use ringway_protocols::tls::RevocationLists;
use tempfile::TempDir;

use super::entry::RETRY_MAX;
use super::*;
use crate::identity::embedded_ca::{CaOptions, EmbeddedCa, Rotation};

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
    fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, Refusal> {
        self.asked.set(self.asked.get() + 1);
        if self.refuses.get() {
            return Err(Refusal::Refused("not today".to_owned()));
        }
        Issuer::issue(&*self.ca.borrow(), identity, now)
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

/// Asks for whoever is due, and answers nobody.
fn asked(store: &mut IdentityStore, now: SystemTime) -> Vec<Job> {
    std::iter::from_fn(|| store.next_job(now)).collect()
}

fn names(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.identity.service_account()).collect()
}

fn refused() -> Result<Material, Refusal> {
    Err(Refusal::Refused("no such pod".to_owned()))
}

fn away() -> Result<Material, Refusal> {
    Err(Refusal::Unreachable("nobody there".to_owned()))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_urgent_come_first_and_renewals_last() {
    let (moody, mut store) = (Moody::new(), store());
    let [old, a, b, c] = ["old", "a", "b", "c"].map(identity);
    store.keep([&old], start());
    store.poll(&moody, start());
    let later = start() + 20 * HOUR;
    store.keep([&old, &a, &b, &c], later);
    store.demand(&c, later);
    // A renewal is no more urgent because a connection asks: it has what it needs.
    store.demand(&old, later);
    let jobs = asked(&mut store, later);
    assert_eq!(names(&jobs), ["c", "a", "b", "old"]);
    let priorities: Vec<_> = jobs.iter().map(|job| job.priority).collect();
    use Priority::{Background, RealTime, Warmup};
    assert_eq!(priorities, [RealTime, Warmup, Warmup, Background]);
}

#[test]
fn no_more_than_a_few_are_asked_for_and_none_twice() {
    let mut store = store();
    let all: Vec<_> = (0..20).map(|n| identity(&format!("n{n:02}"))).collect();
    store.keep(&all, start());
    let mut jobs = asked(&mut store, start());
    assert_eq!(jobs.len(), ASKED_MAX);
    assert_eq!(store.next_deadline(), None, "only an answer changes anything");
    let one = jobs.remove(0);
    store.finish(one, refused(), start());
    let next = asked(&mut store, start());
    assert_eq!(names(&next), ["n08"]);
    // Who is forgotten and comes back while asked for is not asked for again.
    store.keep([], start());
    store.keep(&all[1..3], start());
    assert!(asked(&mut store, start() + HOUR).is_empty());
}

#[test]
fn a_refused_identity_that_somebody_waits_for_is_tried_soon_but_not_at_once() {
    let mut store = store();
    let a = identity("a");
    let mut now = start();
    store.keep([&a], now);
    for _ in 0..12 {
        let job = asked(&mut store, now).remove(0);
        store.finish(job, refused(), now);
        let pause = store.next_deadline().unwrap().duration_since(now).unwrap();
        now += pause;
    }
    let job = asked(&mut store, now).remove(0);
    store.finish(job, refused(), now);
    assert!(store.next_deadline().unwrap() > now + 60 * SECOND, "the pause has grown");
    // However often it is asked for.
    for _ in 0..100 {
        store.demand(&a, now);
    }
    assert_eq!(store.next_deadline(), Some(now + 2 * SECOND));
    assert_eq!(store.counts().demanded, 1);
    assert!(asked(&mut store, now + SECOND).is_empty());
    assert_eq!(asked(&mut store, now + 2 * SECOND).len(), 1);
}

#[test]
fn a_success_makes_the_pauses_small_again() {
    let (moody, mut store) = (Moody::new(), store());
    let a = identity("a");
    let mut now = start();
    store.keep([&a], now);
    let fail = |store: &mut IdentityStore, now| {
        let job = asked(store, now).remove(0);
        store.finish(job, refused(), now);
        store.next_deadline().unwrap().duration_since(now).unwrap()
    };
    let mut pauses = Vec::new();
    for _ in 0..4 {
        pauses.push(fail(&mut store, now));
        now += *pauses.last().unwrap();
    }
    assert!(pauses[3] > 6 * SECOND && pauses[0] < 2 * SECOND, "{pauses:?}");
    store.poll(&moody, now);
    now = store.next_deadline().unwrap();
    assert!(fail(&mut store, now) < 2 * SECOND);
}

#[test]
fn an_authority_that_is_away_is_tried_by_one_and_the_others_wait_for_it() {
    let (moody, mut store) = (Moody::new(), store());
    let all: Vec<_> = (0..20).map(|n| identity(&format!("n{n:02}"))).collect();
    let mut now = start();
    store.keep(&all, now);
    let jobs = asked(&mut store, now);
    for job in jobs {
        assert!(store.finish(job, away(), now).is_none());
    }
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let next = store.next_deadline().unwrap();
        pauses.push(next.duration_since(now).unwrap());
        assert!(asked(&mut store, next - Duration::from_millis(1)).is_empty());
        now = next;
        let mut probe = asked(&mut store, now);
        assert_eq!(probe.len(), 1);
        assert_eq!(store.next_deadline(), None, "until it answers");
        store.finish(probe.remove(0), away(), now);
    }
    assert!(pauses[0] < SECOND, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 3 * SECOND), "{pauses:?}");
    assert_eq!(store.counts().unreachable_since, Some(start()));
    // The first answer of any kind ends it; nobody has a pause to sit out.
    now = store.next_deadline().unwrap();
    let probe = asked(&mut store, now).remove(0);
    let answer = moody.issue(&probe.identity, now);
    store.finish(probe, answer, now);
    assert_eq!(asked(&mut store, now).len(), ASKED_MAX);
    assert_eq!(store.counts().unreachable_since, None);
}

#[test]
fn an_authority_that_has_come_round_is_asked_again_by_those_it_refused() {
    let (moody, mut store) = (Moody::new(), store());
    let (a, b) = (identity("a"), identity("b"));
    let mut now = start();
    store.keep([&a], now);
    for _ in 0..8 {
        let job = asked(&mut store, now).remove(0);
        store.finish(job, refused(), now);
        now = store.next_deadline().unwrap();
    }
    let job = asked(&mut store, now).remove(0);
    store.finish(job, refused(), now);
    assert!(store.next_deadline().unwrap() > now + 30 * SECOND);
    store.keep([&a, &b], now);
    let job = asked(&mut store, now).remove(0);
    assert_eq!(job.identity, b);
    let answer = moody.issue(&b, now);
    assert!(store.finish(job, answer, now).is_some());
    assert_eq!(names(&asked(&mut store, now + 2 * SECOND)), ["a"]);
}

#[test]
fn a_root_is_learned_once_however_authorities_disagree() {
    let (one, two, mut store) = (Moody::new(), Moody::new(), store());
    let (a, b) = (identity("a"), identity("b"));
    store.keep([&a, &b], start());
    store.poll(&one, start());
    let first = one.ca.borrow().trust_bundle(start());
    let second = two.ca.borrow().trust_bundle(start());
    assert!(store.learn_roots(&first, start()).is_empty(), "the first is no change");
    let both = [first.clone(), second.clone()].concat();
    let changes = store.learn_roots(&both, start());
    assert_eq!(summary(&changes), ["+a", "+b"]);
    for status in store.statuses() {
        assert_eq!(status.credentials.unwrap().trust_anchors().len(), 2);
    }
    assert_eq!(asked(&mut store, start()).len(), 2, "and both are asked for again");
    for roots in [&first, &second, &both] {
        assert!(store.learn_roots(roots, start()).is_empty());
    }
}

#[test]
fn a_leaf_that_is_revoked_is_issued_anew_at_once() {
    use crate::identity::embedded_ca::Revoke;
    use rustls_pki_types::CertificateRevocationListDer;
    use rustls_pki_types::pem::PemObject;

    let (moody, mut store) = (Moody::new(), store());
    let (a, b) = (identity("a"), identity("b"));
    store.keep([&a, &b], start());
    let first = store.poll(&moody, start());
    let [CredentialChange::Set(revoked), _] = &first[..] else { panic!("{first:?}") };
    let leaf = &revoked.chain()[0];
    let pem = crate::identity::certificate::to_pem(leaf);
    let what = Revoke::certificate(pem.as_bytes()).unwrap();
    let list = {
        let mut ca = moody.ca.borrow_mut();
        ca.revoke(&[what], start()).unwrap();
        std::fs::read(ca.revocation_list()).unwrap()
    };
    let der = CertificateRevocationListDer::from_pem_slice(&list).unwrap();
    let lists = Arc::new(RevocationLists::from_der([der.as_ref()]).unwrap());
    assert_eq!(summary(&store.set_revocation(&lists)), ["+a", "+b"]);
    assert!(store.next_deadline().unwrap() <= start(), "it is due");
    let again = store.poll(&moody, start());
    assert_eq!(summary(&again), ["+a"], "nobody else's");
    let [CredentialChange::Set(fresh)] = &again[..] else { panic!("{again:?}") };
    assert!(!fresh.are_revoked() && fresh.chain()[0] != *leaf);
    assert!(store.poll(&moody, start()).is_empty(), "once");
}

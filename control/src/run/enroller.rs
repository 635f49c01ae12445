//! Which workloads are captured, which are to be, and what has to be done next.
//!
//! ```text
//!              wanted            done                    not wanted, or its namespace is another one
//!   (unknown) ───────▶ Waiting ─────▶ Working ─▶ Up ────────────────────────▶ Working ─▶ Waiting or gone
//!                        ▲   failed: pause, doubling │
//!                        └───────────────────────────┘
//! ```
//!
//! A plain machine: it hands out jobs and is told how they ended. One workload that fails holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::redirect::ledger::NamespaceFile;
use crate::source::{NetworkNamespace, WorkloadEnrollment};

/// First pause after a failure; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// Longest pause after failures: a pod that comes up late is captured soon.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// The workloads of this host. `H` is what holds a capture.
#[derive(Debug)]
pub(super) struct Enroller<H> {
    wanted: BTreeMap<Arc<str>, WorkloadEnrollment>,
    known: BTreeMap<Arc<str>, Known<H>>,
    started: u64,
    stopped: u64,
}

#[derive(Debug)]
enum Known<H> {
    Waiting {
        due: Instant,
        failures: u32,
        error: Option<String>,
    },
    /// A job is under way. What went wrong before it is kept for the case that it fails, too.
    Working {
        failures: u32,
        error: Option<String>,
    },
    Up {
        enrollment: WorkloadEnrollment,
        file: Option<NamespaceFile>,
        held: H,
    },
}

/// What has to be done.
#[derive(Debug)]
pub(super) enum Job<H> {
    /// Begin to capture.
    Enroll(WorkloadEnrollment),
    /// End it.
    Withdraw(Arc<str>, H),
}

/// How a job ended.
#[derive(Debug)]
pub(super) enum Done<H> {
    /// Captured. The file says which namespace it was.
    Enrolled(WorkloadEnrollment, Option<NamespaceFile>, H),
    /// Not captured, and why.
    Failed(WorkloadEnrollment, String),
    /// Ended.
    Withdrawn(Arc<str>),
}

/// How it is with one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnrollmentStatus {
    /// Its id.
    pub(super) uid: Arc<str>,
    /// Whether it is captured.
    pub(super) up: bool,
    /// Why not, if an attempt failed.
    pub(super) error: Option<String>,
}

impl<H> Default for Enroller<H> {
    fn default() -> Self {
        Self { wanted: BTreeMap::new(), known: BTreeMap::new(), started: 0, stopped: 0 }
    }
}

impl<H> Enroller<H> {
    /// From now on exactly these are to be captured.
    pub(super) fn want(&mut self, enrollments: Vec<WorkloadEnrollment>, now: Instant) {
        self.wanted = enrollments.into_iter().map(|one| (Arc::clone(&one.uid), one)).collect();
        for uid in self.wanted.keys() {
            match self.known.get_mut(uid) {
                // What failed may work with what it is now.
                Some(Known::Waiting { due, .. }) => *due = now,
                Some(_) => {}
                None => {
                    let waiting = Known::Waiting { due: now, failures: 0, error: None };
                    self.known.insert(Arc::clone(uid), waiting);
                }
            }
        }
        let wanted = &self.wanted;
        self.known.retain(|uid, known| {
            wanted.contains_key(uid) || !matches!(known, Known::Waiting { .. })
        });
    }

    /// The next job, if one is due. `identify` tells which namespace is at a path now: a pod that was made anew under
    /// the same name has another one.
    pub(super) fn next_job(
        &mut self,
        now: Instant,
        identify: impl Fn(&NetworkNamespace) -> Option<NamespaceFile>,
    ) -> Option<Job<H>> {
        let Self { wanted, known, .. } = self;
        // What is to end goes first: it may stand in the way of what begins.
        let ending = known.iter().find_map(|(uid, known)| match known {
            Known::Up { enrollment, file, .. } => {
                let same = wanted.get(uid) == Some(enrollment)
                    && identify(&enrollment.network_namespace) == *file;
                (!same).then(|| Arc::clone(uid))
            }
            _ => None,
        });
        if let Some(uid) = ending {
            let working = Known::Working { failures: 0, error: None };
            let Some(Known::Up { held, .. }) = known.insert(Arc::clone(&uid), working) else {
                unreachable!("it was up a moment ago, and nobody else has it");
            };
            return Some(Job::Withdraw(uid, held));
        }
        known.iter_mut().find_map(|(uid, state)| match state {
            Known::Waiting { due, failures, error } if *due <= now => {
                let enrollment = wanted.get(uid)?.clone();
                *state = Known::Working { failures: *failures, error: error.take() };
                Some(Job::Enroll(enrollment))
            }
            _ => None,
        })
    }

    /// Takes note of how a job ended.
    pub(super) fn done(&mut self, done: Done<H>, now: Instant) {
        match done {
            Done::Enrolled(enrollment, file, held) => {
                self.started += 1;
                self.known
                    .insert(Arc::clone(&enrollment.uid), Known::Up { enrollment, file, held });
            }
            Done::Failed(enrollment, error) => {
                let failures = match self.known.get(&enrollment.uid) {
                    Some(Known::Working { failures, .. }) => *failures,
                    _ => 0,
                };
                let pause = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
                let waiting =
                    Known::Waiting { due: now + pause, failures: failures + 1, error: Some(error) };
                self.settle(enrollment.uid, waiting);
            }
            Done::Withdrawn(uid) => {
                self.stopped += 1;
                self.settle(uid, Known::Waiting { due: now, failures: 0, error: None });
            }
        }
    }

    /// When the next attempt is due, if one waits.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.known.values().filter_map(|known| match known {
            Known::Waiting { due, .. } => Some(*due),
            _ => None,
        });
        waiting.min()
    }

    /// How it is with every workload that is wanted, in order.
    pub(super) fn statuses(&self) -> Vec<EnrollmentStatus> {
        let status = |uid: &Arc<str>| {
            let (up, error) = match self.known.get(uid) {
                Some(Known::Up { .. }) => (true, None),
                Some(Known::Waiting { error, .. } | Known::Working { error, .. }) => {
                    (false, error.clone())
                }
                None => (false, None),
            };
            EnrollmentStatus { uid: Arc::clone(uid), up, error }
        };
        self.wanted.keys().map(status).collect()
    }

    /// What every captured workload is held by.
    pub(super) fn held(&self) -> impl Iterator<Item = (&Arc<str>, &H)> {
        self.known.iter().filter_map(|(uid, known)| match known {
            Known::Up { held, .. } => Some((uid, held)),
            _ => None,
        })
    }

    /// Hands out everything that holds a capture, to whoever ends them all.
    pub(super) fn take_held(&mut self) -> Vec<(Arc<str>, H)> {
        let known = std::mem::take(&mut self.known);
        let held = known.into_iter().filter_map(|(uid, known)| match known {
            Known::Up { held, .. } => Some((uid, held)),
            _ => None,
        });
        held.collect()
    }

    /// Captures that began and that ended.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.started, self.stopped)
    }

    /// Keeps `state` for a workload that is still wanted, and forgets any other.
    fn settle(&mut self, uid: Arc<str>, state: Known<H>) {
        if self.wanted.contains_key(&uid) {
            self.known.insert(uid, state);
        } else {
            self.known.remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringway_protocols::identity::Identity;

    use super::*;

    fn enrollment(name: &str, namespace: &str) -> WorkloadEnrollment {
        WorkloadEnrollment {
            uid: name.into(),
            identity: Identity::new("cluster.local", "shop", "web").unwrap(),
            network_namespace: NetworkNamespace::Path(namespace.into()),
        }
    }

    /// Namespaces that stay what they are.
    fn same(_: &NetworkNamespace) -> Option<NamespaceFile> {
        None
    }

    /// Does everything that is due, all of it well, and says what it was.
    fn work(enroller: &mut Enroller<()>, now: Instant) -> Vec<String> {
        let mut log = Vec::new();
        while let Some(job) = enroller.next_job(now, same) {
            let done = match job {
                Job::Enroll(one) => {
                    log.push(format!("+{}", one.uid));
                    Done::Enrolled(one, None, ())
                }
                Job::Withdraw(uid, ()) => {
                    log.push(format!("-{uid}"));
                    Done::Withdrawn(uid)
                }
            };
            enroller.done(done, now);
        }
        log
    }

    #[test]
    fn only_what_changed_is_touched_and_what_goes_goes_first() {
        let (mut enroller, now) = (Enroller::default(), Instant::now());
        enroller
            .want(vec![enrollment("a", "/a"), enrollment("b", "/b"), enrollment("c", "/c")], now);
        assert_eq!(work(&mut enroller, now), ["+a", "+b", "+c"]);
        enroller
            .want(vec![enrollment("a", "/a"), enrollment("b", "/x"), enrollment("d", "/d")], now);
        assert_eq!(work(&mut enroller, now), ["-b", "-c", "+b", "+d"]);
        assert_eq!(work(&mut enroller, now), [""; 0]);
        assert_eq!(enroller.counts(), (5, 2));
        assert_eq!(enroller.held().count(), 3);
    }

    #[test]
    fn a_failure_is_tried_again_with_growing_pauses_and_holds_up_nobody() {
        let (mut enroller, mut now) = (Enroller::<()>::default(), Instant::now());
        enroller.want(vec![enrollment("bad", "/bad"), enrollment("good", "/good")], now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            while let Some(Job::Enroll(one)) = enroller.next_job(now, same) {
                let done = match &*one.uid {
                    "good" => Done::Enrolled(one, None, ()),
                    _ => Done::Failed(one, "no such namespace".to_owned()),
                };
                enroller.done(done, now);
            }
            let statuses = enroller.statuses();
            assert_eq!(statuses[0].error.as_deref(), Some("no such namespace"));
            assert!(!statuses[0].up && statuses[1].up);
            let due = enroller.next_deadline().unwrap();
            pauses.push(due - now);
            now = due;
        }
        assert_eq!(pauses[0], RETRY_FIRST);
        assert_eq!(pauses[1], 2 * RETRY_FIRST);
        assert_eq!(pauses[9], RETRY_MAX);
        // A new configuration is a new chance.
        enroller.want(vec![enrollment("bad", "/better")], now);
        assert_eq!(enroller.next_deadline(), Some(now));
    }

    #[test]
    fn a_namespace_made_anew_under_the_same_name_is_captured_anew() {
        let home = tempfile::TempDir::new().unwrap();
        let path = home.path().join("pod");
        std::fs::write(&path, "").unwrap();
        let file = NamespaceFile::at(&path).ok();
        let (mut enroller, now) = (Enroller::default(), Instant::now());
        enroller.want(vec![enrollment("pod", path.to_str().unwrap())], now);
        let identify = |_: &NetworkNamespace| NamespaceFile::at(&path).ok();
        let Some(Job::Enroll(one)) = enroller.next_job(now, identify) else { panic!() };
        enroller.done(Done::Enrolled(one, file, ()), now);
        assert!(enroller.next_job(now, identify).is_none());

        std::fs::write(home.path().join("new"), "").unwrap();
        std::fs::rename(home.path().join("new"), &path).unwrap();
        assert!(matches!(enroller.next_job(now, identify), Some(Job::Withdraw(..))));
        assert!(enroller.next_job(now, identify).is_none(), "one thing after the other");
        enroller.done(Done::Withdrawn("pod".into()), now);
        assert!(matches!(enroller.next_job(now, identify), Some(Job::Enroll(_))));
    }

    #[test]
    fn what_is_unwanted_while_it_begins_ends_right_after() {
        let (mut enroller, now) = (Enroller::default(), Instant::now());
        enroller.want(vec![enrollment("a", "/a")], now);
        let Some(Job::Enroll(one)) = enroller.next_job(now, same) else { panic!() };
        enroller.want(vec![], now);
        assert!(enroller.statuses().is_empty());
        enroller.done(Done::Enrolled(one, None, ()), now);
        assert_eq!(work(&mut enroller, now), ["-a"]);
        assert_eq!(enroller.held().count(), 0);
        assert_eq!(enroller.next_deadline(), None);
    }

    proptest! {
        /// Whatever is wanted in whatever order, with jobs that end late and badly: in the end exactly what is wanted
        /// is captured, and no workload ever has two jobs.
        #[test]
        fn it_converges(
            steps in proptest::collection::vec((0u8..16, 0u8..3, any::<bool>()), 1..40)
        ) {
            let (mut enroller, mut now) = (Enroller::<()>::default(), Instant::now());
            let mut open: Vec<Job<()>> = Vec::new();
            let uid = |job: &Job<()>| match job {
                Job::Enroll(one) => Arc::clone(&one.uid),
                Job::Withdraw(uid, ()) => Arc::clone(uid),
            };
            let mut wanted = Vec::new();
            for (set, action, fails) in steps {
                match action {
                    0 => {
                        wanted = (0..4)
                            .filter(|bit| set & 1 << bit != 0)
                            .map(|bit| enrollment(&format!("w{bit}"), &format!("/{}", set % 2)))
                            .collect();
                        enroller.want(wanted.clone(), now);
                    }
                    1 => {
                        if let Some(job) = enroller.next_job(now, same) {
                            prop_assert!(!open.iter().any(|other| uid(other) == uid(&job)));
                            open.push(job);
                        }
                    }
                    _ => {
                        if let Some(job) = open.pop() {
                            let done = match job {
                                Job::Enroll(one) if fails => Done::Failed(one, "no".to_owned()),
                                Job::Enroll(one) => Done::Enrolled(one, None, ()),
                                Job::Withdraw(uid, ()) => Done::Withdrawn(uid),
                            };
                            enroller.done(done, now);
                        }
                    }
                }
            }
            for job in open {
                let done = match job {
                    Job::Enroll(one) => Done::Enrolled(one, None, ()),
                    Job::Withdraw(uid, ()) => Done::Withdrawn(uid),
                };
                enroller.done(done, now);
            }
            for _ in 0..3 {
                now += RETRY_MAX;
                work(&mut enroller, now);
            }
            prop_assert!(enroller.statuses().iter().all(|status| status.up));
            let held: Vec<_> = enroller.held().map(|(uid, ())| Arc::clone(uid)).collect();
            let mut uids: Vec<_> = wanted.iter().map(|one| Arc::clone(&one.uid)).collect();
            uids.sort();
            prop_assert_eq!(held, uids);
        }
    }
}

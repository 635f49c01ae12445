//! Which workloads are captured, which are to be, and what has to be done next.
//!
//! ```text
//!              wanted            done                    not wanted, or its namespace is another one
//!   (unknown) ───────▶ Waiting ─────▶ Working ─▶ Up ────────────────────────▶ Working ─▶ Waiting or gone
//!                        ▲   failed: pause, doubling │  ▲ somebody else in the same namespace │
//!                        └───────────────────────────┘  └──── Working ◀───────────────────────┘
//!                                                        pause, doubling ▲ │ failed
//!                                                                        Kept
//! ```
//!
//! What is `Kept` is served by nobody, and what holds its capture stays: until it works, or is not wanted any more,
//! nothing may pass beside it.
//!
//! A plain machine: it hands out jobs and is told how they ended. One workload that fails holds up no other.

#[cfg(test)]
mod tests;

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
    /// It could not be captured as what it is now. What held it before holds it still.
    Kept {
        enrollment: WorkloadEnrollment,
        file: Option<NamespaceFile>,
        held: H,
        due: Instant,
        failures: u32,
        error: String,
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
    /// Capture it as what it is now, in the same namespace. Nothing may pass beside it meanwhile, nor after a failure.
    Replace(WorkloadEnrollment, Option<NamespaceFile>, H),
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
    /// Not captured as what it is now, and why. What held it holds it still.
    Kept(WorkloadEnrollment, Option<NamespaceFile>, H, String),
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
                Some(Known::Waiting { due, .. } | Known::Kept { due, .. }) => *due = now,
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
        let Self { wanted, known, stopped, .. } = self;
        // What is to end goes first: it may stand in the way of what begins.
        let ending = known.iter().find_map(|(uid, known)| {
            let (enrollment, file, due) = match known {
                Known::Up { enrollment, file, .. } => (enrollment, file, None),
                Known::Kept { enrollment, file, due, .. } => (enrollment, file, Some(*due)),
                Known::Waiting { .. } | Known::Working { .. } => return None,
            };
            let is_there = identify(&enrollment.network_namespace) == *file;
            let next = wanted
                .get(uid)
                .filter(|next| is_there && next.network_namespace == enrollment.network_namespace);
            let is_due = match (due, next) {
                (Some(due), Some(_)) => due <= now,
                _ => next != Some(enrollment),
            };
            is_due.then(|| (Arc::clone(uid), next.cloned()))
        });
        if let Some((uid, next)) = ending {
            let working = Known::Working { failures: 0, error: None };
            let (file, held, working) = match known.insert(Arc::clone(&uid), working) {
                Some(Known::Up { file, held, .. }) => {
                    *stopped += u64::from(next.is_some());
                    (file, held, Known::Working { failures: 0, error: None })
                }
                Some(Known::Kept { file, held, failures, error, .. }) => {
                    (file, held, Known::Working { failures, error: Some(error) })
                }
                _ => unreachable!("it was held a moment ago, and nobody else has it"),
            };
            known.insert(Arc::clone(&uid), working);
            return Some(match next {
                Some(next) => Job::Replace(next, file, held),
                None => Job::Withdraw(uid, held),
            });
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
                let (failures, due) = self.failed(&enrollment.uid, now);
                let waiting = Known::Waiting { due, failures, error: Some(error) };
                self.settle(enrollment.uid, waiting);
            }
            Done::Kept(enrollment, file, held, error) => {
                let (failures, due) = self.failed(&enrollment.uid, now);
                // Also when it is not wanted any more: then it is withdrawn next.
                self.known.insert(
                    Arc::clone(&enrollment.uid),
                    Known::Kept { enrollment, file, held, due, failures, error },
                );
            }
            Done::Withdrawn(uid) => {
                self.stopped += 1;
                self.settle(uid, Known::Waiting { due: now, failures: 0, error: None });
            }
        }
    }

    /// Takes note of a capture that another process began.
    pub(super) fn inherit(
        &mut self,
        enrollment: WorkloadEnrollment,
        file: Option<NamespaceFile>,
        held: H,
    ) {
        self.known.insert(Arc::clone(&enrollment.uid), Known::Up { enrollment, file, held });
    }

    /// When the next attempt is due, if one waits.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.known.values().filter_map(|known| match known {
            Known::Waiting { due, .. } | Known::Kept { due, .. } => Some(*due),
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
                Some(Known::Kept { error, .. }) => (false, Some(error.clone())),
                None => (false, None),
            };
            EnrollmentStatus { uid: Arc::clone(uid), up, error }
        };
        self.wanted.keys().map(status).collect()
    }

    /// What every workload is held by that is captured and served.
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
            Known::Up { held, .. } | Known::Kept { held, .. } => Some((uid, held)),
            _ => None,
        });
        held.collect()
    }

    /// Captures that began and that ended.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.started, self.stopped)
    }

    /// How often the job under way has failed now, and when the next attempt is due.
    fn failed(&self, uid: &Arc<str>, now: Instant) -> (u32, Instant) {
        let failures = match self.known.get(uid) {
            Some(Known::Working { failures, .. }) => *failures,
            _ => 0,
        };
        let pause = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
        (failures + 1, now + pause)
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

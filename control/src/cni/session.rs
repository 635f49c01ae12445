//! The machine: what the agent has said about which pods, what has to be done about it, and what it is answered.
//!
//! ```text
//!   Away ── connected ──▶ Naming ── SnapshotSent: whoever was not named is stopped ──▶ Live
//!    ▲   pods go on         │ Add, Keep, Del                          Add, Del          │
//!    └───── disconnected ───┴───────────────────────────────────────────────────────────┘
//!
//!   a pod:  Add ─▶ (job) ─▶ Up ─── Add with another namespace ─▶ (job) ─▶ Up
//!                    │ failed                                     Del ─▶ gone
//!                    ▼
//!                 Waiting, tried again every 5 s while the agent is there
//! ```
//!
//! One thing happens at a time: a packet or a second attempt gives a [`Step`]; a step that is a [`Job`] is over with
//! [`Session::done`], which gives the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{self, PodInfo, Request};
use super::socket::{NamespaceId, Packet};

/// How long after a failure a pod is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Pods of one host, and names in one snapshot. Kubernetes supports 110 to a host, and people run a few hundred; more is
/// an agent gone wrong.
const PODS_MAX: usize = 4096;

/// What has to be done about pods.
#[derive(Debug, PartialEq, Eq)]
pub enum Job<N> {
    /// Serve a pod.
    Start {
        /// Its uid.
        uid: Arc<str>,
        /// Who it is.
        info: PodInfo,
        /// Where it is.
        namespace: N,
        /// It is served already, elsewhere or as somebody else: that ends first.
        replaces: bool,
    },
    /// Stop serving these pods; their connections are cut.
    Stop(Vec<Arc<str>>),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its pods are served, with every listener bound; or not any more.
    Done,
    /// Not this time, and why. Whatever it was to replace has ended.
    Failed(String),
    /// Never with this namespace, and why. Whatever it was to replace goes on.
    Refused(String),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<N> {
    /// Wait for a packet, or for the next deadline.
    Wait,
    /// Tell the agent.
    Answer(Vec<u8>),
    /// Do this, and say how it ended.
    Work(Job<N>),
    /// Tell the agent, and end the connection, for this reason.
    Refuse(Vec<u8>, String),
}

/// What can be seen of all this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The agent is there and has named all its pods.
    pub has_snapshot: bool,
    /// The pods that are served or should be.
    pub pods: BTreeMap<Arc<str>, PodSeen>,
    /// Pods that began to be served so far.
    pub started: u64,
    /// Pods that ended.
    pub stopped: u64,
}

/// What can be seen of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSeen {
    /// Who it is.
    pub info: PodInfo,
    /// Why it is not served, if it is not.
    pub error: Option<String>,
}

impl Seen {
    /// Whether every pod the agent has named is served.
    pub fn is_ready(&self) -> bool {
        self.has_snapshot && self.pods.values().all(|pod| pod.error.is_none())
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Session<N> {
    phase: Phase,
    pods: BTreeMap<Arc<str>, Pod<N>>,
    working: Option<Working<N>>,
    started: u64,
    stopped: u64,
}

#[derive(Debug)]
enum Phase {
    Away,
    Naming { named: BTreeSet<Arc<str>> },
    Live,
}

#[derive(Debug)]
struct Pod<N> {
    info: PodInfo,
    place: NamespaceId,
    state: State<N>,
}

#[derive(Debug)]
enum State<N> {
    /// The engine holds its namespace.
    Up,
    Waiting {
        namespace: N,
        error: String,
        due: Instant,
    },
}

/// What the job under way is for.
#[derive(Debug)]
enum Working<N> {
    Starting { uid: Arc<str>, info: PodInfo, place: NamespaceId, namespace: N, asked: bool },
    Stopping { uids: Vec<Arc<str>>, then: Then },
}

/// What follows when pods have been stopped.
#[derive(Debug)]
enum Then {
    Answer,
    SnapshotIsComplete,
}

impl<N: Clone> Session<N> {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Away, pods: BTreeMap::new(), working: None, started: 0, stopped: 0 }
    }

    /// There is an agent: what it does not name will be stopped. Returns the greeting.
    pub(super) fn connected(&mut self) -> Vec<u8> {
        self.phase = Phase::Naming { named: BTreeSet::new() };
        self.pods.retain(|_, pod| matches!(pod.state, State::Up));
        message::hello()
    }

    /// The agent has left. Pods go on.
    pub(super) fn disconnected(&mut self) {
        self.phase = Phase::Away;
    }

    /// Takes what the agent sent.
    pub(super) fn handle_packet(&mut self, packet: Packet<N>) -> Step<N> {
        assert!(self.working.is_none(), "one thing at a time");
        let Packet { bytes, mut namespaces, lost_descriptors } = packet;
        if lost_descriptors && namespaces.is_empty() && message::brings_namespace(&bytes) {
            return self.lost_descriptor();
        }
        match message::read(&bytes, namespaces.len()) {
            Err(malformed) => refuse(&malformed.to_string()),
            Ok(Request::Add(uid, info)) => {
                let (place, namespace) = namespaces.pop().expect("an Add has one");
                self.add(uid.into(), info, place, namespace)
            }
            Ok(Request::Keep(uid)) => self.keep(uid.into()),
            Ok(Request::Del(uid)) => self.del(&uid),
            Ok(Request::SnapshotSent) => self.snapshot_sent(),
        }
    }

    /// Takes note of how the job under way ended.
    pub(super) fn done(&mut self, outcome: Outcome, now: Instant) -> Step<N> {
        match self.working.take().expect("a job is under way") {
            Working::Starting { uid, info, place, namespace, asked } => {
                let error = self.tried(uid, info, place, namespace, outcome, now);
                match asked {
                    true => Step::Answer(message::answer(error.as_deref())),
                    false => Step::Wait,
                }
            }
            Working::Stopping { uids, then } => {
                for uid in &uids {
                    self.pods.remove(uid);
                    self.stopped += 1;
                }
                match then {
                    Then::Answer => succeed(),
                    Then::SnapshotIsComplete => self.go_live(),
                }
            }
        }
    }

    /// A second attempt, if one is due. Only while the agent is there: otherwise nobody could say that the pod has gone.
    pub(super) fn handle_deadline(&mut self, now: Instant) -> Step<N> {
        assert!(self.working.is_none(), "one thing at a time");
        let due = self.pods.iter().find_map(|(uid, pod)| match &pod.state {
            State::Waiting { namespace, due, .. } if *due <= now => {
                Some((Arc::clone(uid), pod.info.clone(), pod.place, namespace.clone()))
            }
            _ => None,
        });
        match due {
            Some((uid, info, place, namespace)) if !self.is_away() => {
                self.start(uid, info, place, namespace, false)
            }
            _ => Step::Wait,
        }
    }

    /// When [`Session::handle_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = self.pods.values().filter_map(|pod| match &pod.state {
            State::Waiting { due, .. } => Some(*due),
            State::Up => None,
        });
        due.min().filter(|_| !self.is_away())
    }

    /// Whether the agent has named all its pods.
    pub(super) fn has_snapshot(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    pub(super) fn seen(&self) -> Seen {
        let seen = |pod: &Pod<N>| PodSeen {
            info: pod.info.clone(),
            error: match &pod.state {
                State::Up => None,
                State::Waiting { error, .. } => Some(error.clone()),
            },
        };
        Seen {
            has_snapshot: self.has_snapshot(),
            pods: self.pods.iter().map(|(uid, pod)| (Arc::clone(uid), seen(pod))).collect(),
            started: self.started,
            stopped: self.stopped,
        }
    }

    fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away)
    }

    fn add(&mut self, uid: Arc<str>, info: PodInfo, place: NamespaceId, namespace: N) -> Step<N> {
        let known = self.pods.get(&uid);
        let named = match &self.phase {
            Phase::Naming { named } => named.len(),
            _ => 0,
        };
        if known.is_none() && self.pods.len().max(named) >= PODS_MAX {
            return fail("this host has more pods than Ringway serves");
        }
        if let Phase::Naming { named } = &mut self.phase {
            named.insert(Arc::clone(&uid));
        }
        match known {
            Some(Pod { info: i, place: p, state: State::Up }) if *i == info && *p == place => {
                succeed()
            }
            _ => self.start(uid, info, place, namespace, true),
        }
    }

    fn start(
        &mut self,
        uid: Arc<str>,
        info: PodInfo,
        place: NamespaceId,
        namespace: N,
        asked: bool,
    ) -> Step<N> {
        let replaces = self.pods.get(&uid).is_some_and(|pod| matches!(pod.state, State::Up));
        self.working = Some(Working::Starting {
            uid: Arc::clone(&uid),
            info: info.clone(),
            place,
            namespace: namespace.clone(),
            asked,
        });
        Step::Work(Job::Start { uid, info, namespace, replaces })
    }

    /// Takes note of an attempt to serve a pod. Returns what went wrong.
    fn tried(
        &mut self,
        uid: Arc<str>,
        info: PodInfo,
        place: NamespaceId,
        namespace: N,
        outcome: Outcome,
        now: Instant,
    ) -> Option<String> {
        let was_up = self.pods.get(&uid).is_some_and(|pod| matches!(pod.state, State::Up));
        let (state, error) = match outcome {
            Outcome::Refused(why) => return Some(why),
            Outcome::Done => (State::Up, None),
            Outcome::Failed(error) => {
                let due = now + RETRY_PAUSE;
                (State::Waiting { namespace, error: error.clone(), due }, Some(error))
            }
        };
        self.started += u64::from(error.is_none());
        self.stopped += u64::from(was_up);
        self.pods.insert(uid, Pod { info, place, state });
        error
    }

    fn keep(&mut self, uid: Arc<str>) -> Step<N> {
        let Phase::Naming { named } = &mut self.phase else {
            return refuse(
                "a pod is to be kept after the snapshot; only Add and Del may follow it",
            );
        };
        if named.len() >= PODS_MAX {
            return fail("this host has more pods than Ringway serves");
        }
        named.insert(uid);
        succeed()
    }

    fn del(&mut self, uid: &str) -> Step<N> {
        let waits = |pod: &Pod<N>| matches!(pod.state, State::Waiting { .. });
        if self.pods.get(uid).is_some_and(waits) {
            self.pods.remove(uid);
        }
        if let Phase::Naming { named } = &mut self.phase {
            // It ends with all others that are not named.
            named.remove(uid);
            return succeed();
        }
        match self.pods.get_key_value(uid) {
            None => succeed(),
            Some((uid, _)) => self.stop(vec![Arc::clone(uid)], Then::Answer),
        }
    }

    fn snapshot_sent(&mut self) -> Step<N> {
        let Phase::Naming { named } = &self.phase else {
            return refuse("a second snapshot was sent on one connection");
        };
        let gone = self.pods.keys().filter(|uid| !named.contains(*uid));
        let gone: Vec<_> = gone.cloned().collect();
        match gone.is_empty() {
            true => self.go_live(),
            false => self.stop(gone, Then::SnapshotIsComplete),
        }
    }

    fn go_live(&mut self) -> Step<N> {
        self.phase = Phase::Live;
        succeed()
    }

    fn stop(&mut self, uids: Vec<Arc<str>>, then: Then) -> Step<N> {
        self.working = Some(Working::Stopping { uids: uids.clone(), then });
        Step::Work(Job::Stop(uids))
    }

    /// The agent tries a pod that starts again. One that runs it names once only, so it is to begin anew.
    fn lost_descriptor(&self) -> Step<N> {
        let why = "the pod's network namespace was lost on its way: this process may not open more descriptors";
        match self.phase {
            Phase::Naming { .. } => refuse(why),
            _ => fail(why),
        }
    }
}

fn succeed<N>() -> Step<N> {
    Step::Answer(message::answer(None))
}

fn fail<N>(why: &str) -> Step<N> {
    Step::Answer(message::answer(Some(why)))
}

fn refuse<N>(why: &str) -> Step<N> {
    Step::Refuse(message::answer(Some(why)), why.to_owned())
}

//! What must be asked for, where the control plane tells nothing else: what connections wait for, and who our pods are.
//!
//! An answer is in force once the world that has it is published. That nobody has a name is an answer, too; it is asked for
//! again after a while, because a control plane forgets with a stream who asked for what is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::snapshot::{AnsweredNames, Snapshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cni::PodInfo;
use crate::xds::XdsClient;

/// How often the engine is asked what connections wait for: part of what the first of them waits.
const WANTED_INTERVAL: Duration = Duration::from_millis(10);

/// How long an answer holds.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(60);

/// Answers that are kept; the oldest is forgotten, and asked for anew by the next connection that needs it.
const ANSWERS_MAX: usize = 16_384;

/// Names that are asked about at a time. Others are asked about again by their connections' successors.
const ASKED_MAX: usize = 1024;

/// See the module's text.
pub(super) struct Demanded {
    engine: Arc<Engine>,
    /// None: everything is told unasked.
    client: Option<Rc<XdsClient>>,
    answered: AnsweredNames,
    since: BTreeMap<Box<str>, Instant>,
    asked: BTreeSet<Box<str>>,
    asking: JoinSet<(Box<str>, bool)>,
}

impl Demanded {
    /// Nothing is known yet.
    pub(super) fn new(engine: Arc<Engine>, client: Option<Rc<XdsClient>>) -> Self {
        Self {
            engine,
            client,
            answered: AnsweredNames::default(),
            since: BTreeMap::new(),
            asked: BTreeSet::new(),
            asking: JoinSet::new(),
        }
    }

    /// Waits until something was answered, or must be asked about again. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
        if self.client.is_none() {
            return std::future::pending().await;
        }
        loop {
            while let Some(wanted) = self.engine.next_wanted_name() {
                self.ask(wanted);
            }
            if self.forget_old() {
                return;
            }
            tokio::select! {
                Some(Ok((name, told))) = self.asking.join_next(), if !self.asking.is_empty() => {
                    self.asked.remove(&name);
                    if told {
                        return self.note(name);
                    }
                }
                () = tokio::time::sleep(WANTED_INTERVAL) => {}
            }
        }
    }

    /// Asks who a pod is.
    pub(super) fn ask_for_pod(&mut self, cluster: &str, pod: &PodInfo) {
        self.ask(format!("{cluster}//Pod/{}/{}", pod.namespace, pod.name).into());
    }

    /// Tells `world` what was answered.
    pub(super) fn tell(&self, world: &mut Snapshot) {
        if self.client.is_some() {
            world.set_answered(self.answered.clone());
        }
    }

    fn ask(&mut self, name: Box<str>) {
        let Some(client) = &self.client else { return };
        let is_known = self.answered.contains(&name) || self.asked.contains(&name);
        if is_known || self.asked.len() >= ASKED_MAX {
            return;
        }
        let answer = client.demand(&name);
        self.asked.insert(name.clone());
        self.asking.spawn(async move {
            let answer = answer.await;
            if let Err(refused) = &answer {
                tracing::debug!(%name, %refused, "not told");
            }
            (name, answer.is_ok())
        });
    }

    fn note(&mut self, name: Box<str>) {
        if self.since.len() >= ANSWERS_MAX {
            let oldest = self.since.iter().min_by_key(|(_, since)| **since);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.forget(&oldest);
            }
        }
        self.answered.insert(&name);
        self.since.insert(name, Instant::now());
    }

    /// Whether there was any.
    fn forget_old(&mut self) -> bool {
        let is_old = |since: &Instant| since.elapsed() > ANSWER_AGE_MAX;
        let old: Vec<_> = self.since.iter().filter(|(_, since)| is_old(since)).collect();
        let old: Vec<_> = old.into_iter().map(|(name, _)| name.clone()).collect();
        old.iter().for_each(|name| self.forget(name));
        !old.is_empty()
    }

    fn forget(&mut self, name: &str) {
        self.answered.remove(name);
        self.since.remove(name);
    }
}

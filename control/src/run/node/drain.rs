//! The end: nobody new, then nobody at all, then nothing of ours left behind.
//!
//! ```text
//!   not ready ─▶ rules let go (new connections go direct) ─▶ engine drains ─▶ rules gone ─▶ servers end ─▶ last lines
//!                                         asked again: what is open is cut ─────▲
//! ```
//!
//! Who is asked again hurries and leaves nothing out: every step has a bound then.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::Node;
use crate::run::Ending;
use crate::run::drain::{CUT_PATIENCE, begin, cut_at_once, in_time, write_records};
use crate::run::enroller::Done;
use crate::run::host::{Held, Host};

/// Workloads by their uids, with what is held for each.
type Workloads = Vec<(Arc<str>, Held)>;

/// Captures that are under way when the end comes may finish, but not for longer.
const JOBS_PATIENCE: Duration = Duration::from_secs(10);

/// What taking all rules away may take when the end is to come at once: some milliseconds for each workload.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(3);

impl Node {
    /// Ends in order, or at once when it is asked for again.
    pub(super) async fn drain(mut self, who: &str, jobs: JoinSet<Done<Held>>) -> Ending {
        let deadline = self.config.drain_deadline;
        begin(who, deadline, &self.service_manager, &self.readiness);

        let mut captures = Captures::new(&self.host, jobs, self.enroller.take_held());
        let (engine, dns) = (Arc::clone(&self.engine), self.dns.clone());
        let in_order = async {
            captures.settle(JOBS_PATIENCE).await;
            captures.release().await;
            let drained = tokio::task::spawn_blocking(move || {
                std::thread::scope(|scope| {
                    scope.spawn(|| dns.map(|dns| dns.drain(deadline)));
                    engine.drain(deadline)
                })
            });
            drained.await.unwrap_or_default()
        };
        let ending = tokio::select! {
            report = in_order => in_time(&report),
            who = self.requests.stop() => cut_at_once(&self.engine, Engine::drain, who).await,
        };
        if ending == Ending::Forced {
            captures.settle(CUT_PATIENCE).await;
        }
        let ending = captures.remove(ending, self.requests.stop()).await;

        self.servers.remove_control();
        self.servers.stop().await;
        self.write_records();
        #[cfg(feature = "waypoint")]
        if let Some(requests) = &self.requests_told {
            requests.finish().await;
        }
        tracing::info!("ended");
        ending
    }

    pub(super) fn write_records(&self) {
        write_records(&self.engine, &self.log);
    }
}

/// What is captured when the end comes, until its rules are gone. Steps may be abandoned at any await: what they had
/// got to is here.
struct Captures {
    host: Arc<Host>,
    jobs: JoinSet<Done<Held>>,
    held: Workloads,
    releasing: Option<JoinHandle<Workloads>>,
}

impl Captures {
    fn new(host: &Arc<Host>, jobs: JoinSet<Done<Held>>, held: Workloads) -> Self {
        Self { host: Arc::clone(host), jobs, held, releasing: None }
    }

    /// Waits for what is under way on other threads. A capture that takes too long takes its rules away itself, if there
    /// is a process still when it ends.
    async fn settle(&mut self, patience: Duration) {
        let all = async {
            while let Some(done) = self.jobs.join_next().await {
                match done {
                    Ok(Done::Enrolled(one, _, held) | Done::Kept(one, _, held, _)) => {
                        self.held.push((one.uid, held));
                    }
                    Ok(Done::Failed(..) | Done::Withdrawn(_)) => {}
                    Err(panic) => tracing::error!(%panic, "a job broke"),
                }
            }
            if let Some(releasing) = &mut self.releasing {
                // A panic has been told; its rules stay.
                let released = releasing.await.unwrap_or_default();
                self.held.extend(released);
                self.releasing = None;
            }
        };
        let _ = timeout(patience, all).await;
    }

    /// From now on new connections go direct.
    async fn release(&mut self) {
        let (host, held) = (Arc::clone(&self.host), std::mem::take(&mut self.held));
        self.releasing = Some(tokio::task::spawn_blocking(move || {
            held.iter().for_each(|(uid, held)| host.release(uid, held));
            held
        }));
        self.settle(Duration::MAX).await;
    }

    /// Takes all rules away; within a bound from when the end is to come at once.
    async fn remove(self, ending: Ending, again: impl Future<Output = &'static str>) -> Ending {
        let Self { host, held, .. } = self;
        let mut removing = tokio::task::spawn_blocking(move || {
            held.into_iter().for_each(|(uid, held)| host.remove(&uid, held));
        });
        if ending == Ending::Drained {
            tokio::select! {
                // A panic has been told; its rules stay.
                _ = &mut removing => return ending,
                who = again => tracing::warn!(asked_by = who, "asked again: ending at once"),
            }
        }
        if timeout(REMOVAL_PATIENCE, removing).await.is_err() {
            tracing::warn!(
                "some redirect rules remain: connections of their workloads are refused until a node starts here"
            );
        }
        Ending::Forced
    }
}

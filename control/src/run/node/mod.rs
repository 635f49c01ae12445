//! A node that serves: what it holds, and what it does about what happens.

mod configuration;
mod drain;
mod handover;
mod keys;
mod show;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringway_engine::Engine;
use ringway_engine::limits::SHARD_TURN_MAX;
use ringway_engine::snapshot::Snapshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::Ending;
use super::certificates;
use super::enroller::{Done, Enroller};
use super::error::RunError;
use super::handover::HandingOver;
use super::host::{Held, Host, identify};
use super::hostnames::Hostnames;
use super::options::RunOptions;
use super::revocation::Revocation;
use super::servers::Servers;
use super::signals::{Request, Requests};
use super::systemd::ServiceManager;
use crate::admin::readiness::Readiness;
use crate::admin::view::View;
use crate::dns::Dns;
use crate::handover::control_socket::{Answer, Ask};
use crate::handover::predecessor::Launch;
use crate::identity::{Certifier, CredentialChange};
use crate::source::{MeshConfig, NodeConfig, Watcher};
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Outcomes;

/// How often the authority's directory and the namespaces of workloads are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Workloads that are captured, or let go, at the same time: the tools they need take a few milliseconds each.
const JOBS_MAX: usize = 4;

/// Everything the control thread holds.
pub(super) struct Node {
    pub(super) options: RunOptions,
    pub(super) config: NodeConfig,
    pub(super) log: Log,
    pub(super) engine: Arc<Engine>,
    /// Where workloads' names are asked for, if they are.
    pub(super) dns: Option<Arc<Dns>>,
    pub(super) hostnames: Hostnames,
    pub(super) host: Arc<Host>,
    /// The filter of system calls in force; a successor is born with it.
    pub(super) call_filter: Option<u64>,
    pub(super) revocation: Revocation,
    pub(super) certifier: Certifier,
    pub(super) enroller: Enroller<Held>,
    pub(super) readiness: Readiness,
    pub(super) view: Rc<View>,
    pub(super) servers: Servers,
    pub(super) requests: Requests,
    pub(super) service_manager: ServiceManager,
    pub(super) reloads: Outcomes,
    pub(super) generation: u64,
    pub(super) launch: Launch,
    /// In a process that serves requests: who tells of them.
    #[cfg(feature = "waypoint")]
    pub(super) requests_told: Option<crate::run::waypoint::Requests>,
    #[cfg(feature = "waypoint")]
    pub(super) lingering: crate::run::waypoint::Lingering,
    pub(super) keys: keys::TokenKeys,
}

/// Work under way on other threads.
#[derive(Default)]
pub(super) struct Work {
    pub(super) jobs: JoinSet<Done<Held>>,
    pub(super) loads: JoinSet<Result<MeshConfig, RunError>>,
    /// Something changed while nothing could be loaded.
    load_again: bool,
    /// A hand-over, from when it is asked for to its end.
    pub(super) handover: HandingOver,
}

impl Work {
    /// Whether a load can begin; if not, one is due later.
    fn may_load(&mut self) -> bool {
        let may = self.loads.is_empty() && self.handover.is_none();
        self.load_again |= !may;
        may
    }

    /// Whether a load has waited, and can begin now.
    fn load_is_due(&mut self) -> bool {
        self.load_again
            && self.loads.is_empty()
            && self.handover.is_none()
            && std::mem::take(&mut self.load_again)
    }
}

impl Node {
    /// Takes the first configuration.
    pub(super) async fn begin(mut self, mesh: MeshConfig) -> Self {
        let (host, wanted) = (Arc::clone(&self.host), mesh.enrollments.clone());
        let cleaned = tokio::task::spawn_blocking(move || host.remove_leftovers(&wanted));
        let _ = cleaned.await;
        self.take(mesh).await;
        self.servers.begin(&self.requests);
        // What is pending now is named before this step is over: nobody must see it ready in between.
        self.show();
        self.readiness.set_step("proxy", false);
        self
    }

    /// Serves until it is told to end.
    pub(super) async fn serve(mut self, mut watcher: Watcher) -> Ending {
        let mut work = Work::default();
        let mut told_ready = false;
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watchdog = self.service_manager.watchdog_interval();
        let mut watchdog = interval(watchdog.unwrap_or(LOOK_INTERVAL));
        loop {
            if work.handover.is_none() {
                self.start_jobs(&mut work);
            } else if work.jobs.is_empty() && work.loads.is_empty() {
                self.start_handover(&mut work.handover);
            }
            if work.load_is_due() {
                self.reload(&mut work);
            }
            self.renew();
            self.show();
            if !told_ready && self.every_workload_was_tried() {
                told_ready = true;
                self.service_manager.ready();
                tracing::info!(workloads = self.enroller.held().count(), "serving");
            }
            let deadline = self.deadline(&work);
            tokio::select! {
                Some(done) = work.jobs.join_next(), if !work.jobs.is_empty() => self.job_ended(done),
                Some(loaded) = work.loads.join_next(), if !work.loads.is_empty() => {
                    self.loaded(loaded).await;
                }
                stepped = work.handover.step() => {
                    if let Some(heir) = work.handover.step_ended(stepped) {
                        return self.give_away(heir, watcher).await;
                    }
                }
                request = self.requests.next() => match request {
                    Request::Reload => self.reload(&mut work),
                    Request::HandOver(ask) => match self.options.refuses_handover() {
                        None => work.handover.ask(ask),
                        Some(why) => refuse(ask, why),
                    },
                    Request::Stop(who) => {
                        let ending = work.handover.abandon("the process is told to end: it drains");
                        let Some(heir) = ending.await else {
                            return self.drain(who, work.jobs).await;
                        };
                        // Whoever told this process meant the node, which is that one since a moment ago.
                        heir.tell_to_end();
                        return self.give_away(heir, watcher).await;
                    }
                },
                () = watcher.changed() => self.reload(&mut work),
                () = self.revocation.changed() => self.revoke(),
                () = self.keys.changed() => self.take_keys(),
                // What came is taken at the top of the loop.
                () = self.certifier.changed(|| self.engine.telemetry().next_wanted_identity()) => {}
                () = self.hostnames.changed() => self.tell_resolutions(),
                _ = look.tick() => self.look(),
                _ = watchdog.tick() => self.tell_alive(),
                () = sleep_until(deadline.into()) => {}
            }
        }
    }

    /// While the last connections end here and a successor is the node: they are held against what is new in the
    /// configuration, the revocation lists and the roots, as ever. Ends when this process is told to end at once.
    pub(super) async fn follow_until_stop(&mut self, watcher: &mut Watcher) -> &'static str {
        let mut work = Work::default();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if work.load_is_due() {
                self.reload(&mut work);
            }
            self.renew();
            let deadline = self.leaves_due();
            tokio::select! {
                Some(loaded) = work.loads.join_next(), if !work.loads.is_empty() => {
                    self.loaded(loaded).await;
                    self.withdraw_unwanted().await;
                }
                who = self.requests.stop() => return who,
                () = watcher.changed() => self.reload(&mut work),
                () = self.revocation.changed() => self.revoke(),
                _ = look.tick() => self.look(),
                () = sleep_until(deadline.into()) => {}
            }
        }
    }

    /// Ends what is open of workloads that nobody wants any more. Their rules are not this process's.
    async fn withdraw_unwanted(&self) {
        let wanted = self.enroller.statuses();
        let mut gone = self.engine.enrolled();
        gone.retain(|uid| wanted.iter().all(|status| status.uid != *uid));
        let engine = Arc::clone(&self.engine);
        let withdrawn =
            tokio::task::spawn_blocking(move || gone.iter().for_each(|uid| engine.withdraw(uid)));
        // A panic has been told.
        let _ = withdrawn.await;
    }

    /// A node one of whose shards is stuck is not alive.
    fn tell_alive(&self) {
        if self.engine.stuck(SHARD_TURN_MAX).is_empty() {
            self.service_manager.alive();
        }
    }

    /// Tells the engine where hostnames lead.
    fn tell_resolutions(&mut self) {
        let mut world = Snapshot::clone(&self.engine.snapshot());
        self.hostnames.tell(&mut world);
        self.publish(world);
    }

    /// Issues what is due and tells the engine.
    pub(in crate::run) fn renew(&mut self) {
        let changes = certificates::renew(&mut self.certifier);
        self.tell(changes);
    }

    /// Reads the revocation lists again, and holds every peer against what is new in them.
    fn revoke(&mut self) {
        let changes = certificates::revoke(&mut self.certifier, &mut self.revocation);
        self.tell(changes);
    }

    fn tell(&mut self, changes: Vec<CredentialChange>) {
        if changes.is_empty() {
            return;
        }
        let mut world = Snapshot::clone(&self.engine.snapshot());
        certificates::apply(changes, &mut world);
        self.publish(world);
    }

    fn publish(&mut self, world: Snapshot) {
        self.generation += 1;
        if let Some(dns) = &self.dns {
            dns.publish(world.clone());
        }
        self.engine.publish(world.with_generation(self.generation));
    }

    /// Every few seconds: did somebody change the authority?
    fn look(&mut self) {
        #[cfg(feature = "waypoint")]
        if self.lingering.is_over(Instant::now()) {
            let mut world = Snapshot::clone(&self.engine.snapshot());
            self.lingering.end(&mut world, Instant::now());
            self.publish(world);
        }
        certificates::follow_authority(&mut self.certifier);
    }

    fn start_jobs(&mut self, work: &mut Work) {
        while work.jobs.len() < JOBS_MAX
            && let Some(job) = self.enroller.next_job(Instant::now(), identify)
        {
            let host = Arc::clone(&self.host);
            work.jobs.spawn_blocking(move || host.work(job));
        }
    }

    pub(super) fn job_ended(&mut self, done: Result<Done<Held>, tokio::task::JoinError>) {
        match done {
            Ok(done) => {
                match &done {
                    Done::Failed(enrollment, error) => tracing::warn!(
                        workload = &*enrollment.uid,
                        error,
                        "workload not captured; tried again"
                    ),
                    Done::Kept(enrollment, _, _, error) => tracing::warn!(
                        workload = &*enrollment.uid,
                        error,
                        "workload not captured as what it is now; its rules stay, so it is cut off until that works"
                    ),
                    Done::Enrolled(..) | Done::Withdrawn(_) => {}
                }
                self.enroller.done(done, Instant::now());
            }
            // Its workload stays as it is: without knowing how far the job came, nothing else is safe.
            Err(panic) => tracing::error!(%panic, "a job broke"),
        }
    }

    fn every_workload_was_tried(&self) -> bool {
        self.enroller.statuses().iter().all(|status| status.up || status.error.is_some())
    }

    fn deadline(&self, work: &Work) -> Instant {
        // Where no further job can start, one that ends wakes us.
        let has_room = work.jobs.len() < JOBS_MAX;
        let workloads = self.enroller.next_deadline().filter(|_| has_room);
        workloads.into_iter().fold(self.leaves_due(), Instant::min)
    }

    /// When the next leaf is due.
    fn leaves_due(&self) -> Instant {
        let now = Instant::now();
        let leaves = self.certifier.next_deadline();
        let until = leaves.map(|moment| moment.duration_since(SystemTime::now()));
        now + until.map_or(LOOK_INTERVAL, Result::unwrap_or_default)
    }
}

fn refuse(ask: Ask, why: &str) {
    tracing::error!("{why}");
    if let Some(sender) = ask.answer {
        // Whoever asked may have left.
        let _ = sender.send(Answer::RolledBack { why: why.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change that comes while a hand-over is wanted is loaded when that is refused, and not forgotten.
    #[test]
    fn a_load_that_could_not_begin_is_due_as_soon_as_it_can() {
        let mut work = Work::default();
        assert!(work.may_load() && !work.load_is_due());
        work.handover.ask(Ask { binary: None, answer: None });
        assert!(!work.may_load() && !work.load_is_due());
        // Refused at once.
        work.handover = HandingOver::Nothing;
        assert!(work.load_is_due(), "it was put off");
        assert!(!work.load_is_due(), "once is enough");
    }
}

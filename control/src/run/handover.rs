//! A node hands over to a successor, or takes over from a predecessor.
//!
//! ```text
//!            asked          no job under way         ready                    serving
//!   Nothing ──────▶ Asked ──────────────────▶ Preparing ──────▶ let_serve ──────────────▶ give_away ─▶ end
//!      ▲                                          │ anything else     │ anything else
//!      └──────────────────────────────────────────┴───────────────────┘  rolled back: nothing has changed
//! ```
//!
//! While a successor is prepared, what is captured does not change: reloads and jobs wait.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway_engine::limits::{HANDOVER_CONNECTIONS_MAX, HANDOVER_LOOK_INTERVAL};
use ringway_engine::{DrainReport, Engine};
use tokio::task::JoinHandle;

use super::drain::tell;
use super::error::RunError;
use super::host::Inherited;
use super::node::Node;
use super::{Ending, STANDARD_INPUT};
use crate::handover::channel::{Breaker, Channel};
use crate::handover::control_socket::{Answer, Ask};
use crate::handover::predecessor::{self, Estate, Heir, NotTaken};
use crate::handover::successor::{Inheritance, Predecessor};
use crate::source::{MeshConfig, Source};

/// See the module's drawing.
#[derive(Default)]
pub(super) enum HandingOver {
    #[default]
    Nothing,
    Asked(Ask),
    Preparing(Ask, Breaker, JoinHandle<Result<Heir, String>>),
}

impl HandingOver {
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Takes note that a hand-over is wanted; one is enough.
    pub(super) fn ask(&mut self, ask: Ask) {
        if self.is_none() {
            *self = Self::Asked(ask);
        } else {
            tracing::warn!("a hand-over is under way: the second one is refused");
            answer(ask, rolled_back("a hand-over is under way already"));
        }
    }

    /// Waits for the successor that is being prepared; for ever, when there is none.
    pub(super) async fn prepared(&mut self) -> Result<Heir, String> {
        match self {
            Self::Preparing(_, _, preparing) => match preparing.await {
                Ok(prepared) => prepared,
                Err(panic) => Err(format!("the preparation broke: {panic}")),
            },
            _ => std::future::pending().await,
        }
    }

    /// Ends it, with whatever has been prepared.
    pub(super) async fn abandon(&mut self, why: &str) {
        match std::mem::take(self) {
            Self::Nothing => {}
            Self::Asked(ask) => answer(ask, rolled_back(why)),
            Self::Preparing(ask, breaker, preparing) => {
                breaker.shut();
                // An heir is ended when it is dropped.
                drop(preparing.await);
                answer(ask, rolled_back(why));
            }
        }
    }

    /// What was asked, now that it is over.
    fn take_ask(&mut self) -> Option<Ask> {
        match std::mem::take(self) {
            Self::Nothing => None,
            Self::Asked(ask) | Self::Preparing(ask, ..) => Some(ask),
        }
    }
}

fn rolled_back(why: &str) -> Answer {
    Answer::RolledBack { why: why.to_owned() }
}

fn answer(ask: Ask, outcome: Answer) {
    if let Some(sender) = ask.answer {
        // Whoever asked may have left.
        let _ = sender.send(outcome);
    }
}

/// The old process.
impl Node {
    /// Begins to prepare a successor, if one was asked for and nothing is in its way.
    pub(super) fn start_handover(&mut self, handover: &mut HandingOver) {
        let ask = match std::mem::take(handover) {
            HandingOver::Asked(ask) => ask,
            other => {
                *handover = other;
                return;
            }
        };
        if std::process::id() == 1 {
            let why = "this is the first process of its container, which ends with it: a hand-over would end both";
            tracing::error!("{why}");
            return answer(ask, rolled_back(why));
        }
        let launch = self.launch.clone().with_program(ask.binary.clone());
        let own = self.own_estate().and_then(|estate| {
            let (channel, far) = Channel::pair()?;
            Ok((estate, channel.breaker()?, (channel, far)))
        });
        let (mut estate, breaker, channel) = match own {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%error, "no hand-over: descriptors are short");
                return answer(ask, rolled_back(&format!("descriptors are short: {error}")));
            }
        };
        let tools: BTreeMap<_, _> =
            self.enroller.held().map(|(uid, held)| (Arc::clone(uid), held.tool())).collect();
        let engine = Arc::clone(&self.engine);
        tracing::info!(program = %launch.program().display(), "handing over: a new process is started");
        let preparing = tokio::task::spawn_blocking(move || {
            let listening = engine.listening().map_err(|error| error.to_string())?;
            let workloads = listening.into_iter().filter_map(|workload| {
                let tool = tools.get(&workload.uid)?.clone();
                Some((workload, tool))
            });
            estate.workloads = workloads.collect();
            predecessor::prepare(&launch, estate, channel)
        });
        *handover = HandingOver::Preparing(ask, breaker, preparing);
    }

    /// What belongs to the process itself.
    fn own_estate(&self) -> io::Result<Estate> {
        let standard_input = self.options.sources.iter().find_map(|source| match source {
            Source::Text { name, text } if name == STANDARD_INPUT => Some(text.clone()),
            _ => None,
        });
        Ok(Estate {
            standard_input,
            servers: self.servers.sockets()?,
            workloads: Vec::new(),
            redirect: self.host.redirects(),
            call_filter: self.call_filter,
        })
    }

    /// Lets a successor that is ready serve; one that is not, or does not, is ended, and nothing has changed.
    pub(super) async fn let_serve(
        &mut self,
        prepared: Result<Heir, String>,
        handover: &mut HandingOver,
    ) -> Option<Heir> {
        let ask = handover.take_ask();
        let served = match prepared {
            Err(why) => Err(why),
            Ok(mut heir) => tokio::task::spawn_blocking(move || heir.serve().map(|()| heir))
                .await
                .unwrap_or_else(|panic| Err(format!("the hand-over broke: {panic}"))),
        };
        let outcome = match &served {
            Ok(heir) => Answer::HandedOver { from: std::process::id(), to: heir.id() },
            Err(why) => {
                tracing::error!(why, "no hand-over: this process goes on, nothing has changed");
                rolled_back(why)
            }
        };
        if let Some(ask) = ask {
            answer(ask, outcome);
        }
        served.ok()
    }

    /// Stops accepting, gives the live connections that can move to the successor, and lets the others end.
    pub(super) async fn give_away(mut self, heir: Heir) -> Ending {
        tracing::info!(pid = heir.id(), "a new process serves: draining, what can move moves");
        self.service_manager.main_process(heir.id());
        // From here on the rules and the ledger are the successor's.
        for (_, held) in self.enroller.take_held() {
            held.leave();
        }
        let (engine, deadline) = (Arc::clone(&self.engine), self.config.drain_deadline);
        let dns = self.dns.clone();
        let given = tokio::task::spawn_blocking(move || {
            heir.succeed();
            std::thread::scope(|scope| {
                scope.spawn(|| dns.map(|dns| dns.drain(deadline)));
                give_connections(&engine, &heir, deadline)
            })
        });
        self.servers.stop().await;
        tokio::select! {
            given = given => {
                let (report, moved) = given.unwrap_or_default();
                tracing::info!(moved, "live connections were moved");
                tell(&report);
            }
            who = self.requests.stop() => return self.end_at_once(who).await,
        }
        self.write_records();
        tracing::info!("ended");
        Ending::Drained
    }
}

/// Drains, and meanwhile gives away what can move: connections that are being dialled can later.
fn give_connections(engine: &Engine, heir: &Heir, deadline: Duration) -> (DrainReport, usize) {
    let drained = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| move_until(engine, heir, &drained));
        let report = engine.drain_after_handover(deadline);
        drained.store(true, Ordering::Relaxed);
        (report, moving.join().unwrap_or_default())
    })
}

fn move_until(engine: &Engine, heir: &Heir, drained: &AtomicBool) -> usize {
    let mut moved = 0;
    while !drained.load(Ordering::Relaxed) {
        let connections = engine.call_away(heir.workloads(), HANDOVER_CONNECTIONS_MAX);
        if connections.is_empty() {
            std::thread::sleep(HANDOVER_LOOK_INTERVAL);
            continue;
        }
        let count = connections.len();
        match heir.give(connections) {
            Ok(()) => moved += count,
            Err(NotTaken { back, unknown, why }) => {
                tracing::error!(
                    why,
                    back = back.len(),
                    unknown,
                    "connections are not moved any more"
                );
                back.into_iter().for_each(|connection| engine.resume(connection));
                break;
            }
        }
    }
    moved
}

/// The new process.
impl Node {
    /// Takes the first configuration beside a predecessor, and serves when that lets it.
    ///
    /// # Errors
    /// When it does not. Then this process has changed nothing, and must end.
    pub(super) async fn inherit(
        mut self,
        mesh: MeshConfig,
        inheritance: Inheritance,
    ) -> Result<Self, RunError> {
        let wanted = mesh.enrollments.clone();
        self.take(mesh).await;
        let Inheritance { mut workloads, redirect, predecessor, .. } = inheritance;
        let (host, enrollments) = (Arc::clone(&self.host), wanted.clone());
        let taking = tokio::task::spawn_blocking(move || {
            let mut taken = Vec::new();
            for enrollment in &enrollments {
                let Some(workload) = workloads.remove(&enrollment.uid) else { continue };
                match host.inherit(enrollment, workload) {
                    Ok(inherited) => taken.push(inherited),
                    Err(error) => tracing::warn!(
                        workload = &*enrollment.uid,
                        error,
                        "not taken over: captured anew when this process serves"
                    ),
                }
            }
            taken
        });
        let taken = taking.await.map_err(|panic| RunError::HandOver(io::Error::other(panic)))?;
        let uids = taken.iter().map(|one| one.enrollment.uid.to_string()).collect();
        let predecessor =
            tokio::task::spawn_blocking(move || predecessor.ready(uids).map(|()| predecessor));
        let predecessor = predecessor
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(RunError::HandOver)?;
        self.succeed(taken, redirect == self.host.redirects()).await;
        self.hear_predecessor(predecessor).await;
        // Only now: until a moment ago the predecessor might have gone on.
        let host = Arc::clone(&self.host);
        let cleaned = tokio::task::spawn_blocking(move || host.remove_leftovers(&wanted));
        let _ = cleaned.await;
        Ok(self)
    }

    /// Serves: from here on what was taken over is this process's.
    async fn succeed(&mut self, taken: Vec<Inherited>, same_rules: bool) {
        let (engine, host) = (Arc::clone(&self.engine), Arc::clone(&self.host));
        let held = tokio::task::spawn_blocking(move || {
            if let Err(error) = engine.begin_accepting() {
                tracing::warn!(%error, "a shard serves without a listener of its own");
            }
            let hold = |inherited: Inherited| (host.hold(&inherited, same_rules), inherited);
            taken.into_iter().map(hold).collect::<Vec<_>>()
        });
        for (held, inherited) in held.await.unwrap_or_default() {
            let Inherited { enrollment, file, .. } = inherited;
            match held {
                Ok(held) => self.enroller.inherit(enrollment, file, held),
                // It is enrolled as any other that is not captured.
                Err(error) => {
                    tracing::warn!(workload = &*enrollment.uid, error, "no redirect rules")
                }
            }
        }
        self.servers.begin(&self.requests);
        self.show();
        self.readiness.set_step("proxy", false);
    }

    /// Tells the predecessor that this process serves, and takes the connections it gives from now on.
    async fn hear_predecessor(&self, predecessor: Predecessor) {
        let engine = Arc::clone(&self.engine);
        let serving = tokio::task::spawn_blocking(move || (predecessor.serving(), predecessor));
        let Ok((heard, predecessor)) = serving.await else { return };
        if let Err(error) = heard {
            tracing::warn!(%error, "the old process is not heard of any more: it may have ended");
        }
        // Detached: it ends with the predecessor.
        tokio::task::spawn_blocking(move || match predecessor.take_connections(&engine) {
            Ok(connections) => tracing::info!(connections, "live connections were taken over"),
            Err(error) => tracing::warn!(%error, "no more connections are taken over"),
        });
    }
}

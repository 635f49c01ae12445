//! A node hands over to a successor.
//!
//! ```text
//!            asked          no job under way         ready            serving
//!   Nothing ──────▶ Asked ──────────────────▶ UnderWay ──▶ UnderWay ──────────▶ give_away ─▶ end
//!      ▲                                          │ anything else │
//!      └──────────────────────────────────────────┴───────────────┘  rolled back: nothing has changed
//! ```
//!
//! While a hand-over is under way, what is captured does not change: reloads and jobs wait.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringway_engine::limits::{HANDOVER_CONNECTIONS_MAX, HANDOVER_LOOK_INTERVAL};
use ringway_engine::{DrainReport, Engine};
use tokio::task::JoinHandle;

use super::Ending;
use super::STANDARD_INPUT;
use super::drain::{cut_at_once, in_time};
use super::node::Node;
use crate::handover::channel::{Breaker, Channel};
use crate::handover::control_socket::{Answer, Ask};
use crate::handover::predecessor::{self, Estate, Heir, NotTaken};
use crate::source::{Source, Watcher};

/// See the module's drawing.
#[derive(Default)]
pub(super) enum HandingOver {
    #[default]
    Nothing,
    Asked(Ask),
    /// A successor is prepared, or was told to serve: the next step ends with it, further by that one step.
    UnderWay(Ask, Breaker, JoinHandle<Result<Heir, String>>),
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

    /// Waits for the step under way; for ever, when there is none. [`step_ended`](Self::step_ended) wants to know.
    pub(super) async fn step(&mut self) -> Result<Heir, String> {
        match self {
            Self::UnderWay(_, _, step) => match step.await {
                Ok(outcome) => outcome,
                Err(panic) => Err(format!("the hand-over broke: {panic}")),
            },
            _ => std::future::pending().await,
        }
    }

    /// Goes on to the next step: a successor that is ready is let serve. One that serves is returned; one that is not
    /// ready, or does not serve, has been ended, and nothing has changed.
    pub(super) fn step_ended(&mut self, outcome: Result<Heir, String>) -> Option<Heir> {
        let Self::UnderWay(ask, breaker, _) = std::mem::take(self) else { return outcome.ok() };
        match outcome {
            Ok(mut heir) if !heir.serves() => {
                let serving = tokio::task::spawn_blocking(move || heir.serve().map(|()| heir));
                *self = Self::UnderWay(ask, breaker, serving);
                None
            }
            Ok(heir) => {
                answer(ask, Answer::HandedOver { from: std::process::id(), to: heir.id() });
                Some(heir)
            }
            Err(why) => {
                tracing::error!(why, "no hand-over: this process goes on, nothing has changed");
                answer(ask, rolled_back(&why));
                None
            }
        }
    }

    /// Ends it, with whatever has been prepared. A successor that has just begun to serve is the node, and is returned.
    pub(super) async fn abandon(&mut self, why: &str) -> Option<Heir> {
        match std::mem::take(self) {
            Self::Nothing => None,
            Self::Asked(ask) => {
                answer(ask, abandoned(why));
                None
            }
            Self::UnderWay(ask, breaker, step) => {
                breaker.shut();
                // An heir that does not serve is ended when it is dropped.
                match step.await {
                    Ok(Ok(heir)) if heir.serves() => {
                        answer(ask, Answer::HandedOver { from: std::process::id(), to: heir.id() });
                        Some(heir)
                    }
                    _ => {
                        answer(ask, abandoned(why));
                        None
                    }
                }
            }
        }
    }
}

fn rolled_back(why: &str) -> Answer {
    Answer::RolledBack { why: format!("nothing has changed: {why}") }
}

/// Nobody has taken over, and yet it does not go on as before.
fn abandoned(why: &str) -> Answer {
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
        *handover = HandingOver::UnderWay(ask, breaker, preparing);
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

    /// Stops accepting, gives the live connections that can move to the successor, and lets the others end.
    pub(super) async fn give_away(mut self, heir: Heir, mut watcher: Watcher) -> Ending {
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
        let ending = tokio::select! {
            given = given => {
                let (report, moved) = given.unwrap_or_default();
                tracing::info!(moved, "live connections were moved");
                in_time(&report)
            }
            who = self.follow_until_stop(&mut watcher) => {
                cut_at_once(&self.engine, Engine::drain_after_handover, who).await
            }
        };
        self.write_records();
        tracing::info!("ended");
        ending
    }
}

/// Drains, and meanwhile gives away what can move: connections that are being dialled can later.
fn give_connections(engine: &Engine, heir: &Heir, deadline: Duration) -> (DrainReport, usize) {
    let (began, drained) = (Instant::now(), AtomicBool::new(false));
    let (mut report, given) = std::thread::scope(|scope| {
        let moving = scope.spawn(|| move_until(engine, heir, &drained));
        let report = engine.drain_after_handover(deadline);
        drained.store(true, Ordering::Relaxed);
        (report, moving.join().unwrap_or_default())
    });
    if given.back > 0 {
        // While they were away, their shards may have had nothing left to wait for.
        let left = deadline.saturating_sub(began.elapsed());
        report.cut += engine.drain_after_handover(left).cut;
    }
    (report, given.moved)
}

/// How many connections are the successor's now, and how many it did not take.
#[derive(Default)]
struct Given {
    moved: usize,
    back: usize,
}

fn move_until(engine: &Engine, heir: &Heir, drained: &AtomicBool) -> Given {
    let mut given = Given::default();
    while !drained.load(Ordering::Relaxed) {
        let connections = engine.call_away(heir.workloads(), HANDOVER_CONNECTIONS_MAX);
        if connections.is_empty() {
            std::thread::sleep(HANDOVER_LOOK_INTERVAL);
            continue;
        }
        let count = connections.len();
        match heir.give(connections) {
            Ok(()) => given.moved += count,
            Err(NotTaken { back, unknown, why }) => {
                given.back = back.len();
                given.moved += count - back.len() - unknown;
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
    given
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn ask() -> (Ask, oneshot::Receiver<Answer>) {
        let (sender, answer) = oneshot::channel();
        (Ask { binary: None, answer: Some(sender) }, answer)
    }

    #[tokio::test]
    async fn nothing_has_changed_unless_the_node_ends() {
        let mut handover = HandingOver::default();
        let ((first, told_first), (second, told_second)) = (ask(), ask());
        handover.ask(first);
        handover.ask(second);
        let Answer::RolledBack { why } = told_second.await.unwrap() else {
            panic!("one is enough")
        };
        assert_eq!(why, "nothing has changed: a hand-over is under way already");
        assert!(handover.abandon("the process is told to end: it drains").await.is_none());
        let Answer::RolledBack { why } = told_first.await.unwrap() else { panic!("it ended") };
        assert_eq!(why, "the process is told to end: it drains");
    }
}

//! The old process of a hand-over: it prepares its successor, and gives it what lives.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringway_engine::limits::{HANDOVER_CONNECTIONS_MAX, HANDOVER_LOOK_INTERVAL};
use ringway_engine::{DrainReport, Engine};

use super::Node;
use crate::handover::channel::Channel;
use crate::handover::predecessor::{self, Estate, Heir, NotTaken};
use crate::run::drain::{cut_at_once, in_time};
use crate::run::handover::{HandingOver, answer, rolled_back};
use crate::run::{Ending, STANDARD_INPUT};
use crate::source::{Source, Watcher};

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

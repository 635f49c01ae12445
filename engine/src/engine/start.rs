//! The engine's start: one thread for each shard, and what it does before it serves.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize, mpsc},
};

use super::Engine;
use crate::{
    config::{EngineConfig, OutOfRange},
    hook::ShardHook,
    limits::MAILBOX_MAX,
    placement::{Placement, PlacementTable, ShardId},
    publish::{Published, SnapshotReader},
    runtime::{self, Counters, MailReceiver, NetNamespace, Pulse, ReactorReport, Runtime, mailbox},
    shard::{Command, Common, Shard},
    snapshot::Snapshot,
};

/// Why the engine did not start.
#[derive(Debug)]
pub enum StartError {
    /// No core was given.
    NoCores,
    /// What is asked of tunnels cannot be.
    Tunnels(OutOfRange),
    /// A shard's thread could not be made.
    Thread(std::io::Error),
    /// A shard's runtime could not be made; the text says why and what to do.
    Runtime(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCores => f.write_str("no cores are configured: name at least one"),
            Self::Tunnels(error) => write!(f, "{error}"),
            Self::Thread(error) => write!(f, "cannot start a shard's thread: {error}"),
            Self::Runtime(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

impl Engine {
    /// Starts one shard for each configured core.
    ///
    /// # Errors
    /// When a thread or its reactor cannot be made; what was started ends again.
    pub fn start(config: EngineConfig, snapshot: Snapshot) -> Result<Self, StartError> {
        if config.cores.is_empty() {
            return Err(StartError::NoCores);
        }
        config.tunnels.check().map_err(StartError::Tunnels)?;
        let shards = config.cores.len();
        let mut engine = Self {
            common: Common::new(config),
            published: Published::new(snapshot),
            mailboxes: Vec::new(),
            reports: Vec::new(),
            pulses: Vec::new(),
            threads: Mutex::default(),
            enrolled: Mutex::default(),
            counted: Mutex::new(vec![Counters::default(); shards]),
            next_shard: AtomicUsize::new(0),
        };
        let placement = PlacementTable::new(shards);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| mailbox::<Command>(MAILBOX_MAX)).unzip();
        engine.mailboxes = senders;
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let (report, pulse) = engine.start_shard(index, mailbox, placement.clone())?;
            engine.reports.push(report);
            engine.pulses.push(pulse);
        }
        Ok(engine)
    }

    fn start_shard(
        &self,
        index: usize,
        mailbox: MailReceiver<Command>,
        placement: Arc<PlacementTable>,
    ) -> Result<(ReactorReport, Arc<Pulse>), StartError> {
        let id = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
        let (common, published) = (self.common.clone(), self.published.clone());
        let (core, siblings) = (common.config.cores[index], self.mailboxes.clone());
        let (started, start) = mpsc::channel();
        let body = move || {
            if common.config.pin {
                // A refused pin costs speed, not function; the report below names the reactor anyway.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            // An older kernel, or a filter that does not know the call, costs latency on a busy machine only.
            let _ = runtime::ask_for_slice(runtime::SHARD_SLICE);
            let (runtime, report) = match Runtime::new(common.config.reactor) {
                Ok(made) => made,
                Err(error) => {
                    let _ = started.send(Err(error.to_string()));
                    return;
                }
            };
            ringway_protocols::tls::warm_up();
            // Found now: afterwards the thread may not be able to open a file.
            if let Err(error) = NetNamespace::current() {
                let _ =
                    started.send(Err(format!("cannot find the own network namespace: {error}")));
                return;
            }
            if let Some(Err(why)) = common.config.on_start.as_ref().map(ShardHook::run) {
                let _ = started.send(Err(why));
                return;
            }
            let _ = started.send(Ok((report, runtime.pulse())));
            runtime.block_on(async move {
                let reader = SnapshotReader::new(published);
                let placement = Placement::new(id, placement, crate::runtime::now());
                let seed = crate::runtime::random();
                let shard = Shard::new(id, common, reader, placement, siblings, seed);
                shard.run(mailbox).await;
            });
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(body)
            .map_err(StartError::Thread)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        match start.recv() {
            Ok(Ok(started)) => Ok(started),
            Ok(Err(why)) => Err(StartError::Runtime(why)),
            Err(_) => Err(StartError::Runtime("a shard's thread ended at its start".to_owned())),
        }
    }
}

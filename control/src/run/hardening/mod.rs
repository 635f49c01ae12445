//! Gives up, at the start, what the process does not need: so that whoever breaks into it gains little.
//!
//! ```text
//!  configuration is read ─▶ not dumpable, no core ─▶ capabilities ─▶ no new privileges ─▶ system calls
//!       (one thread)                                                             │ inherited by every thread
//!  each shard, once its ring is made ─▶ fewer capabilities, fewer system calls ◀─┘
//! ```
//!
//! It happens while there is one thread, so that all others inherit it. The shards, which face the network, go further:
//! they can start no program, open no file and make no further ring. The rest of the process can, because it runs
//! `nft` and has to be able to start its own successor.
//!
//! **Invariant:** what could not be done is told, and with `hardening: required` it ends the start.

mod capabilities;
mod seccomp;

use std::path::PathBuf;

use ringway_engine::ShardHook;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use self::capabilities::{Keep, Kept};
use super::error::{RunError, ToldBy};
use crate::source::{Hardening, NodeConfig};

/// What was done, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Hardened {
    done: Vec<String>,
    undone: Vec<String>,
    /// Says why something is kept that one would not expect.
    notes: Vec<String>,
    shards: Option<ShardHook>,
    call_filter: Option<u64>,
}

/// What has to be reachable afterwards.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Files and directories that are read.
    pub(super) read: Vec<PathBuf>,
    /// Directories that are written.
    pub(super) written: Vec<PathBuf>,
    /// Whether ports below 1024 may come at any time: a gateway's.
    pub(super) low_ports: bool,
}

/// What a node of this configuration keeps in any case, by name.
#[cfg(test)]
pub(crate) fn names_of_capabilities(node: &NodeConfig) -> std::collections::BTreeSet<String> {
    capabilities::names(Keep::of(node).set()).split('+').map(str::to_owned).collect()
}

/// Gives up what `node` does not need. Call it while there is one thread. A filter of system calls that was inherited is
/// not put in again.
///
/// # Errors
/// [`RunError::Hardening`], when it is required and something could not be done.
pub(super) fn harden(
    node: &NodeConfig,
    places: &Places,
    inherited_filter: Option<u64>,
) -> Result<Hardened, RunError> {
    // What is inherited stays in force, wanted or not, and is passed on.
    let mut hardened = Hardened { call_filter: inherited_filter, ..Hardened::default() };
    if node.hardening == Hardening::Off {
        return Ok(hardened);
    }
    hardened.step("not dumpable", set_dumpable_behavior(DumpableBehavior::NotDumpable));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    hardened.step("no core files", setrlimit(Resource::Core, none));
    let Kept { sets, notes } = capabilities::keep(&Keep::of(node), places);
    hardened.notes = notes;
    let kept = capabilities::names(sets);
    hardened.step(&format!("capabilities {kept}"), capabilities::restrict(sets));
    hardened.step("no new privileges", rustix::thread::set_no_new_privs(true));
    let calls = seccomp::process_calls();
    let filter = seccomp::fingerprint(&calls);
    let in_force = inherited_filter == Some(filter) && seccomp::is_in_force();
    let restricted = if in_force { Ok(()) } else { seccomp::restrict(&calls) };
    hardened.call_filter = restricted.is_ok().then_some(filter).or(inherited_filter);
    hardened.step("system calls", restricted);
    hardened.shards = Some(ShardHook::new(move || {
        capabilities::restrict_thread(capabilities::of_shards(sets))
            .map_err(|error| format!("a shard's capabilities: {error}"))?;
        seccomp::restrict_shard(std::process::id())
            .map_err(|why| format!("a shard's system calls: {why}"))
    }));
    if node.hardening == Hardening::Required && !hardened.undone.is_empty() {
        let (undone, told_by) = (hardened.undone, ToldBy::Flags);
        return Err(RunError::Hardening { undone, told_by });
    }
    if node.hardening == Hardening::Auto {
        hardened.shards = hardened.shards.map(ShardHook::lenient);
    }
    Ok(hardened)
}

impl Hardened {
    fn step<E: std::fmt::Display>(&mut self, what: &str, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => self.done.push(what.to_owned()),
            Err(error) => self.undone.push(format!("{what} ({error})")),
        }
    }

    /// The filter of system calls in force.
    pub(super) fn call_filter(&self) -> Option<u64> {
        self.call_filter
    }

    /// What each shard does once its ring is made.
    pub(super) fn shards(&self) -> Option<ShardHook> {
        self.shards.clone()
    }

    /// One line for the log; it could not be written before there was one.
    pub(super) fn log(&self) {
        if self.done.is_empty() && self.undone.is_empty() {
            tracing::info!("hardening is off");
            return;
        }
        let (done, notes) = (self.done.join(", "), self.notes.join("; "));
        match self.undone.is_empty() {
            true => tracing::info!(done, notes, "process hardened"),
            false => {
                let undone = self.undone.join(", ");
                tracing::warn!(done, undone, notes, "process hardened in part");
            }
        }
    }
}

//! L8: workloads that come and go. What is held for one goes with it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::trial::Trial;
use crate::measure;

/// Changes before what is measured.
const WARM_UP: u32 = 2;
/// Descriptors that may differ: a tunnel that is kept, a page that is being answered.
const DESCRIPTORS_MORE: f64 = 5.0;
/// What an allocator keeps, whatever the number of changes.
const MEMORY_MIB: f64 = 2.0;
/// For how long threads may be more: one that did something blocking waits ten seconds for the next.
const SETTLES: Duration = Duration::from_secs(15);

/// Runs the row.
pub(in super::super) fn come_and_go(trial: &mut Trial<'_>) -> Result<()> {
    let changes: u32 = trial.amount(6, 100);
    let mut arena = Arena::usual(trial)?;
    toggle(trial, &arena, WARM_UP)?;
    let before = Footprint::of(&arena)?;
    toggle(trial, &arena, changes)?;
    let after = Footprint::settled(trial, &arena, before.threads)?;
    let more = |after: usize, before: usize| after as f64 - before as f64;
    let descriptors = more(after.descriptors, before.descriptors);
    trial.at_most("descriptors more", descriptors, "descriptors", DESCRIPTORS_MORE);
    trial.at_most("threads more", more(after.threads, before.threads), "threads", 0.0);
    let grown = (after.bytes as f64 - before.bytes as f64) / f64::from(1 << 20);
    trial.at_most("memory more", grown, "MiB", MEMORY_MIB);
    trial.tell("changes", f64::from(changes), "changes");
    arena.must_work()
}

/// Takes the neighbour out of the mesh and back in, so many times altogether.
fn toggle(trial: &Trial<'_>, arena: &Arena, changes: u32) -> Result<()> {
    let to = arena.address("server", SERVED);
    for number in 1..=changes {
        let plan = arena.plan().clone();
        let is_in = number % 2 == 0;
        arena.rewrite(&if is_in { plan } else { plan.without("neighbour") })?;
        let began = Instant::now();
        // Out of the mesh it has no identity, and without one nobody gets in.
        while arena.ask("neighbour", to).is_ok() != is_in {
            trial.sleep(Duration::from_millis(10))?;
            ensure!(began.elapsed() < PATIENCE, "change {number} has no effect");
        }
    }
    Ok(())
}

struct Footprint {
    descriptors: usize,
    threads: usize,
    bytes: u64,
}

impl Footprint {
    /// With so many threads, or when those that have nothing to do must have ended.
    fn settled(trial: &Trial<'_>, arena: &Arena, threads: usize) -> Result<Footprint> {
        let began = Instant::now();
        loop {
            let footprint = Footprint::of(arena)?;
            if footprint.threads <= threads || began.elapsed() > SETTLES {
                return Ok(footprint);
            }
            trial.sleep(Duration::from_millis(100))?;
        }
    }

    fn of(arena: &Arena) -> Result<Footprint> {
        let id = arena.a.process.id();
        Ok(Footprint {
            descriptors: measure::descriptors(id)?,
            threads: std::fs::read_dir(format!("/proc/{id}/task"))?.count(),
            bytes: arena.a.resident_bytes()?,
        })
    }
}

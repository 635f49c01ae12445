//! F16: a pod is gone, and another has its address before anybody has told the proxy. What the new
//! one says never goes out under the old one's identity.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::trial::Trial;
use crate::measure;

/// Tries of the newcomer at each of its ways.
const TRIES: [u64; 2] = [200, 5_000];

/// Runs the row.
pub(in super::super) fn reuse(trial: &mut Trial<'_>) -> Result<()> {
    let tries = trial.amount(TRIES[0], TRIES[1]);
    let mut arena = Arena::usual(trial)?;
    let to = arena.address("server", SERVED);
    let held = (0..20).map(|_| arena.connect("neighbour", to)).collect::<Result<Vec<_>>>()?;
    let full = measure::descriptors(arena.a.process.id())?;
    arena.replace_neighbour().context("another pod with the neighbour's address")?;
    let mut answered = 0;
    for _ in 0..tries {
        trial.go_on()?;
        answered += u64::from(arena.ask("newcomer", to).is_ok());
    }
    trial.exactly("answered with the old identity", answered, "connections", 0);
    trial.tell("tries", tries as f64, "connections");

    // Now it is told.
    drop(held);
    let told = Instant::now();
    arena.rewrite(&arena.plan().clone().without("neighbour"))?;
    while measure::descriptors(arena.a.process.id())? > full.saturating_sub(20) {
        trial.sleep(std::time::Duration::from_millis(20))?;
        ensure!(told.elapsed() < PATIENCE, "the old pod's descriptors are still there");
    }
    trial.quickly("nothing of the old one left after", told.elapsed().as_secs_f64(), "s", 5.0);
    arena.must_work()
}

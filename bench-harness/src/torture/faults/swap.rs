//! F4: changes of configuration under load. None may cost a request, or make one wait.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::arena::Arena;
use super::super::traffic::{Load, Told, Turns};
use super::super::trial::Trial;

/// Ringway waits until files have been quiet for 200 ms; then it is asked so often.
const FIRST_LOOK: Duration = Duration::from_millis(210);
const NEXT_LOOK: Duration = Duration::from_millis(10);
/// However slow: the row ends.
const SPAN_MAX: Duration = Duration::from_secs(900);
/// Requests a second over connections that stay.
const RATE: u32 = 1000;

/// Runs the row.
pub(in super::super) fn swaps(trial: &mut Trial<'_>) -> Result<()> {
    let (wanted, seconds) = trial.amount((25, 10.0), (1000, 30.0));
    let requests_wanted = trial.amount(5_000, 300_000);
    let mut arena = Arena::usual(trial)?;
    let load = |arena: &Arena, trial: &Trial<'_>| {
        Load::requests(arena, trial, ("client", "server"), RATE, seconds)
    };
    let before = taken(&arena)?;
    let (mut made, mut turns) = (0, Turns::begin()?);
    let began = Instant::now();
    while (made < wanted || turns.requests() < f64::from(requests_wanted))
        && began.elapsed() < SPAN_MAX
    {
        let quiet = load(&arena, trial)?.finish(trial)?;
        turns.add(&quiet, &swap_while(trial, &arena, load(&arena, trial)?, &mut made)?);
    }
    let swaps = taken(&arena)? - before;
    trial.exactly("requests lost", turns.lost(), "requests", 0);
    trial.at_least("changes taken", swaps as f64, "changes", f64::from(wanted));
    trial.at_least("requests", turns.requests(), "requests", f64::from(requests_wanted));
    turns.judge(trial, "p99", 1.5)?;
    arena.must_work()
}

/// Changes the configuration as soon as the last change was taken, until the load ends.
fn swap_while(trial: &Trial<'_>, arena: &Arena, mut load: Load, made: &mut u32) -> Result<Told> {
    while load.is_running() {
        let generation = taken(arena)?;
        *made += 1;
        arena.rewrite(&arena.plan().clone().version(*made))?;
        trial.sleep(FIRST_LOOK)?;
        while load.is_running() && taken(arena)? == generation {
            trial.sleep(NEXT_LOOK)?;
        }
    }
    load.finish(trial)
}

/// Configurations that both proxies have taken.
fn taken(arena: &Arena) -> Result<u64> {
    let mut least = u64::MAX;
    for proxy in [&arena.a, &arena.b] {
        let metrics = proxy.metrics(&arena.lab).context("how many changes were taken")?;
        least = least.min(metrics.sum("ringway_snapshot_generation", &[]) as u64);
    }
    Ok(least)
}

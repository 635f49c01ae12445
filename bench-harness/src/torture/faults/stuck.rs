//! F12: a shard that does not come out of one turn. The others serve on, the operator is told, and what was open goes on
//! when the turn ends.
//!
//! That a task which panics takes only its own connection with it is tried by the engine's tests, on both reactors; what
//! came of them is a part of the row. No input is known that makes one panic.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::outside;
use super::super::traffic::Load;
use super::super::trial::{Trial, need, not_run};
use crate::lab::Program;

/// How long the shard is held inside of a call: longer than the five seconds after which it counts as stuck.
const HELD: Duration = Duration::from_secs(8);
/// What a shard calls when a tunnel's bytes have come; the first one is held.
const CALL: &str = "recvfrom";

/// Runs the row.
pub(in super::super) fn stuck(trial: &mut Trial<'_>) -> Result<()> {
    need("strace", "strace")?;
    outside::panics(trial)?;
    let mut arena = Arena::usual(trial)?;
    Load::requests(&arena, trial, ("client", "server"), 200, 1.0)?.finish(trial)?;
    let before = shards(arena.b.process.id())?;
    let load = Load::requests(&arena, trial, ("client", "server"), 50, HELD.as_secs_f64() + 6.0)?;
    trial.sleep(Duration::from_secs(1))?;
    let shard = busiest(&before, &shards(arena.b.process.id())?)?;
    let inject = format!("inject={CALL}:delay_enter={}:when=1", HELD.as_micros());
    let strace = Program::new("strace").arguments([
        "-qq",
        "-p",
        &shard,
        "-e",
        &format!("trace={CALL}"),
        "-e",
        &inject,
    ]);
    let mut strace = arena.lab.start("host-b", "strace", &strace)?;
    trial.sleep(Duration::from_millis(500))?;
    if !strace.is_running() {
        return Err(not_run(format!("strace cannot attach: {}", strace.log().trim())));
    }
    let told = |arena: &Arena| {
        arena.b.process.log().lines().filter(|line| line.contains("a shard is stuck")).count()
    };
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    while told(&arena) == 0 && began.elapsed() < HELD {
        let asked = Instant::now();
        arena.b.metrics(&arena.lab).context("the node's own servers while a shard is stuck")?;
        slowest = slowest.max(asked.elapsed());
        trial.sleep(Duration::from_millis(100))?;
    }
    trial.quickly("told after", began.elapsed().as_secs_f64(), "s", HELD.as_secs_f64() - 0.5);
    trial.quickly("metrics meanwhile", slowest.as_secs_f64(), "s", 1.5);
    let told_of = load.finish(trial)?;
    strace.terminate(PATIENCE)?;
    trial.exactly("lines that tell of it", told(&arena) as u64, "lines", 1);
    trial.exactly("requests lost", told_of.lost(), "requests", 0);
    let longest = told_of.number("max_us") / 1e6;
    // A row in which nothing was held has tried nothing.
    trial.at_least("the longest request", longest, "s", HELD.as_secs_f64() - 2.0);
    let to = arena.address("server-2", SERVED);
    arena.ask("neighbour", to).context("a workload beside it, afterwards")?;
    arena.must_work()
}

/// The processor time, in nanoseconds, that each shard's thread has used.
fn shards(process: u32) -> Result<BTreeMap<String, u64>> {
    let mut shards = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?;
        if fs::read_to_string(thread.path().join("comm"))?.starts_with("shard-") {
            let times = fs::read_to_string(thread.path().join("schedstat"))?;
            let used = times.split(' ').next().and_then(|used| used.parse().ok()).unwrap_or(0);
            shards.insert(thread.file_name().to_string_lossy().into_owned(), used);
        }
    }
    Ok(shards)
}

/// The thread that has used most between the two: connections are spread, and those of a load before may have been another's.
fn busiest(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Result<String> {
    let used = |(thread, time): &(&String, &u64)| *time - before.get(*thread).unwrap_or(&0);
    Ok(after.iter().max_by_key(used).context("the process has no shards")?.0.clone())
}

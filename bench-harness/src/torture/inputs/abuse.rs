//! B3: seventeen kinds of HTTP/2 abuse. Each is cheap to send; it must not be dear to receive, nor
//! felt by others.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::arena::{Arena, PATIENCE};
use super::super::hostile::Hostile;
use super::super::traffic::Load;
use super::super::trial::Trial;

/// The kinds, as the client calls them; made-you-reset has five forms, others two.
const ATTACKS: [&str; 21] = [
    "rapid-reset",
    "made-you-reset-window-0",
    "made-you-reset-overflow",
    "made-you-reset-data-after-end",
    "made-you-reset-headers-after-end",
    "made-you-reset-priority-length",
    "continuation",
    "empty-continuation",
    "settings",
    "ping",
    "priority",
    "unknown-frames",
    "empty-data-drained",
    "empty-data-stalled",
    "padded-data",
    "hpack-bomb",
    "http2-bomb",
    "http2-bomb-cookie",
    "window-stall",
    "trailers",
    "goaway",
];
/// Frames of each kind, unless the connection is closed before.
const FRAMES: &str = "100000";
/// So many in any case, over as many connections as that takes.
const FRAMES_IN_ALL: u64 = 100_000;
/// The same when there is less time.
const FRAMES_IN_ALL_SHORT: u64 = 100;
/// How long one kind may take for that.
const AGAIN_PATIENCE: Duration = Duration::from_secs(500);

/// Runs the row.
pub(in super::super) fn abuse(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    // For what is allocated once and kept for everybody.
    attack(trial, &arena, "rapid-reset", FRAMES)?;
    what_it_costs(trial, &arena)?;
    what_others_feel(trial, &arena)?;
    what_comes_again(trial, &arena)?;
    arena.must_work()
}

/// One kind after the other, with nothing else going on.
fn what_it_costs(trial: &mut Trial<'_>, arena: &Arena) -> Result<()> {
    let (mut most_time, mut most_kept) = (("none", 0.0), ("none", 0.0));
    let mut open = Vec::new();
    for name in ATTACKS {
        let (before, memory) = (arena.b.processor_time()?, arena.b.resident_bytes()?);
        let (outcome, most) = attack(trial, arena, name, FRAMES)?;
        let spent = (arena.b.processor_time()? - before).as_secs_f64();
        let kept = most.saturating_sub(memory) as f64 / f64::from(1 << 20);
        trial.tell(&format!("{name} sent"), outcome["sent"].as_f64().unwrap_or(0.0), "frames");
        trial.tell(&format!("{name} processor"), spent, "s");
        trial.tell(&format!("{name} kept"), kept, "MiB");
        if spent > most_time.1 {
            most_time = (name, spent);
        }
        if kept > most_kept.1 {
            most_kept = (name, kept);
        }
        if outcome["closed"].is_null() {
            open.push(name);
        }
    }
    trial.quickly(&format!("processor ({})", most_time.0), most_time.1, "s", 0.05);
    trial.at_most(&format!("kept ({})", most_kept.0), most_kept.1, "MiB", 1.0);
    trial.exactly("left open", open.len() as u64, "attacks", 0);
    if !open.is_empty() {
        trial.remark(format!("left open: {}", open.join(", ")));
    }
    Ok(())
}

/// All kinds once more, beside honest requests in another tunnel to the same workload.
fn what_others_feel(trial: &mut Trial<'_>, arena: &Arena) -> Result<()> {
    let seconds = trial.amount(6.0, 15.0);
    let load = |seconds| Load::requests(arena, trial, ("client", "server"), 200, seconds);
    let quiet = load(seconds)?.finish(trial)?;
    let beside = load(seconds)?;
    attack(trial, arena, &ATTACKS.join(","), FRAMES)?;
    let beside = beside.finish(trial)?;
    trial.exactly("requests of others lost", quiet.lost() + beside.lost(), "requests", 0);
    let times = beside.number("p99_us") / quiet.number("p99_us").max(1.0);
    trial.at_most_times("p99 of others over quiet", times, 1.5);
    Ok(())
}

/// Each kind by clients that come back as soon as they are cut.
fn what_comes_again(trial: &mut Trial<'_>, arena: &Arena) -> Result<()> {
    let wanted = trial.amount(FRAMES_IN_ALL_SHORT, FRAMES_IN_ALL);
    let (mut fewest, mut left_open, mut connections) = (u64::MAX, 0, 0);
    let frames = wanted.to_string();
    for name in ATTACKS {
        let arguments = ["--attack", name, "--again", "--frames", &frames];
        let (outcome, _) = sent_by(trial, arena, name, &arguments, AGAIN_PATIENCE)?;
        let number = |key: &str| outcome[key].as_u64().unwrap_or(0);
        fewest = fewest.min(number("sent"));
        left_open += number("left_open");
        connections += number("connections");
    }
    trial.tell("connections that came again", connections as f64, "connections");
    trial.at_least("frames of the kind with the fewest", fewest as f64, "frames", wanted as f64);
    trial.exactly("left open, of those that came again", left_open, "connections", 0);
    Ok(())
}

/// What the client tells, and the proxy's memory at its most.
fn attack(trial: &Trial<'_>, arena: &Arena, names: &str, frames: &str) -> Result<(Value, u64)> {
    sent_by(trial, arena, names, &["--attack", names, "--frames", frames], PATIENCE * 4)
}

fn sent_by(
    trial: &Trial<'_>,
    arena: &Arena,
    names: &str,
    arguments: &[&str],
    patience: Duration,
) -> Result<(Value, u64)> {
    let client = Hostile::start(arena, trial, ("stranger", "attack"), "abuse.py", arguments)?;
    let mut most = 0;
    let outcome = client.finish_while(trial, patience, || {
        most = most.max(arena.b.resident_bytes()?);
        Ok(())
    });
    Ok((outcome.with_context(|| names.to_owned())?, most))
}

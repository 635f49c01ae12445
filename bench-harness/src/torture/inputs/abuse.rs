//! B3: seventeen kinds of HTTP/2 abuse. Each is cheap to send; it must not be dear to receive, nor
//! felt by others.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::arena::{Arena, PATIENCE};
use super::super::hostile::Hostile;
use super::super::traffic::Load;
use super::super::trial::Trial;
use super::kinds;

/// The kinds, as the client calls them; made-you-reset has five forms, others two.
pub(super) const ATTACKS: [&str; 21] = [
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
pub(super) const FRAMES: &str = "100000";
/// Of rapid resets before anything is weighed: some twenty connections' worth.
pub(super) const FRAMES_FIRST: &str = "15000";
/// So many in any case, over as many connections as that takes.
const FRAMES_IN_ALL: u64 = 100_000;
/// The same when there is less time.
const FRAMES_IN_ALL_SHORT: u64 = 100;
/// How long one kind may take for that: some are cut after four frames, which is 25,000 handshakes of a client in Python.
const AGAIN_PATIENCE: Duration = Duration::from_secs(1500);

/// Runs the row.
pub(in super::super) fn abuse(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    // For what a shard allocates once and keeps for everybody: so many connections that each shard has had some.
    let first = ["--attack", "rapid-reset", "--again", "--frames", FRAMES_FIRST];
    sent_by(trial, &arena, "rapid-reset", &first, AGAIN_PATIENCE)?;
    let proxy = ("", &arena.b.process);
    kinds::cost(trial, proxy, &ATTACKS, |trial, name| attack(trial, &arena, name, FRAMES))?;
    what_others_feel(trial, &arena)?;
    what_comes_again(trial, &arena)?;
    arena.must_work()
}

/// All kinds once more, beside honest requests in another tunnel to the same workload.
fn what_others_feel(trial: &mut Trial<'_>, arena: &Arena) -> Result<()> {
    let (rounds, seconds) = trial.amount((1, 6.0), (5, 15.0));
    let load = |trial: &Trial<'_>| Load::requests(arena, trial, ("client", "server"), 200, seconds);
    let names = ATTACKS.join(",");
    kinds::felt(trial, "", rounds, load, |trial| attack(trial, arena, &names, FRAMES).map(drop))
}

/// Each kind by clients that come back as soon as they are cut.
fn what_comes_again(trial: &mut Trial<'_>, arena: &Arena) -> Result<()> {
    let wanted = trial.amount(FRAMES_IN_ALL_SHORT, FRAMES_IN_ALL);
    let frames = wanted.to_string();
    kinds::again(trial, &ATTACKS, wanted, ("connections", "came again"), |trial, name| {
        let arguments = ["--attack", name, "--again", "--frames", &frames];
        sent_by(trial, arena, name, &arguments, AGAIN_PATIENCE)
    })
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
    kinds::weigh(trial, client, patience, &arena.b.process).with_context(|| names.to_owned())
}

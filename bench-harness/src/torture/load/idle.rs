//! L1 and L1b: what connections cost that do nothing.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::hostile::Hostile;
use super::super::traffic::Load;
use super::super::trial::Trial;

/// Runs L1: the slope between few and many.
pub(in super::super) fn idle(trial: &mut Trial<'_>) -> Result<()> {
    let [few, many] = trial.amount([500, 2500], [3000, 6000]);
    let mut arena = Arena::usual(trial)?;
    let first = hold(trial, &arena, "few", few)?;
    let before = [arena.a.resident_bytes()?, arena.b.resident_bytes()?];
    let second = hold(trial, &arena, "many", many)?;
    let after = [arena.a.resident_bytes()?, arena.b.resident_bytes()?];
    for (side, (before, after)) in ["client", "server"].iter().zip(before.iter().zip(after)) {
        let each = after.saturating_sub(*before) as f64 / f64::from(many) / 1024.0;
        trial.at_most(&format!("{side} side"), each, "KiB each", 2.5);
    }
    trial.tell("connections", f64::from(few + many), "connections");
    drop((first, second));
    arena.must_work()
}

/// So many connections through the mesh, each of which has carried a byte.
fn hold(trial: &Trial<'_>, arena: &Arena, name: &str, count: u32) -> Result<Load> {
    let target = arena.address("server", SERVED).to_string();
    let count = count.to_string();
    let arguments = ["hold", &target, "--connections", &count];
    let mut load = Load::start(arena, trial, "client", name, &arguments)?;
    load.wait_for("held", PATIENCE * 4)?;
    trial.sleep(Duration::from_secs(1))?;
    Ok(load)
}

/// Runs L1b: tunnels with one stream that says nothing, and how fast their handshakes were.
pub(in super::super) fn idle_tunnels(trial: &mut Trial<'_>) -> Result<()> {
    let peers = trial.amount(500, 5000);
    let mut arena = Arena::usual(trial)?;
    let before = arena.b.resident_bytes()?;
    let count = peers.to_string();
    let (began, arguments) = (Instant::now(), ["--kind", "idle", "--peers", &count]);
    let mut client = Hostile::start(&arena, trial, ("stranger", "idle"), "slow.py", &arguments)?;
    client.wait_for("all there", PATIENCE * 4)?;
    trial.tell("handshakes, one after the other", began.elapsed().as_secs_f64(), "s");
    let each = arena.b.resident_bytes()?.saturating_sub(before) as f64 / f64::from(peers) / 1024.0;
    trial.at_most("an idle tunnel", each, "KiB each", 16.0);
    drop(client);
    arena.must_work()
}

//! L3: peers that dawdle. Each kind is cut at its deadline, holds little until then, and keeps
//! nobody else waiting.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::arena::{Arena, PATIENCE};
use super::super::hostile::Hostile;
use super::super::traffic::Load;
use super::super::trial::Trial;

/// How peers dawdle, as the client calls it, and when the last of them must be cut.
const KINDS: [&str; 5] =
    ["silent", "partial-hello", "tls-silence", "preface-only", "header-trickle"];
/// The deadline of handshakes, of the preface and of header blocks.
const DEADLINE_SECONDS: f64 = 10.0;
/// What a timer may be late, and the client may be slow to look, on a busy machine.
const LATE_SECONDS: f64 = 1.0;
/// How long the proxy's memory is looked at while all peers are there.
const LOOK: Duration = Duration::from_secs(5);

/// Runs the row: one kind after the other, or all at once in the short form.
pub(in super::super) fn slow(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    let peers: u32 = trial.amount(200, 2000);
    let (mut lost, mut asked) = (0, 0);
    for kinds in KINDS.chunks(trial.amount(KINDS.len(), 1)) {
        let load = Load::requests(&arena, trial, ("client", "server"), 100, 16.0)?;
        dawdle(trial, &arena, kinds, peers)?;
        let told = load.finish(trial)?;
        (lost, asked) = (lost + told.lost(), asked + told.number("requests") as u64);
    }
    trial.exactly("honest requests lost", lost, "requests", 0);
    trial.tell("honest requests", asked as f64, "requests");
    arena.must_work()
}

/// Holds so many peers of each of the kinds until they are cut.
fn dawdle(trial: &mut Trial<'_>, arena: &Arena, kinds: &[&str], peers: u32) -> Result<()> {
    let before = arena.b.resident_bytes()?;
    let count = peers.to_string();
    let mut clients = Vec::new();
    for kind in kinds {
        let arguments = ["--kind", kind, "--peers", &count];
        let client = Hostile::start(arena, trial, ("stranger", kind), "slow.py", &arguments);
        clients.push((*kind, client.with_context(|| format!("peers of the kind {kind}"))?));
    }
    for (_, client) in &mut clients {
        client.wait_for("all there", PATIENCE * 2)?;
    }
    let (began, mut most) = (Instant::now(), before);
    while began.elapsed() < LOOK && clients.iter_mut().any(|(_, client)| client.is_running()) {
        most = most.max(arena.b.resident_bytes()?);
        trial.sleep(Duration::from_millis(100))?;
    }
    for (kind, client) in clients {
        let outcome = client.finish(trial, PATIENCE * 4)?;
        let cut = outcome["cut"].as_u64().unwrap_or(0);
        trial.exactly(&format!("{kind} cut"), cut, "peers", u64::from(peers));
        let last = outcome["last_cut_seconds"].as_f64().unwrap_or(f64::NAN);
        trial.quickly(&format!("{kind} last cut"), last, "s", DEADLINE_SECONDS + LATE_SECONDS);
    }
    let each = (most - before) as f64 / f64::from(peers) / kinds.len() as f64 / 1024.0;
    trial.at_most(&format!("{} memory", kinds.join("+")), each, "KiB each", 8.0);
    Ok(())
}

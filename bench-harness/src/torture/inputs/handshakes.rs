//! B5: TLS handshakes that are not as they should be. Each ends by itself, and nobody else notices.

use anyhow::Result;

use super::super::arena::{Arena, PATIENCE};
use super::super::hostile::Hostile;
use super::super::traffic::Load;
use super::super::trial::Trial;

/// Runs the row.
pub(in super::super) fn handshakes(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    let load = Load::requests(&arena, trial, ("client", "server"), 100, trial.amount(30.0, 90.0))?;
    let seed = trial.settings.seed.to_string();
    let [mutated, authenticated] = trial.amount(["300", "30"], ["2000", "300"]);
    let arguments = ["--mutated", mutated, "--authenticated", authenticated, "--seed", &seed];
    let client =
        Hostile::start(&arena, trial, ("stranger", "handshakes"), "handshakes.py", &arguments)?;
    let outcome = client.finish(trial, PATIENCE * 10)?;
    let told = load.finish(trial)?;
    let number = |name: &str| outcome[name].as_u64().unwrap_or(u64::MAX);
    trial.exactly("still open after the deadline", number("hangs"), "handshakes", 0);
    let conversations = outcome["conversations"].as_f64().unwrap_or(0.0);
    trial.at_least("handshakes", conversations, "handshakes", trial.amount(600.0, 2000.0));
    let wrong = outcome["wrong"].as_array().map_or(&[][..], Vec::as_slice);
    trial.exactly("not as expected", wrong.len() as u64, "kinds", 0);
    for kind in wrong.iter().take(5) {
        trial.remark(kind.as_str().unwrap_or_default());
    }
    let accepted = outcome["later"]["accepted"].as_u64().unwrap_or(u64::MAX);
    trial.exactly("spoiled second flights accepted", accepted, "handshakes", 0);
    let panics = arena.b.process.log().matches("panicked").count() as u64;
    trial.exactly("panics", panics, "lines", 0);
    trial.exactly("honest requests lost", told.lost(), "requests", 0);
    trial.remark(format!("outcomes: {}", outcome["outcomes"]));
    arena.must_work()
}

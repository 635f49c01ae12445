//! Rows that other programs run before: they build something of their own, or need no namespaces.

use anyhow::Result;
use serde_json::Value;

use super::trial::{Trial, not_run};

/// B1: fuzzing, by scripts/fuzz.
pub(super) fn fuzzing(trial: &mut Trial<'_>) -> Result<()> {
    let told = given(trial, "B1")?;
    trial.exactly("targets that crash", number(&told, "crashes"), "targets", 0);
    trial.at_least("targets", number(&told, "targets") as f64, "targets", 16.0);
    trial.tell("inputs", number(&told, "inputs") as f64, "inputs");
    trial.tell("each", number(&told, "seconds") as f64, "s");
    Ok(())
}

/// S1: simulation, by the engine's own test.
pub(super) fn simulation(trial: &mut Trial<'_>) -> Result<()> {
    let told = given(trial, "S1")?;
    trial.exactly("runs of seeds that failed", number(&told, "failures"), "runs", 0);
    trial.at_least("seeds", number(&told, "seeds") as f64, "seeds", 10_000.0);
    Ok(())
}

/// U1: the engine's tests of network namespaces.
pub(super) fn namespaces(trial: &mut Trial<'_>) -> Result<()> {
    tests(trial, "U1", 3.0)
}

/// U3 and U4: the engine's tests of what a ring may do to a reactor.
pub(super) fn overflow(trial: &mut Trial<'_>) -> Result<()> {
    tests(trial, "U4", 5.0)
}

/// The engine's tests of tasks that panic, a part of F12. The short form does without: it is run beside all tests.
pub(super) fn panics(trial: &mut Trial<'_>) -> Result<()> {
    if trial.settings.short { Ok(()) } else { tests(trial, "F12", 2.0) }
}

/// Tests that have passed, at least so many.
fn tests(trial: &mut Trial<'_>, id: &str, least: f64) -> Result<()> {
    let told = given(trial, id)?;
    trial.exactly("runs of tests that failed", number(&told, "failures"), "runs", 0);
    trial.at_least("tests passed", number(&told, "passed") as f64, "tests", least);
    Ok(())
}

fn given(trial: &Trial<'_>, id: &str) -> Result<Value> {
    let told = trial.settings.given.get(id).cloned();
    told.ok_or_else(|| not_run(format!("nobody has told its outcome; scripts/torture {id} does")))
}

fn number(told: &Value, name: &str) -> u64 {
    told[name].as_u64().unwrap_or(0)
}

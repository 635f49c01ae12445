//! Kinds of abuse, tried one after the other: what each costs the proxy, what others feel of it, and that it ends every time.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::super::hostile::Hostile;
use super::super::traffic::{Load, Turns};
use super::super::trial::Trial;
use crate::lab::Process;
use crate::measure;

/// One kind after the other, with nothing else going on. `attack` returns what the abuser tells, and the memory of the
/// proxy at its most. `who` stands before every name, where a row weighs more than one proxy.
pub(super) fn cost(
    trial: &mut Trial<'_>,
    (who, proxy): (&str, &Process),
    kinds: &[&str],
    mut attack: impl FnMut(&Trial<'_>, &str) -> Result<(Value, u64)>,
) -> Result<()> {
    let (mut most_time, mut most_kept) = (("none", 0.0), ("none", 0.0));
    let mut open = Vec::new();
    for name in kinds.iter().copied() {
        let before = measure::processor_time(proxy.id())?;
        let memory = measure::memory(proxy.id())?.resident_bytes;
        let (outcome, most) = attack(trial, name)?;
        let spent = (measure::processor_time(proxy.id())? - before).as_secs_f64();
        let kept = most.saturating_sub(memory) as f64 / f64::from(1 << 20);
        trial.tell(&format!("{who}{name} sent"), outcome["sent"].as_f64().unwrap_or(0.0), "frames");
        trial.tell(&format!("{who}{name} processor"), spent, "s");
        trial.tell(&format!("{who}{name} kept"), kept, "MiB");
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
    trial.quickly(&format!("{who}processor ({})", most_time.0), most_time.1, "s", 0.05);
    trial.at_most(&format!("{who}kept ({})", most_kept.0), most_kept.1, "MiB", 1.0);
    trial.exactly(&format!("{who}left open"), open.len() as u64, "attacks", 0);
    if !open.is_empty() {
        trial.remark(format!("{who}left open: {}", open.join(", ")));
    }
    Ok(())
}

/// Waits for the abuser's end: what it tells, and the memory of the proxy at its most until then.
pub(super) fn weigh(
    trial: &Trial<'_>,
    abuser: Hostile,
    patience: Duration,
    proxy: &Process,
) -> Result<(Value, u64)> {
    let mut most = 0;
    let outcome = abuser.finish_while(trial, patience, || {
        most = most.max(measure::memory(proxy.id())?.resident_bytes);
        Ok(())
    })?;
    Ok((outcome, most))
}

/// What honest requests of `load` tell of quiet times and of ones beside `attack`, in so many turns; `who` as in [`cost`].
pub(super) fn felt(
    trial: &mut Trial<'_>,
    who: &str,
    rounds: u32,
    load: impl Fn(&Trial<'_>) -> Result<Load>,
    attack: impl Fn(&Trial<'_>) -> Result<()>,
) -> Result<()> {
    let mut turns = Turns::begin()?;
    for _ in 0..rounds {
        let quiet = load(trial)?.finish(trial)?;
        let beside = load(trial)?;
        attack(trial)?;
        turns.add(&quiet, &beside.finish(trial)?);
    }
    trial.exactly(&format!("{who}requests of others lost"), turns.lost(), "requests", 0);
    turns.judge(trial, &format!("{who}p99 of others"), 1.5)
}

/// `wanted` frames of each kind, over as many connections as that takes: `unit` that did `again` what they do.
pub(super) fn again(
    trial: &mut Trial<'_>,
    kinds: &[&str],
    wanted: u64,
    (unit, again): (&'static str, &str),
    mut attack: impl FnMut(&Trial<'_>, &str) -> Result<(Value, u64)>,
) -> Result<()> {
    let (mut fewest, mut left_open, mut connections) = (u64::MAX, 0, 0);
    for name in kinds {
        let (outcome, _) = attack(trial, name)?;
        let number = |key: &str| outcome[key].as_u64().unwrap_or(0);
        fewest = fewest.min(number("sent"));
        left_open += number("left_open");
        connections += number("connections");
    }
    trial.tell(&format!("{unit} that {again}"), connections as f64, unit);
    trial.at_least("frames of the kind with the fewest", fewest as f64, "frames", wanted as f64);
    trial.exactly(&format!("left open, of those that {again}"), left_open, unit, 0);
    Ok(())
}

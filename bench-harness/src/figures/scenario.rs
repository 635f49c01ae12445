//! The measurements: what is sent, and what it is divided by.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::subject::{Bench, DISCARD, ECHO, Pair};
use crate::lab::{Process, wait_until};

/// Metric, unit, value.
pub(super) type Sample = (String, &'static str, f64);

/// One kind of load.
#[derive(Clone, Debug)]
pub(super) enum Scenario {
    Bulk { connections: u32, gigabytes: f64 },
    PingPong { connections: u32, seconds: f64 },
    Connect { seconds: f64 },
}

impl Scenario {
    /// Everything whose cost is published.
    pub(super) fn costs(seconds: f64, gigabytes: f64) -> Vec<Scenario> {
        let mut all: Vec<Scenario> =
            [1, 16].map(|connections| Scenario::Bulk { connections, gigabytes }).into();
        all.extend([1, 64, 1000].map(|connections| Scenario::PingPong { connections, seconds }));
        all.push(Scenario::Connect { seconds });
        all
    }

    pub(super) fn name(&self) -> String {
        match self {
            Scenario::Bulk { connections, .. } => format!("bulk-{connections}"),
            Scenario::PingPong { connections, .. } => format!("request-1KiB-{connections}"),
            Scenario::Connect { .. } => "connect".to_owned(),
        }
    }

    /// Loads the pair and tells what it cost.
    pub(super) fn measure(&self, bench: &Bench, pair: &Pair) -> Result<Vec<Sample>> {
        let name = self.name();
        let sample = |what: &str, unit, value| (format!("{name}-{what}"), unit, value);
        Ok(match self {
            Scenario::Bulk { connections, gigabytes } => {
                let before = pair.processor_time()?;
                let outcome = finish(bench.load(&[
                    "bulk",
                    DISCARD,
                    "--connections",
                    &connections.to_string(),
                    "--gigabytes",
                    &gigabytes.to_string(),
                ])?)?;
                let cost = (pair.processor_time()? - before).as_secs_f64();
                let sent = number(&outcome, "bytes")? / 1e9;
                vec![
                    sample("cpu", "CPU-s/GB", cost / sent),
                    sample("rate", "Gbit/s", sent * 8.0 / number(&outcome, "seconds")?),
                ]
            }
            Scenario::PingPong { connections, seconds } => {
                let (cost, outcome) = ping_pong(bench, pair, *connections, *seconds)?;
                let requests = number(&outcome, "requests")?;
                ensure!(number(&outcome, "failures")? == 0.0, "connections broke: {outcome}");
                vec![
                    sample("cpu", "CPU-us/request", cost.as_secs_f64() * 1e6 / requests),
                    sample("rate", "requests/s", requests / seconds),
                    sample("p50", "us", number(&outcome, "p50_us")?),
                    sample("p99", "us", number(&outcome, "p99_us")?),
                ]
            }
            Scenario::Connect { seconds } => {
                let before = pair.processor_time()?;
                let outcome =
                    finish(bench.load(&["connect", ECHO, "--duration", &seconds.to_string()])?)?;
                let cost = (pair.processor_time()? - before).as_secs_f64();
                let connections = number(&outcome, "connections")?;
                ensure!(number(&outcome, "failures")? == 0.0, "connections failed: {outcome}");
                vec![
                    sample("cpu", "CPU-us/connection", cost * 1e6 / connections),
                    sample("rate", "connections/s", connections / number(&outcome, "seconds")?),
                ]
            }
        })
    }
}

/// Memory without connections, and what each idle one adds on either side.
pub(super) fn idle(bench: &Bench, pair: &Pair, connections: usize) -> Result<Vec<Sample>> {
    let before = pair.resident_bytes()?;
    let mut holder = bench.load(&["hold", ECHO, "--connections", &connections.to_string()])?;
    holder.wait_for_log("held", Duration::from_secs(120))?;
    // Allocators and timers settle.
    std::thread::sleep(Duration::from_secs(2));
    let after = pair.resident_bytes()?;
    let cost = pair.processor_time()?;
    std::thread::sleep(Duration::from_secs(4));
    let idling = (pair.processor_time()? - cost).as_secs_f64() / 4.0;
    drop(holder);
    std::thread::sleep(Duration::from_secs(5));
    let later = pair.resident_bytes()?;
    let mut samples = Vec::new();
    for (side, name) in ["near", "far"].into_iter().enumerate() {
        let each = (after[side] as f64 - before[side] as f64) / connections as f64;
        samples.push((format!("idle-{name}-rss"), "MiB", before[side] as f64 / 1048576.0));
        samples.push((format!("idle-{name}-per-connection"), "B", each));
        samples.push((format!("idle-{name}-rss-5s-after"), "MiB", later[side] as f64 / 1048576.0));
    }
    samples.push(("idle-cpu-with-connections".to_owned(), "CPU-ms/s", idling * 1e3));
    Ok(samples)
}

/// The cost is taken between the moments at which the load program begins and ends to count.
fn ping_pong(
    bench: &Bench,
    pair: &Pair,
    connections: u32,
    seconds: f64,
) -> Result<(Duration, Value)> {
    let marks = bench.lab.directory().join("marks");
    let _ = fs::remove_file(&marks);
    let mut load = bench.load(&[
        "ping-pong",
        ECHO,
        "--connections",
        &connections.to_string(),
        "--duration",
        &seconds.to_string(),
        "--marks",
        &marks.display().to_string(),
    ])?;
    let mut wait_for = |mark: &str| {
        wait_until("the load program goes on", Duration::from_secs(60), || {
            let seen = fs::read_to_string(&marks).unwrap_or_default();
            seen.contains(mark) || !load.is_running()
        })
    };
    wait_for("start")?;
    let before = pair.processor_time()?;
    wait_for("end")?;
    let cost = pair.processor_time()? - before;
    Ok((cost, finish(load)?))
}

fn finish(mut load: Process) -> Result<Value> {
    let status = load.wait(Duration::from_secs(600))?;
    let log = load.log();
    ensure!(status.success(), "the load program failed: {log}");
    let line = log.lines().rev().find(|line| line.starts_with('{')).context("no result")?;
    Ok(serde_json::from_str(line)?)
}

fn number(outcome: &Value, name: &str) -> Result<f64> {
    outcome[name].as_f64().with_context(|| format!("no {name} in {outcome}"))
}

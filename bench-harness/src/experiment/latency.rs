//! Latency at fixed rates, from the moment a request was to be sent: Istio's matrix (1000 requests a
//! second of 1 KiB over 2 to 64 connections, and 10 to 800 a second over 16), and beyond it higher rates
//! and other sizes.

use std::time::Duration;

use anyhow::Result;

use super::{Experiment, Point, Settings, Turn};
use crate::subject::{Group, Measured, Subject};

const MIB: f64 = 1048576.0;
/// The largest answers.
const LARGE: u32 = 1 << 20;
/// Of which so many a second are asked for: 0.8 Gbit/s, which all subjects keep up with.
const LARGE_RATE: u32 = 100;

/// Requests at a fixed rate.
pub(super) struct Latency {
    points: Vec<Point>,
    seconds: f64,
    seed: u64,
}

impl Latency {
    pub(super) fn new(settings: &Settings) -> Latency {
        let at = |connections: u32, rate: u32| {
            Point::new().with("connections", connections).with("rate", rate)
        };
        let mut points = Vec::new();
        if settings.full {
            points.extend([2, 4, 8, 16, 32].map(|connections| at(connections, 1000)));
            points.extend([10, 100, 200, 400, 800, 2000, 4000, 8000].map(|rate| at(16, rate)));
            points.extend([0, 16384].map(|size| at(16, 1000).with("size", size)));
            points.push(at(16, LARGE_RATE).with("size", LARGE));
            // The last is what is profiled when nobody says which.
            points.push(at(64, 1000));
        } else {
            points.extend([2, 16, 64].map(|connections| at(connections, 1000)));
        }
        Latency { points, seconds: settings.seconds, seed: settings.seed }
    }
}

impl Experiment for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn points(&self) -> Vec<Point> {
        self.points.clone()
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.seconds + 0.6)
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let seed = self.seed + u64::from(turn.repetition());
        let measured = turn.bench.measure(
            &turn.pair,
            &[
                "requests",
                crate::subject::ECHO,
                "--connections",
                point.text("connections").unwrap_or("16"),
                "--rate",
                point.text("rate").unwrap_or("1000"),
                "--size",
                point.text("size").unwrap_or("1024"),
                "--protocol",
                "http1",
                "--arrivals",
                "poisson",
                "--warm-up",
                "0.5",
                "--duration",
                &self.seconds.to_string(),
                "--seed",
                &seed.to_string(),
            ],
        )?;
        write_requests(turn, &measured)
    }
}

/// What costs per request are measured with: messages, or HTTP where nothing else is carried. (The
/// latencies are HTTP's for all, as Istio's are.)
pub(super) fn protocol(subject: &dyn Subject) -> &'static str {
    if subject.group() == Group::L7 { "http1" } else { "raw" }
}

/// Writes down everything an open loop tells, and what it cost.
pub(super) fn write_requests(turn: &mut Turn<'_>, measured: &Measured) -> Result<()> {
    let outcome = &measured.outcome;
    for metric in ["p50", "p99", "p90", "p999", "p9999", "max", "mean"] {
        turn.sample(metric, "us", measured.number(&format!("{metric}_us"))?);
    }
    let requests = measured.number("requests")?;
    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / requests.max(1.0);
    turn.sample("cpu", "CPU-us/request", per_request(measured.cost.pair()));
    turn.sample("cpu-near", "CPU-us/request", per_request(measured.cost.near));
    turn.sample("cpu-far", "CPU-us/request", per_request(measured.cost.far));
    turn.sample("machine-cpu", "CPU-us/request", per_request(measured.cost.machine));
    turn.energy(&measured.cost, "J/request", requests.max(1.0));
    turn.sample("rate-target", "1/s", measured.number("rate_target")?);
    turn.sample("rate-achieved", "1/s", measured.number("rate_achieved")?);
    turn.sample("generator-cpu", "share", measured.number("cpu_share")?);
    turn.sample("backlog-max", "requests", measured.number("backlog_max")?);
    for (side, memory) in ["near", "far"].into_iter().zip(measured.memory) {
        turn.sample(&format!("{side}-rss"), "MiB", memory.resident_bytes as f64 / MIB);
        turn.sample(&format!("{side}-pss"), "MiB", memory.proportional_bytes as f64 / MIB);
    }
    if let Some(histogram) = outcome["histogram"].as_str() {
        turn.latencies(histogram);
    }
    if let Some(reason) = outcome["void"].as_str() {
        turn.void(reason);
    }
    let failures = measured.number("failures")?;
    if failures > 0.0 {
        turn.void(&format!("{failures} of {requests} requests failed"));
    }
    Ok(())
}

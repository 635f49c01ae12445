//! How much goes through at most: as fast as some connections go, and the highest rate at which the
//! 99th percentile keeps a promise.

use std::time::Duration;

use anyhow::Result;

use super::latency::protocol;
use super::{Experiment, Point, Settings, Turn};
use crate::subject::{ECHO, Measured};

/// The promise: a request is answered within this time, 99 times in 100.
const PROMISE: Duration = Duration::from_millis(5);
/// Where the search for the highest rate begins, in requests a second.
const RATE_MIN: f64 = 2000.0;
/// How often the span between a rate that holds and one that does not is halved.
const HALVINGS: u32 = 4;

/// Requests of 1 KiB without a rate, and the search for the highest one.
pub(super) struct Capacity {
    full: bool,
    seconds: f64,
    seed: u64,
}

impl Capacity {
    pub(super) fn new(settings: &Settings) -> Capacity {
        Capacity { full: settings.full, seconds: settings.seconds, seed: settings.seed }
    }

    fn closed(&self, turn: &mut Turn<'_>, connections: &str) -> Result<()> {
        let measured = turn.bench.measure(
            &turn.pair,
            &[
                "capacity",
                ECHO,
                "--connections",
                connections,
                "--size",
                "1024",
                "--protocol",
                protocol(turn.subject),
                "--warm-up",
                "0.5",
                "--duration",
                &self.seconds.to_string(),
            ],
        )?;
        let requests = measured.number("requests")?;
        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / requests.max(1.0);
        turn.sample("cpu", "CPU-us/request", per_request(measured.cost.pair()));
        turn.sample("rate", "requests/s", requests / measured.number("seconds")?);
        turn.sample("cpu-near", "CPU-us/request", per_request(measured.cost.near));
        turn.sample("cpu-far", "CPU-us/request", per_request(measured.cost.far));
        turn.sample("machine-cpu", "CPU-us/request", per_request(measured.cost.machine));
        turn.energy(&measured.cost, "J/request", requests.max(1.0));
        let failures = measured.number("failures")?;
        if failures > 0.0 {
            turn.void(&format!("{failures} of {requests} requests failed"));
        }
        Ok(())
    }

    /// Doubles the rate until the promise breaks, then halves the span in between.
    fn open(&self, turn: &mut Turn<'_>, connections: &str) -> Result<()> {
        let mut holds = None;
        let mut rate = RATE_MIN;
        let broken = loop {
            match self.at_rate(turn, connections, rate)? {
                Some(measured) => holds = Some((rate, measured)),
                None => break rate,
            }
            rate *= 2.0;
        };
        let Some((mut low, mut best)) = holds else {
            turn.void(&format!("the promise is broken at {RATE_MIN} requests a second already"));
            return Ok(());
        };
        let mut high = broken;
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            match self.at_rate(turn, connections, middle)? {
                Some(measured) => (low, best) = (middle, measured),
                None => high = middle,
            }
        }
        let requests = best.number("requests")?;
        turn.sample("rate", "requests/s", low);
        turn.sample("cpu", "CPU-us/request", best.cost.pair().as_secs_f64() * 1e6 / requests);
        turn.sample("p99", "us", best.number("p99_us")?);
        Ok(())
    }

    /// What was measured at a rate, if the promise holds there.
    fn at_rate(&self, turn: &Turn<'_>, connections: &str, rate: f64) -> Result<Option<Measured>> {
        let seed = self.seed + u64::from(turn.repetition());
        let measured = turn.bench.measure(
            &turn.pair,
            &[
                "requests",
                ECHO,
                "--connections",
                connections,
                "--rate",
                &rate.to_string(),
                "--size",
                "1024",
                "--protocol",
                protocol(turn.subject),
                "--arrivals",
                "poisson",
                "--seed",
                &seed.to_string(),
                "--warm-up",
                "0.3",
                "--duration",
                "1",
            ],
        )?;
        let holds = measured.outcome["void"].is_null()
            && measured.number("failures")? == 0.0
            && measured.number("p99_us")? <= PROMISE.as_micros() as f64;
        Ok(holds.then_some(measured))
    }
}

impl Experiment for Capacity {
    fn name(&self) -> &'static str {
        "capacity"
    }

    fn points(&self) -> Vec<Point> {
        let mut points: Vec<Point> =
            [1, 64, 1000].map(|connections| Point::new().with("connections", connections)).into();
        if self.full {
            let promise = format!("{}ms", PROMISE.as_millis());
            points.push(Point::new().with("connections", 64).with("p99-at-most", promise));
        }
        points
    }

    fn expected(&self) -> Duration {
        let search = if self.full { 4.0 } else { 0.0 };
        Duration::from_secs_f64(self.seconds + 0.7 + search)
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let connections = point.text("connections").unwrap_or("1");
        match point.text("p99-at-most") {
            Some(_) => self.open(turn, connections),
            None => self.closed(turn, connections),
        }
    }
}

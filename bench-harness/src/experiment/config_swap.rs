//! Changes of configuration under load: does a request fail, or wait, because of one?
//!
//! Two loads run at fixed rates, one over connections that stay and one that opens a connection for
//! each request. Meanwhile configurations are renamed into place, each as soon as both sides have
//! taken the one before by their own account; what they have taken is what counts as swaps. The same
//! loads for as long without a swap are the point `swaps=0`. In a full run the repetitions of one
//! subject come to 1,000 swaps, in a short one to 48. (Runs with another number of repetitions come to
//! 12 for each.)

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Experiment, Point, Settings, Turn, number};
use crate::subject::{ECHO, Options, Subject};

/// The time that each swap is given. Ringway waits until files have been quiet for 200 ms.
const SWAP: Duration = Duration::from_millis(300);
/// How long after a swap, and then how often, a subject is asked whether it has taken it.
const FIRST_LOOK: Duration = Duration::from_millis(210);
const NEXT_LOOK: Duration = Duration::from_millis(20);

/// Requests at a fixed rate while configurations change.
pub(super) struct ConfigSwap {
    swaps: u32,
    seconds: f64,
    seed: u64,
}

impl ConfigSwap {
    pub(super) fn new(settings: &Settings) -> ConfigSwap {
        let swaps = if settings.full { 100 } else { 12 };
        let seconds = settings.seconds.max((SWAP * swaps).as_secs_f64());
        ConfigSwap { swaps, seconds, seed: settings.seed }
    }

    /// Both loads, with so many swaps meanwhile.
    fn run(&self, turn: &mut Turn<'_>, swaps: u32) -> Result<()> {
        turn.restart(&Options { changing: true, ..Options::default() })?;
        let seed = (self.seed + u64::from(turn.repetition())).to_string();
        let seconds = self.seconds.to_string();
        let shape = |rate, connections| {
            let mut arguments =
                vec!["requests", ECHO, "--rate", rate, "--connections", connections];
            arguments.extend(["--size", "1024", "--protocol", "http1", "--arrivals", "poisson"]);
            arguments.extend(["--seed", &seed, "--warm-up", "0.5", "--duration", &seconds]);
            arguments
        };
        let mut opening = shape("100", "64");
        opening.push("--connection-per-request");
        let opening = turn.bench.load_in("near", "load-opening", &opening)?;
        let mut swapping = Swapping::new(turn, swaps)?;
        let measured = turn.bench.measure_while(&turn.pair, &shape("1000", "16"), || {
            swapping.go_on().context("while configurations change")
        })?;
        let taken = swapping.taken()?;
        let opening = turn.bench.finish(opening)?;

        let outcomes = [&measured.outcome, &opening];
        let sum = |name: &str| -> f64 { outcomes.iter().map(|told| number(told, name)).sum() };
        turn.sample("failed", "requests", sum("failures") + sum("unanswered"));
        turn.sample("swaps", "swaps", taken);
        for metric in ["p99", "p50", "p999", "max"] {
            turn.sample(metric, "us", measured.number(&format!("{metric}_us"))?);
        }
        turn.sample("opening-p99", "us", number(&opening, "p99_us"));
        turn.sample("requests", "requests", sum("requests"));
        let requests = measured.number("requests")?.max(1.0);
        let cost = measured.cost.pair().as_secs_f64() * 1e6;
        turn.sample("cpu", "CPU-us/request", cost / requests);
        if let Some(histogram) = measured.outcome["histogram"].as_str() {
            turn.latencies(histogram);
        }
        let lost = sum("failures") + sum("unanswered");
        // Failures are what is counted here; any other reason is one against the latencies.
        if let (Some(reason), 0.0) = (measured.outcome["void"].as_str(), lost) {
            turn.void(reason);
        }
        if swaps > 0 && taken == 0.0 {
            turn.void("no change of the configuration was taken");
        }
        Ok(())
    }
}

/// Swaps one after the other.
struct Swapping<'a> {
    turn: &'a Turn<'a>,
    wanted: u32,
    made: u32,
    taken_before: u64,
    next_look: Instant,
}

impl<'a> Swapping<'a> {
    fn new(turn: &'a Turn<'a>, wanted: u32) -> Result<Swapping<'a>> {
        let mut swapping =
            Swapping { turn, wanted, made: 0, taken_before: 0, next_look: Instant::now() };
        swapping.taken_before = swapping.count()?;
        Ok(swapping)
    }

    /// Makes the next swap once the one before was taken.
    fn go_on(&mut self) -> Result<()> {
        if self.made == self.wanted || Instant::now() < self.next_look {
            return Ok(());
        }
        if self.count()? < self.taken_before + u64::from(self.made) {
            self.next_look = Instant::now() + NEXT_LOOK;
            return Ok(());
        }
        let changing = self.turn.subject.changing().context("it cannot be changed")?;
        self.made += 1;
        changing.swap(self.turn.bench, self.made)?;
        self.next_look = Instant::now() + FIRST_LOOK;
        Ok(())
    }

    /// Swaps that were taken.
    fn taken(&self) -> Result<f64> {
        Ok((self.count()? - self.taken_before) as f64)
    }

    fn count(&self) -> Result<u64> {
        let changing = self.turn.subject.changing().context("it cannot be changed")?;
        changing.taken(self.turn.bench)
    }
}

impl Experiment for ConfigSwap {
    fn name(&self) -> &'static str {
        "config-swap"
    }

    fn points(&self) -> Vec<Point> {
        [0, self.swaps].map(|swaps| Point::new().with("swaps", swaps)).into()
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.seconds + 3.0)
    }

    fn needs_pair(&self) -> bool {
        false
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        match subject.changing() {
            Some(_) => None,
            None => Some("it has no configuration that can change while it runs".to_owned()),
        }
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        self.run(turn, point.get("swaps")?)
    }
}

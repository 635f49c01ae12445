//! Proxies that are replaced under load: does a connection fail because of it?
//!
//! Connections are opened at a fixed rate, with one request each, while a few others stay. Meanwhile
//! the two proxies hand over to successors of the same program in turns, each again as soon as its
//! predecessor has ended and [`PAUSE`] has passed. **What counts is that no new connection fails.**
//! Connections that stay are carried in tunnels, which the successor cannot take over: what the old
//! process cuts at its drain deadline is told as `cut`. The same loads for as long without a hand-over
//! are the point `replaced=never`. In a full run the repetitions of one subject come to 300,000 new
//! connections.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Experiment, Point, Settings, Turn, number};
use crate::lab::Process;
use crate::subject::{ECHO, Options, Subject};

/// Between two hand-overs, so that not every moment is one.
const PAUSE: Duration = Duration::from_millis(500);
/// New connections a second in full runs: 72,000 a minute, as in the storm of `connections`.
const RATE_FULL: u32 = 1200;
/// And else: also what an unoptimised build on a shared processor keeps up with.
const RATE: u32 = 200;
/// Seconds of each load, at least: in a full run ten times 30,000 connections, else some hand-overs.
const SECONDS_MIN_FULL: f64 = 25.5;
const SECONDS_MIN: f64 = 3.0;

/// New connections at a fixed rate while proxies are replaced.
pub(super) struct HandOver {
    rate: u32,
    seconds: f64,
    seed: u64,
}

impl HandOver {
    pub(super) fn new(settings: &Settings) -> HandOver {
        let (rate, at_least) =
            if settings.full { (RATE_FULL, SECONDS_MIN_FULL) } else { (RATE, SECONDS_MIN) };
        HandOver { rate, seconds: settings.seconds.max(at_least), seed: settings.seed }
    }

    /// A load of requests beside another one, over these connections.
    fn load(&self, turn: &Turn<'_>, name: &str, rate: u32, rest: &[&str]) -> Result<Process> {
        let seed = (self.seed + u64::from(turn.repetition())).to_string();
        let (rate, seconds) = (rate.to_string(), self.seconds.to_string());
        let mut arguments = vec!["requests", ECHO, "--rate", &rate, "--size", "1024"];
        arguments.extend(["--protocol", "http1", "--arrivals", "poisson", "--seed", &seed]);
        arguments.extend(["--warm-up", "0.5", "--duration", &seconds]);
        arguments.extend(rest);
        turn.bench.load_in("near", name, &arguments)
    }

    /// Both loads, with hand-overs meanwhile or without.
    fn run(&self, turn: &mut Turn<'_>, replaced: bool) -> Result<()> {
        turn.restart(&Options::default())?;
        let opening = ["--connections", "512", "--connection-per-request"];
        let mut opening = self.load(turn, "load-opening", self.rate, &opening)?;
        let staying = self.load(turn, "load-staying", 100, &["--connections", "16"])?;
        let mut replacing = Replacing::default();
        while opening.is_running() {
            if replaced {
                replacing.go_on(turn)?;
            }
            turn.bench.sleep(Duration::from_millis(10))?;
        }
        let (opening, staying) = (turn.bench.finish(opening)?, turn.bench.finish(staying)?);

        let lost = number(&opening, "failures") + number(&opening, "unanswered");
        turn.sample("failed", "connections", lost);
        turn.sample("connections", "connections", number(&opening, "requests"));
        turn.sample("hand-overs", "hand-overs", f64::from(replacing.made));
        for metric in ["p99", "p50", "p999", "max"] {
            turn.sample(metric, "us", number(&opening, &format!("{metric}_us")));
        }
        turn.sample("cut", "requests", number(&staying, "failures"));
        if replaced {
            turn.sample("serves-after", "ms", replacing.slowest.as_secs_f64() * 1e3);
        }
        if let Some(histogram) = opening["histogram"].as_str() {
            turn.latencies(histogram);
        }
        // Failures are what is counted here; any other reason is one against the latencies.
        if let (Some(reason), 0.0) = (opening["void"].as_str(), lost) {
            turn.void(reason);
        }
        if replaced && replacing.made == 0 {
            turn.void("no proxy was replaced while connections were opened");
        }
        Ok(())
    }
}

/// Hand-overs one after the other, of one side and then of the other.
#[derive(Default)]
struct Replacing {
    made: u32,
    /// The longest time from asking for a successor until it served.
    slowest: Duration,
    /// Predecessors of the near and of the far side that may still drain.
    draining: [Option<Process>; 2],
    last: Option<Instant>,
}

impl Replacing {
    /// Replaces the proxy whose turn it is, once it can be.
    fn go_on(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        let side = self.made as usize % 2;
        let rested = self.last.is_none_or(|last| last.elapsed() >= PAUSE);
        let drained = self.draining[side].as_mut().is_none_or(|before| !before.is_running());
        if !rested || !drained {
            return Ok(());
        }
        let replacing = turn.subject.replacing().context("it cannot be replaced")?;
        let [near, far] = [&mut turn.pair.near, &mut turn.pair.far];
        let proxy = [near, far][side].first_mut().context("there is no process to replace")?;
        let began = Instant::now();
        self.draining[side] = Some(replacing.replace(proxy)?);
        self.slowest = self.slowest.max(began.elapsed());
        self.last = Some(Instant::now());
        self.made += 1;
        Ok(())
    }
}

impl Experiment for HandOver {
    fn name(&self) -> &'static str {
        "hand-over"
    }

    fn points(&self) -> Vec<Point> {
        ["never", "again"].map(|replaced| Point::new().with("replaced", replaced)).into()
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.seconds + 3.0)
    }

    fn needs_pair(&self) -> bool {
        false
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        match subject.replacing() {
            Some(_) => None,
            None => Some("how it is replaced while it works is not written here".to_owned()),
        }
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        self.run(turn, point.text("replaced") == Some("again"))
    }
}

//! What is measured of a subject, experiment by experiment, and the runner that gives every subject
//! its turn.

mod capacity;
mod config_swap;
mod connections;
mod cores;
mod cost;
mod hand_over;
mod idle;
mod latency;
mod noisy_neighbour;
mod point;
mod runner;
mod scale;
mod throughput;
mod waypoint;

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

pub use self::point::Point;
pub use self::runner::{Plan, run};
use crate::measure::Cost;
use crate::record::{Origin, Recorder};
use crate::subject::{Bench, Options, Pair, Subject};

/// One kind of measurement.
pub trait Experiment {
    /// The name in samples.
    fn name(&self) -> &'static str;

    /// What it varies, in the order in which it is measured.
    fn points(&self) -> Vec<Point>;

    /// How long one point takes, roughly, for the time that is left.
    fn expected(&self) -> Duration;

    /// How many repetitions say all there is to say, for what hardly varies.
    fn repetitions_max(&self) -> u32 {
        u32::MAX
    }

    /// Whether the runner starts a pair for it, once for all points. Otherwise the turn's pair is
    /// empty, and the experiment starts what it needs.
    fn needs_pair(&self) -> bool {
        true
    }

    /// Why a subject cannot be measured so at all, if it cannot.
    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        let _ = subject;
        None
    }

    /// Measures one point and writes down what it sees.
    ///
    /// # Errors
    /// When nothing could be measured. The runner records it as void and goes on.
    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()>;
}

/// How much to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything, or what fits into minutes.
    pub full: bool,
    /// Seconds of each measurement under load.
    pub seconds: f64,
    /// Where the generator's randomness begins.
    pub seed: u64,
    /// How many connections are held idle; empty for the usual ones.
    pub held: Vec<u32>,
    /// How many workloads meshes have; empty for the usual ones.
    pub workloads: Vec<u32>,
    /// How many services the company has whose cost is measured; none for the usual number.
    pub services: Option<u32>,
}

/// The names of all experiments.
pub const NAMES: [&str; 12] = [
    "latency",
    "capacity",
    "cores",
    "throughput",
    "connections",
    "idle",
    "scale",
    "cost",
    "config-swap",
    "hand-over",
    "noisy-neighbour",
    WAYPOINT,
];

/// The experiment that has subjects of its own, and so is no part of runs of everything.
pub const WAYPOINT: &str = "waypoint";

/// The experiment called `name`.
///
/// # Errors
/// When there is none of that name; lists those that exist.
pub fn by_name(name: &str, settings: &Settings) -> Result<Box<dyn Experiment>> {
    Ok(match name {
        "latency" => Box::new(latency::Latency::new(settings)),
        "capacity" => Box::new(capacity::Capacity::new(settings)),
        "cores" => Box::new(cores::Cores::new(settings)),
        "throughput" => Box::new(throughput::Throughput::new(settings)),
        "connections" => Box::new(connections::Connections::new(settings)),
        "idle" => Box::new(idle::Idle::new(settings)),
        "scale" => Box::new(scale::Scale::new(settings)),
        "cost" => Box::new(cost::Cost::new(settings)),
        "config-swap" => Box::new(config_swap::ConfigSwap::new(settings)),
        "hand-over" => Box::new(hand_over::HandOver::new(settings)),
        "noisy-neighbour" => Box::new(noisy_neighbour::NoisyNeighbour::new(settings)),
        WAYPOINT => Box::new(waypoint::Waypoint::new(settings)),
        _ => bail!("no experiment is called {name:?}; there are {}", NAMES.join(", ")),
    })
}

/// A number that a load program told; 0 where it told none.
fn number(told: &Value, name: &str) -> f64 {
    told[name].as_f64().unwrap_or(0.0)
}

/// One subject's turn in one repetition of an experiment: what it measures with, and where it writes.
pub struct Turn<'a> {
    /// The pods, servers and load.
    pub bench: &'a Bench,
    /// Who is measured.
    pub subject: &'a dyn Subject,
    /// The running pair; empty when the experiment needs none.
    pub pair: Pair,
    recorder: &'a mut Recorder,
    origin: Origin,
    headline: Vec<String>,
    void: Option<String>,
    broken: Option<anyhow::Error>,
}

impl<'a> Turn<'a> {
    fn new(
        bench: &'a Bench,
        subject: &'a dyn Subject,
        recorder: &'a mut Recorder,
        experiment: &str,
        repetition: u32,
    ) -> Turn<'a> {
        let origin = Origin {
            experiment: experiment.to_owned(),
            subject: subject.name().to_owned(),
            repetition,
            point: String::new(),
        };
        let pair = Pair::default();
        let (headline, void, broken) = (Vec::new(), None, None);
        Turn { bench, subject, pair, recorder, origin, headline, void, broken }
    }

    /// Which repetition this is, counting from 1.
    pub fn repetition(&self) -> u32 {
        self.origin.repetition
    }

    /// Starts the pair afresh, in another way than the runner did.
    pub fn restart(&mut self, options: &Options) -> Result<()> {
        self.bench.end(std::mem::take(&mut self.pair))?;
        self.pair = self.bench.start(self.subject, options)?;
        Ok(())
    }

    /// Starts all that stands before the service afresh, with so many rules for its requests.
    pub fn restart_before_service(&mut self, rules: u32) -> Result<()> {
        self.bench.end(std::mem::take(&mut self.pair))?;
        self.pair = self.bench.start_before_service(self.subject, rules)?;
        Ok(())
    }

    /// Writes down one number of the current point.
    pub fn sample(&mut self, metric: &str, unit: &str, value: f64) {
        if self.headline.len() < 4 {
            self.headline.push(format!("{metric} {} {unit}", short(value)));
        }
        let written = self.recorder.sample(&self.origin, metric, unit, value);
        self.keep_failure(written);
    }

    /// Writes down what the machine took from the wall for each of so many requests, gigabytes or
    /// connections, where it counts that.
    pub fn energy(&mut self, cost: &Cost, unit: &str, count: f64) {
        if let Some(joules) = cost.joules {
            self.sample("energy", unit, joules / count);
        }
    }

    /// Shows a remark beside the numbers while measuring; it is not written down.
    pub fn remark(&mut self, text: &str) {
        self.headline.push(text.to_owned());
    }

    /// Writes down the latencies of the current point.
    pub fn latencies(&mut self, histogram: &str) {
        let written = self.recorder.latencies(&self.origin, histogram);
        self.keep_failure(written);
    }

    /// Writes down that the current point does not count.
    pub fn void(&mut self, reason: &str) {
        if self.void.is_none() {
            self.void = Some(reason.to_owned());
            let written = self.recorder.void(&self.origin, reason);
            self.keep_failure(written);
        }
    }

    fn begin(&mut self, point: &Point) {
        self.origin.point = point.to_string();
        self.headline.clear();
        self.void = None;
    }

    fn keep_failure(&mut self, written: Result<()>) {
        if let Err(error) = written {
            self.broken.get_or_insert(error);
        }
    }
}

/// A number as it is shown while measuring.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

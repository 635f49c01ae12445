//! Honest traffic while something else goes on: load programs, started and read.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::arena::{Arena, SERVED};
use super::trial::Trial;
use crate::lab::{Process, Program};
use crate::measure;
use crate::statistics::{Estimate, median};

/// What a load program is waited for beyond what it was told to take.
const MARGIN: Duration = Duration::from_secs(120);

/// The priority of who asks and who answers where processors are full: what is measured does not wait for its own turn.
pub(super) const MEASURED: u8 = 2;

/// A load program under way.
pub(super) struct Load {
    process: Process,
}

/// What a load program told.
#[derive(Clone, Debug)]
pub(super) struct Told(Value);

impl Load {
    /// Starts `ringway-bench load ...` in a pod.
    pub(super) fn start(
        arena: &Arena,
        trial: &Trial<'_>,
        pod: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<Load> {
        Load::launch(arena, pod, name, program(trial, arguments))
    }

    /// Requests at a steady rate for so many seconds, over connections that stay.
    pub(super) fn requests(
        arena: &Arena,
        trial: &Trial<'_>,
        (from, to): (&str, &str),
        rate: u32,
        seconds: f64,
    ) -> Result<Load> {
        let load = requests(trial, arena.address(to, SERVED), rate, seconds);
        Load::launch(arena, from, &format!("load-{from}-{to}"), load)
    }

    /// Starts what [`program`] or [`requests`] made.
    pub(super) fn launch(arena: &Arena, pod: &str, name: &str, load: Program) -> Result<Load> {
        Ok(Load { process: arena.lab.start(pod, name, &load)? })
    }

    /// Waits until it says `text`.
    pub(super) fn wait_for(&mut self, text: &str, patience: Duration) -> Result<()> {
        self.process.wait_for_log(text, patience)
    }

    /// Whether it is still under way.
    pub(super) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for its end and reads what it says.
    pub(super) fn finish(mut self, trial: &Trial<'_>) -> Result<Told> {
        let began = Instant::now();
        while self.process.is_running() {
            trial.sleep(Duration::from_millis(20))?;
            ensure!(began.elapsed() < MARGIN, "the load program does not end");
        }
        let status = self.process.wait(MARGIN)?;
        let log = self.process.log();
        ensure!(status.success(), "the load program failed: {}", log.trim());
        last_json(&log).map(Told).with_context(|| format!("the load told nothing: {}", log.trim()))
    }
}

/// The program `ringway-bench load ...`.
pub(super) fn program(trial: &Trial<'_>, arguments: &[&str]) -> Program {
    Program::new(&trial.settings.own).argument("load").arguments(arguments)
}

/// The program of [`Load::requests`].
pub(super) fn requests(trial: &Trial<'_>, to: SocketAddr, rate: u32, seconds: f64) -> Program {
    let target = to.to_string();
    let (rate, seconds) = (rate.to_string(), seconds.to_string());
    let seed = trial.settings.seed.to_string();
    #[rustfmt::skip]
    let arguments = [
        "requests", &target, "--rate", &rate, "--connections", "16", "--size", "1024",
        "--protocol", "http1", "--arrivals", "poisson", "--seed", &seed,
        "--warm-up", "0.5", "--duration", &seconds,
    ];
    program(trial, &arguments)
}

impl Told {
    /// A number; 0 where it told none.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or(0.0)
    }

    /// Requests that failed or were never answered.
    pub(super) fn lost(&self) -> u64 {
        (self.number("failures") + self.number("unanswered")) as u64
    }
}

/// How long honest requests take by themselves and beside something, in turns: what else the machine does then comes to
/// both, and one pause of it decides nothing.
pub(super) struct Turns {
    /// p99 in microseconds, beside something and quiet.
    pairs: Vec<(f64, f64)>,
    lost: u64,
    requests: f64,
    began: Instant,
    stolen_before: Duration,
}

impl Turns {
    pub(super) fn begin() -> Result<Turns> {
        let stolen_before = measure::stolen_time()?;
        let began = Instant::now();
        Ok(Turns { pairs: Vec::new(), lost: 0, requests: 0.0, began, stolen_before })
    }

    /// Adds a quiet time, and the one beside something that followed it.
    pub(super) fn add(&mut self, quiet: &Told, beside: &Told) {
        // A p99 of 0 was not measured: nothing was answered, which counts as lost.
        self.pairs.push((beside.number("p99_us"), quiet.number("p99_us").max(1.0)));
        self.lost += quiet.lost() + beside.lost();
        self.requests += beside.number("requests");
    }

    /// Requests that were sent beside something.
    pub(super) fn requests(&self) -> f64 {
        self.requests
    }

    /// Requests that failed or were never answered, of all.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Holds the median p99 beside something against the median of the quiet ones, and tells how much of the processors
    /// the hypervisor gave to others meanwhile.
    pub(super) fn judge(&self, trial: &mut Trial<'_>, what: &str, times_most: f64) -> Result<()> {
        let times = Estimate::ratio(&self.pairs).context("nothing was measured")?;
        let processors = thread::available_parallelism().map_or(1, usize::from) as f64;
        let stolen = (measure::stolen_time()? - self.stolen_before).as_secs_f64();
        let share = stolen / (self.began.elapsed().as_secs_f64() * processors);
        trial.at_most_times(&format!("{what} over quiet"), times.value, times_most);
        self.tell(trial, what);
        trial.tell(&format!("{what}: turns"), self.pairs.len() as f64, "pairs");
        trial.tell(&format!("{what}: processors taken by other machines"), share * 100.0, "%");
        Ok(())
    }

    /// Tells both medians.
    pub(super) fn tell(&self, trial: &mut Trial<'_>, what: &str) {
        let of = |which: fn(&(f64, f64)) -> f64| {
            median(&self.pairs.iter().map(which).collect::<Vec<_>>())
        };
        trial.tell(what, of(|pair| pair.0), "us");
        trial.tell(&format!("{what}, quiet"), of(|pair| pair.1), "us");
    }
}

/// The last line of JSON in a log.
pub(super) fn last_json(log: &str) -> Option<Value> {
    let line = log.lines().rev().find(|line| line.starts_with('{'))?;
    serde_json::from_str(line).ok()
}

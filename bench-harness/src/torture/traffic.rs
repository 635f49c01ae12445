//! Honest traffic while something else goes on: load programs, started and read.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::arena::Arena;
use super::trial::Trial;
use crate::lab::{Process, Program};

/// What a load program is waited for beyond what it was told to take.
const MARGIN: Duration = Duration::from_secs(120);

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
        let load = Program::new(&trial.settings.own).argument("load").arguments(arguments);
        Ok(Load { process: arena.lab.start(pod, name, &load)? })
    }

    /// As [`Load::start`], and leaves the processors to whoever else wants them: what others feel of it then is what
    /// the proxies let through, and not that the machine is full.
    pub(super) fn start_yielding(
        arena: &Arena,
        trial: &Trial<'_>,
        pod: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<Load> {
        let load = Program::new(&trial.settings.own).argument("load").arguments(arguments);
        Ok(Load { process: arena.lab.start(pod, name, &load.yielding())? })
    }

    /// Requests at a steady rate for so many seconds, over connections that stay.
    pub(super) fn requests(
        arena: &Arena,
        trial: &Trial<'_>,
        (from, to): (&str, &str),
        rate: u32,
        seconds: f64,
    ) -> Result<Load> {
        let target = arena.address(to, super::arena::SERVED).to_string();
        let (rate, seconds) = (rate.to_string(), seconds.to_string());
        let seed = trial.settings.seed.to_string();
        #[rustfmt::skip]
        let arguments = [
            "requests", &target, "--rate", &rate, "--connections", "16", "--size", "1024",
            "--protocol", "http1", "--arrivals", "poisson", "--seed", &seed,
            "--warm-up", "0.5", "--duration", &seconds,
        ];
        Load::start(arena, trial, from, &format!("load-{from}-{to}"), &arguments)
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

/// The last line of JSON in a log.
pub(super) fn last_json(log: &str) -> Option<Value> {
    let line = log.lines().rev().find(|line| line.starts_with('{'))?;
    serde_json::from_str(line).ok()
}

//! The first figures: what a pair of Ringways costs beside a pair of the reference relay, on one
//! machine, in one run, interleaved.
//!
//! Two namespaces joined by one veth pair; the same redirect rules, congestion control and cipher
//! suite for everybody. Cost is the processor time of the two proxy processes and nothing else.

mod record;
mod scale;
mod scenario;
#[allow(dead_code)]
mod subject;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::record::Record;
use self::scenario::Scenario;
use self::subject::{Bench, Subject};

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct Figures {
    /// The program `ringway`, a release build.
    #[arg(long)]
    ringway: PathBuf,
    /// The folder to write manifest.json and samples.csv to.
    #[arg(long)]
    out: PathBuf,
    /// Rounds; in each one, every subject has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement of round trips.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Gigabytes of each bulk transfer.
    #[arg(long, default_value_t = 4.0)]
    gigabytes: f64,
    /// Congestion control of all namespaces.
    #[arg(long, default_value = "reno")]
    congestion_control: String,
    /// Which parts: costs, idle, scale.
    #[arg(long, value_delimiter = ',', default_value = "costs,idle,scale")]
    parts: Vec<String>,
    /// Which subjects; `ringway-epoll` is there, too.
    #[arg(long, value_delimiter = ',', default_value = "ringway,reference,reference-1")]
    subjects: Vec<String>,
    /// Workloads and services of the large mesh.
    #[arg(long, default_value_t = 150_000)]
    workloads: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    idle_connections: usize,
    /// A sentence about the conditions, for the manifest.
    #[arg(long, default_value = "")]
    note: String,
}

impl Figures {
    /// Measures and writes.
    pub fn run(&self) -> Result<()> {
        let ringway = std::fs::canonicalize(&self.ringway).context("no program `ringway`")?;
        let subjects: Vec<Subject> =
            self.subjects.iter().map(|name| name.parse()).collect::<Result<_>>()?;
        let mut record = Record::create(&self.out)?;
        record.write_manifest(self, &ringway)?;
        if self.wants("costs") || self.wants("idle") {
            let bench = Bench::build(&ringway, &self.congestion_control)?;
            if self.wants("costs") {
                self.measure_costs(&bench, &subjects, &mut record)?;
            }
            if self.wants("idle") {
                self.measure_idle(&bench, &subjects, &mut record)?;
            }
        }
        if self.wants("scale") {
            for round in 1..=self.rounds.min(3) {
                scale::measure(&ringway, self.workloads, round, &mut record)?;
            }
        }
        record.summarise(&self.subjects)
    }

    fn measure_costs(
        &self,
        bench: &Bench,
        subjects: &[Subject],
        record: &mut Record,
    ) -> Result<()> {
        let scenarios = Scenario::costs(self.seconds, self.gigabytes);
        for round in 1..=self.rounds {
            // A B, then B A: what drifts during a round hits both alike.
            let mut order = subjects.to_vec();
            if round % 2 == 0 {
                order.reverse();
            }
            for subject in order {
                let pair = bench.start(subject)?;
                for scenario in &scenarios {
                    let samples = scenario.measure(bench, &pair).with_context(|| {
                        format!("{subject}, round {round}, {}\n{}", scenario.name(), pair.logs())
                    })?;
                    for (metric, unit, value) in samples {
                        record.add(&subject.to_string(), round, &metric, unit, value)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn measure_idle(&self, bench: &Bench, subjects: &[Subject], record: &mut Record) -> Result<()> {
        for round in 1..=self.rounds.min(3) {
            for subject in subjects {
                let pair = bench.start(*subject)?;
                let samples = scenario::idle(bench, &pair, self.idle_connections)
                    .with_context(|| format!("{subject}, idle\n{}", pair.logs()))?;
                for (metric, unit, value) in samples {
                    record.add(&subject.to_string(), round, &metric, unit, value)?;
                }
            }
        }
        Ok(())
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.iter().any(|wanted| wanted == part)
    }
}

/// The middle of some values.
fn median(values: &[f64]) -> Result<f64> {
    ensure!(!values.is_empty(), "no values");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    Ok(if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    })
}

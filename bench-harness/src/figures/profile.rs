//! Profiles of a loaded pair, for flamegraphs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::subject::{Bench, DISCARD, ECHO, Subject};
use crate::lab::Program;

/// What to profile.
#[derive(Clone, Debug, Args)]
pub struct Profile {
    /// The program `ringway`, a release build with frame pointers.
    #[arg(long)]
    ringway: PathBuf,
    /// Which load.
    #[arg(long, default_value = "requests")]
    kind: Kind,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Seconds to profile.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Profile this instead of Ringway: a subject of the figures.
    #[arg(long, default_value = "ringway")]
    subject: String,
    /// The folder for near.perf and far.perf.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Round trips of 1 KiB.
    Requests,
    /// Gigabytes one way.
    Bulk,
    /// Short connections.
    Connect,
}

impl Profile {
    /// Loads a pair and records where both processes are, a thousand times a second.
    pub fn run(&self) -> Result<()> {
        let ringway = std::fs::canonicalize(&self.ringway).context("no program `ringway`")?;
        let subject: Subject = self.subject.parse()?;
        let bench = Bench::build(&ringway, "reno")?;
        let pair = bench.start(subject)?;
        let (connections, seconds) = (self.connections.to_string(), (self.seconds + 4).to_string());
        let load: Vec<&str> = match self.kind {
            Kind::Requests => {
                vec!["ping-pong", ECHO, "--connections", &connections, "--duration", &seconds]
            }
            Kind::Bulk => {
                vec!["bulk", DISCARD, "--connections", &connections, "--gigabytes", "1000"]
            }
            Kind::Connect => {
                vec!["connect", ECHO, "--connections", &connections, "--duration", &seconds]
            }
        };
        let _load = bench.load(&load)?;
        std::thread::sleep(Duration::from_secs(2));
        let mut recorders = Vec::new();
        for (side, id) in pair.ids() {
            let program = Program::new("perf")
                .arguments(["record", "-e", "cpu-clock", "-F", "997", "-g", "-o"])
                .argument(self.out.join(format!("{side}.perf")))
                .arguments(["-p", &id.to_string(), "--", "sleep", &self.seconds.to_string()]);
            recorders.push(bench.lab.start("near", &format!("perf-{side}"), &program)?);
        }
        for recorder in &mut recorders {
            let status = recorder.wait(Duration::from_secs(u64::from(self.seconds) + 60))?;
            anyhow::ensure!(status.success(), "perf failed: {}", recorder.log());
        }
        Ok(())
    }
}

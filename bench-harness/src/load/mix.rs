//! Mice beside elephants: what small requests wait when somebody else moves a lot.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::bulk::{Direction, Herd};
use super::crew::{Cores, Crew, What};
use super::requests::{Length, Timing};
use super::span::Marks;
use super::tally::OpenLoop;

/// Requests at a rate over some connections, while others carry as much as they can.
#[derive(Clone, Debug, Args)]
pub struct Mix {
    /// Where the null server is, as ADDRESS:PORT.
    target: SocketAddr,
    /// Connections that carry as much as they can.
    #[arg(long, default_value_t = 1)]
    elephants: usize,
    /// Which way the elephants go.
    #[arg(long, value_enum, default_value_t)]
    direction: Direction,
    /// Connections that carry requests; they are what is measured.
    #[arg(long, default_value_t = 16)]
    mice: usize,
    /// Requests a second, over all mice together.
    #[arg(long)]
    rate: f64,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    length: Length,
    #[command(flatten)]
    what: What,
    /// Threads for the mice; as many as --cores by default, else one.
    #[arg(long)]
    threads: Option<usize>,
    /// Processor cores to pin the threads for the mice to, such as `0,2-3`.
    #[arg(long, value_name = "LIST")]
    cores: Option<Cores>,
    /// Connect from this address; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    source: Vec<IpAddr>,
    /// Write `start` and `end` lines here when measuring begins and is over.
    #[arg(long, value_name = "FILE")]
    marks: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct MixOutcome {
    /// Bytes the elephants moved.
    pub elephant_bytes: u64,
    /// Seconds they had for it.
    pub elephant_seconds: f64,
    /// The mice.
    #[serde(flatten)]
    pub mice: OpenLoop,
}

impl Mix {
    /// Makes the load. The elephants run before the first mouse does, and until the last one has.
    pub fn run(&self) -> Result<MixOutcome> {
        let pace = self.timing.pace(self.rate)?;
        let span = self.length.span()?;
        let mice = Crew {
            target: self.target,
            connections: Some(self.mice),
            threads: self.threads,
            cores: self.cores.clone(),
            source: self.source.clone(),
            marks: None,
            spin: None,
        };
        let ready = mice.prepare(&self.what)?;
        let start = Instant::now();
        let herd = Herd::start(self.target, &self.source, self.elephants, self.direction)?;
        let tally = ready.run(pace, span, &Marks(self.marks.clone()))?;
        let elephant_seconds = start.elapsed().as_secs_f64();
        let elephant_bytes = herd.stop()?;
        let mice = tally.open_loop(span, self.rate)?;
        Ok(MixOutcome { elephant_bytes, elephant_seconds, mice })
    }
}

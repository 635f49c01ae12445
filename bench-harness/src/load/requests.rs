//! Requests and their latency: under a fixed rate, and as fast as it goes.

use anyhow::{Result, ensure};
use clap::Args;

use super::crew::{Crew, Pace, What};
use super::schedule::Arrivals;
use super::span::{GRACE_SECONDS, Span};
use super::tally::{ClosedLoop, OpenLoop};

/// Requests a second at most: beyond it their moments would be closer than the clock tells apart.
const RATE_MAX: f64 = 1e7;

/// When requests are due.
#[derive(Clone, Copy, Debug, Args)]
pub struct Timing {
    /// How requests follow each other.
    #[arg(long, value_enum, default_value = "constant")]
    pub arrivals: Arrivals,
    /// The seed of Poisson arrivals.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How long.
#[derive(Clone, Copy, Debug, Args)]
pub struct Length {
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds before measuring, not counted.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub warm_up: f64,
    /// Seconds after that in which answers are still waited for. What is not answered by then is told, and counts as late
    /// by that much.
    #[arg(long, value_name = "SECONDS", default_value_t = GRACE_SECONDS)]
    pub grace: f64,
}

impl Length {
    pub(super) fn span(&self) -> Result<Span> {
        Span::new(self.warm_up, self.duration)?.with_grace(self.grace)
    }
}

/// Requests at a rate, and their latency from the moment each was due.
#[derive(Clone, Debug, Args)]
pub struct Requests {
    #[command(flatten)]
    pub(crate) crew: Crew,
    #[command(flatten)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) timing: Timing,
    #[command(flatten)]
    pub(crate) length: Length,
    /// Requests a second, over all connections together.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

impl Requests {
    /// Makes the requests.
    pub fn run(&self) -> Result<OpenLoop> {
        ensure!(
            self.rate.is_some(),
            "latency is measured under a rate, or the target would decide when it is asked: give \
             --rate; what a target can do at most is told by `ringway-bench load capacity`"
        );
        let rate = self.rate.unwrap_or_default();
        let pace = self.timing.pace(rate)?;
        let span = self.length.span()?;
        self.crew.run(&self.what, pace, span)?.open_loop(span, rate)
    }
}

impl Timing {
    pub(super) fn pace(&self, rate: f64) -> Result<Pace> {
        ensure!(
            rate > 0.0 && rate <= RATE_MAX,
            "--rate {rate}: requests a second, more than zero and at most {RATE_MAX}"
        );
        Ok(Pace::Open { rate, arrivals: self.arrivals, seed: self.seed })
    }
}

/// Requests as fast as the connections go, each with one under way at any time.
#[derive(Clone, Debug, Args)]
pub struct Capacity {
    #[command(flatten)]
    pub(crate) crew: Crew,
    #[command(flatten)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) length: Length,
}

impl Capacity {
    /// Makes the requests.
    pub fn run(&self) -> Result<ClosedLoop> {
        let span = self.length.span()?;
        self.crew.run(&self.what, Pace::Closed, span)?.closed_loop(span)
    }
}

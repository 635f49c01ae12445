//! Connections that carry one message each.

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::crew::{Crew, Pace, What};
use super::protocol::Protocol;
use super::requests::{Length, Timing};
use super::tally::{ClosedLoop, OpenLoop};

/// Connections at a time, unless told, when one follows the other.
const ROW_CONNECTIONS: usize = 16;
/// Connections at a time, unless told, of a storm: more than a target that keeps up has open.
const STORM_CONNECTIONS: usize = 1000;

/// New connections, again and again, or as a storm at a rate.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    #[command(flatten)]
    crew: Crew,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    length: Length,
    /// Connections a second. Each counts from the moment it was due to be opened, and waits when
    /// --connections are open already. Without a rate, a connection follows the one before.
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of the message.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    size: usize,
    /// What is spoken.
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectOutcome {
    /// Connections that carried their message there and back.
    pub connections: u64,
    #[serde(flatten)]
    run: Run,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Run {
    Storm(Box<OpenLoop>),
    Row(Box<ClosedLoop>),
}

impl Connect {
    /// Connects again and again.
    pub fn run(&self) -> Result<ConnectOutcome> {
        let what = What {
            size: self.size,
            protocol: self.protocol,
            connection_per_request: true,
            streams: 1,
            path: None,
            authority: None,
        };
        let span = self.length.span()?;
        let (pace, rate, connections) = match self.rate {
            Some(rate) => (self.timing.pace(rate)?, rate, STORM_CONNECTIONS),
            None => (Pace::Closed, 0.0, ROW_CONNECTIONS),
        };
        let tally = self.crew.or(connections).run(&what, pace, span)?;
        ensure!(
            tally.requests > 0,
            "no connection carried its message: {}",
            tally.first_failure.as_deref().unwrap_or("the target never answered")
        );
        let run = match pace {
            Pace::Closed => Run::Row(Box::new(tally.closed_loop(span)?)),
            Pace::Open { .. } => Run::Storm(Box::new(tally.open_loop(span, rate)?)),
        };
        Ok(ConnectOutcome { connections: tally.requests, run })
    }
}

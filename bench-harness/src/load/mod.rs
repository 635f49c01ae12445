//! The load generator.
//!
//! Latency is measured in open loop: every request has a moment at which it is due, fixed before the
//! run, and its latency counts from there, so that a target that stops is seen by all the requests it
//! kept waiting. What a target can do at most is another question, and another kind of load.
//!
//! ```text
//!  crew ──▶ worker (one thread each) ──▶ lanes (one connection each) ──▶ protocol
//!             │  schedule, alarm, dialler
//!             └─▶ tally ──▶ one line of JSON
//! ```
//!
//! **Invariants**
//! * No request that was due is left out of the histogram, unless it failed; then the run is void.
//! * A worker never waits for the target: it waits for the next moment and for sockets together.
//! * A run that does not count says so itself, with the reason, in its own line.

mod alarm;
mod bulk;
mod connect;
pub(crate) mod crew;
mod dialler;
mod hold;
mod mix;
mod protocol;
mod requests;
mod schedule;
mod span;
mod tally;
mod worker;

use anyhow::Result;
use clap::Subcommand;

pub use self::bulk::{Bulk, BulkOutcome, Direction};
pub use self::connect::{Connect, ConnectOutcome};
pub use self::crew::{Cores, Crew, What};
pub use self::hold::Hold;
pub use self::mix::{Mix, MixOutcome};
pub use self::protocol::Protocol;
pub use self::requests::{Capacity, Length, Requests, Timing};
pub use self::schedule::Arrivals;
pub use self::span::GRACE_SECONDS;
pub use self::tally::{ClosedLoop, Common, OpenLoop};

/// A kind of load.
#[derive(Clone, Debug, Subcommand)]
pub enum Load {
    /// Send requests at a rate and measure their latency (open loop).
    Requests(Requests),
    /// Send requests as fast as the connections go (closed loop).
    Capacity(Capacity),
    /// Send or receive gigabytes.
    Bulk(Bulk),
    /// Open connections and leave them idle until SIGTERM.
    Hold(Hold),
    /// Open a connection, exchange a message, close it; again, or at a rate.
    Connect(Connect),
    /// Send requests at a rate beside connections that carry as much as they can.
    Mix(Mix),
}

impl Load {
    /// Makes the load and prints what came of it as one line of JSON.
    pub fn run(self) -> Result<()> {
        match self {
            Load::Requests(load) => print(&load.run()?),
            Load::Capacity(load) => print(&load.run()?),
            Load::Bulk(load) => print(&load.run()?),
            Load::Hold(load) => load.run(),
            Load::Connect(load) => print(&load.run()?),
            Load::Mix(load) => print(&load.run()?),
        }
    }
}

fn print(outcome: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}

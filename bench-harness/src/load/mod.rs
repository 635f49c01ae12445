//! Closed-loop load, for costs per request and per byte. (Latency under a fixed rate needs an open
//! loop; that is another program's job.)

mod bulk;
mod hold;
mod ping_pong;

use anyhow::Result;
use clap::Subcommand;

pub use self::bulk::Bulk;
pub use self::hold::{Connect, Hold};
pub use self::ping_pong::PingPong;

/// A kind of load.
#[derive(Clone, Debug, Subcommand)]
pub enum Load {
    /// Send a message, wait for as many bytes, again.
    PingPong(PingPong),
    /// Send gigabytes one way.
    Bulk(Bulk),
    /// Open connections and leave them idle until SIGTERM.
    Hold(Hold),
    /// Open a connection, exchange a message, close it, again.
    Connect(Connect),
}

impl Load {
    /// Makes the load and prints what came of it as one line of JSON.
    pub async fn run(self) -> Result<()> {
        match self {
            Load::PingPong(load) => print(&load.run().await?),
            Load::Bulk(load) => print(&load.run().await?),
            Load::Hold(load) => load.run().await,
            Load::Connect(load) => print(&load.run().await?),
        }
    }
}

fn print(outcome: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}

//! Idle connections.

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::crew::{Crew, What};
use super::protocol::Protocol;

/// Connections, unless told.
const CONNECTIONS: usize = 10_000;

/// Connections that do nothing.
#[derive(Clone, Debug, Args)]
pub struct Hold {
    #[command(flatten)]
    crew: Crew,
    /// What is spoken before they fall silent.
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
}

impl Hold {
    /// Opens them, asks for one byte over each and gets it, prints a line, waits for SIGTERM.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let what = What {
                size: 1,
                protocol: self.protocol,
                connection_per_request: false,
                streams: 1,
                path: None,
                authority: None,
            };
            let crew = self.crew.or(CONNECTIONS);
            let held = crew.prepare(&what)?;
            println!("{{\"held\":{}}}", crew.connections()?);
            terminate.recv().await;
            drop(held);
            Ok(())
        })
    }
}

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
}

impl Hold {
    /// Opens them, sends one byte over each and gets it back, prints a line, waits for SIGTERM.
    pub fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let what = What {
                size: 1,
                protocol: Protocol::Raw,
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

//! Idle connections, and short ones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::ping_pong::connect_all;

/// Connections that do nothing.
#[derive(Clone, Debug, Args)]
pub struct Hold {
    /// Where the echo is.
    pub target: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
}

impl Hold {
    /// Opens them, sends one byte over each and gets it back, prints a line, waits for SIGTERM.
    pub async fn run(&self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut streams = connect_all(self.target, self.connections).await?;
        for stream in &mut streams {
            stream.write_all(b"?").await?;
            stream.read_exact(&mut [0; 1]).await.context("a held connection broke")?;
        }
        println!("{{\"held\":{}}}", streams.len());
        terminate.recv().await;
        Ok(())
    }
}

/// Connections that carry one message each.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// Where the echo is.
    pub target: SocketAddr,
    /// How many at a time.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Seconds to go on.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
    /// Bytes of the message.
    #[arg(long, default_value_t = 64)]
    pub size: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectOutcome {
    /// Connections that carried their message there and back.
    pub connections: u64,
    /// Connections that did not.
    pub failures: u64,
    /// Seconds it took.
    pub seconds: f64,
}

impl Connect {
    /// Connects again and again.
    pub async fn run(&self) -> Result<ConnectOutcome> {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.duration);
        let mut working = JoinSet::new();
        for _ in 0..self.connections {
            let (target, size) = (self.target, self.size);
            working.spawn(async move {
                let (mut good, mut bad) = (0, 0);
                while Instant::now() < end {
                    match once(target, size).await {
                        Ok(()) => good += 1,
                        Err(_) => bad += 1,
                    }
                }
                (good, bad)
            });
        }
        let (mut connections, mut failures) = (0, 0);
        while let Some(counts) = working.join_next().await {
            let (good, bad) = counts?;
            connections += good;
            failures += bad;
        }
        Ok(ConnectOutcome { connections, failures, seconds: start.elapsed().as_secs_f64() })
    }
}

async fn once(target: SocketAddr, size: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let mut message = vec![1; size];
    stream.write_all(&message).await?;
    stream.read_exact(&mut message).await?;
    stream.shutdown().await?;
    // The echo ends when we do; so nothing of this connection is left when the next one starts.
    stream.read(&mut [0; 1]).await.map(|_| ())
}

//! Gigabytes one way, over one connection or several.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::ping_pong::connect_all;

/// Bytes handed to the kernel at once.
const WRITE_BYTES: usize = 256 * 1024;

/// A transfer to a server that discards.
#[derive(Clone, Debug, Args)]
pub struct Bulk {
    /// Where the server is.
    pub target: SocketAddr,
    /// Gigabytes (10^9 bytes), over all connections together.
    #[arg(long, default_value_t = 1.0)]
    pub gigabytes: f64,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct BulkOutcome {
    /// Bytes the server has taken to the end.
    pub bytes: u64,
    /// From the first byte until the server's end arrived on every connection.
    pub seconds: f64,
}

impl Bulk {
    /// Transfers.
    pub async fn run(&self) -> Result<BulkOutcome> {
        let streams = connect_all(self.target, self.connections).await?;
        let each = (self.gigabytes * 1e9) as u64 / self.connections as u64;
        let start = Instant::now();
        let mut sending = JoinSet::new();
        for mut stream in streams {
            sending.spawn(async move {
                let piece = vec![0x5a; WRITE_BYTES];
                let mut left = each;
                while left > 0 {
                    let count = left.min(WRITE_BYTES as u64) as usize;
                    stream.write_all(&piece[..count]).await?;
                    left -= count as u64;
                }
                stream.shutdown().await?;
                // The server ends only when it has taken everything.
                if stream.read(&mut [0; 1]).await? != 0 {
                    return Err(io::Error::other("the server was to answer nothing"));
                }
                Ok(each)
            });
        }
        let mut bytes = 0;
        while let Some(sent) = sending.join_next().await {
            bytes += sent??;
        }
        Ok(BulkOutcome { bytes, seconds: start.elapsed().as_secs_f64() })
    }
}

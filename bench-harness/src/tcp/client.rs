//! The TCP client: sends, ends, receives, and tells what it saw.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pattern::{self, Digest};

/// One exchange.
#[derive(Clone, Debug, Args)]
pub struct Tcp {
    /// Where to connect.
    target: SocketAddr,
    /// How many bytes of the pattern to send before ending.
    #[arg(long, default_value_t = 0)]
    send: u64,
    /// The seed of the pattern.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fail unless exactly the bytes sent come back.
    #[arg(long)]
    expect_echo: bool,
    /// How long the whole exchange may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
}

/// What the client saw.
#[derive(Clone, Debug, Serialize)]
pub struct TcpOutcome {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Their digest.
    pub sent_digest: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Their digest.
    pub received_digest: u64,
    /// The first bytes received, if they are text.
    pub text: String,
}

impl Tcp {
    /// An exchange that sends nothing.
    pub fn new(target: SocketAddr) -> Tcp {
        Tcp { target, send: 0, seed: 0, expect_echo: false, timeout: 30.0 }
    }

    /// Sends this many bytes of the pattern.
    pub fn send(self, bytes: u64, seed: u64) -> Tcp {
        Tcp { send: bytes, seed, ..self }
    }

    /// Exchanges and prints what it saw.
    pub async fn run(self) -> Result<()> {
        let outcome = self.exchange().await?;
        println!("{}", serde_json::to_string(&outcome)?);
        if self.expect_echo && outcome.received_digest != outcome.sent_digest {
            bail!("sent {} bytes, other bytes came back", outcome.sent_bytes);
        }
        Ok(())
    }

    /// Sends, half-closes, and receives until the other side's end.
    pub async fn exchange(&self) -> Result<TcpOutcome> {
        tokio::time::timeout(Duration::from_secs_f64(self.timeout), async {
            let stream = TcpStream::connect(self.target)
                .await
                .with_context(|| format!("cannot connect to {}", self.target))?;
            stream.set_nodelay(true)?;
            let (mut reader, mut writer) = stream.into_split();
            let (send, seed) = (self.send, self.seed);
            let sending = async move {
                let mut piece = vec![0; 64 * 1024];
                let mut offset = 0;
                while offset < send {
                    let count = (send - offset).min(piece.len() as u64) as usize;
                    pattern::fill(seed, offset, &mut piece[..count]);
                    writer.write_all(&piece[..count]).await?;
                    offset += count as u64;
                }
                writer.shutdown().await
            };
            let receiving = async {
                let mut piece = vec![0; 64 * 1024];
                let (mut bytes, mut digest, mut text) = (0, Digest::new(), Vec::new());
                loop {
                    let count = reader.read(&mut piece).await?;
                    if count == 0 {
                        return Ok::<_, io::Error>((bytes, digest, text));
                    }
                    bytes += count as u64;
                    digest.update(&piece[..count]);
                    if text.len() < 256 {
                        text.extend_from_slice(&piece[..count.min(256)]);
                    }
                }
            };
            let ((), (bytes, digest, text)) = tokio::try_join!(sending, receiving)
                .map_err(|error| anyhow::anyhow!("the exchange broke: {error}"))?;
            Ok(TcpOutcome {
                sent_bytes: send,
                sent_digest: Digest::of_stream(seed, send).value(),
                received_bytes: bytes,
                received_digest: digest.value(),
                text: String::from_utf8(text).unwrap_or_default(),
            })
        })
        .await
        .context("not finished in time")?
    }
}

//! Round trips: every connection has one message under way at any time.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::pattern;

/// Round trips against a server that echoes.
#[derive(Clone, Debug, Args)]
pub struct PingPong {
    /// Where the echo is.
    pub target: SocketAddr,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1024)]
    pub size: usize,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds before measuring, not counted.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub warm_up: f64,
    /// Write `start` and `end` lines here when measuring begins and is over.
    #[arg(long, value_name = "FILE")]
    pub marks: Option<std::path::PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct PingPongOutcome {
    /// Round trips measured.
    pub requests: u64,
    /// Connections that broke.
    pub failures: u64,
    /// Seconds measured.
    pub seconds: f64,
    /// Latency percentiles in microseconds.
    pub p50_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

struct Counts {
    requests: u64,
    failures: u64,
    latency: Histogram<u64>,
}

impl PingPong {
    /// Opens all connections, warms up, measures.
    pub async fn run(&self) -> Result<PingPongOutcome> {
        LocalSet::new().run_until(self.run_local()).await
    }

    async fn run_local(&self) -> Result<PingPongOutcome> {
        let streams = connect_all(self.target, self.connections).await?;
        let counts = Rc::new(RefCell::new(Counts {
            requests: 0,
            failures: 0,
            latency: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        }));
        let start = Instant::now() + Duration::from_secs_f64(self.warm_up);
        let end = start + Duration::from_secs_f64(self.duration);
        let mut tasks = JoinSet::new();
        for stream in streams {
            let (counts, size) = (counts.clone(), self.size);
            tasks.spawn_local(async move {
                if exchange(stream, size, start, end, &counts).await.is_err() {
                    counts.borrow_mut().failures += 1;
                }
            });
        }
        tokio::time::sleep_until(start.into()).await;
        self.mark("start")?;
        tokio::time::sleep_until(end.into()).await;
        self.mark("end")?;
        while tasks.join_next().await.is_some() {}
        let counts = counts.borrow();
        Ok(PingPongOutcome {
            requests: counts.requests,
            failures: counts.failures,
            seconds: self.duration,
            p50_us: counts.latency.value_at_quantile(0.5),
            p99_us: counts.latency.value_at_quantile(0.99),
            max_us: counts.latency.max(),
        })
    }

    fn mark(&self, what: &str) -> Result<()> {
        let Some(path) = &self.marks else { return Ok(()) };
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{what}").context("cannot write the mark")
    }
}

/// Opens many connections, not all in the same instant.
pub(super) async fn connect_all(target: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    let gate = std::sync::Arc::new(Semaphore::new(64));
    let mut opening = JoinSet::new();
    for _ in 0..connections {
        let gate = gate.clone();
        opening.spawn(async move {
            let _turn = gate.acquire().await.expect("the gate is never closed");
            let stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        });
    }
    let mut streams = Vec::with_capacity(connections);
    while let Some(opened) = opening.join_next().await {
        let number = streams.len() + 1;
        streams.push(opened?.with_context(|| format!("connection {number} to {target} failed"))?);
    }
    Ok(streams)
}

async fn exchange(
    mut stream: TcpStream,
    size: usize,
    start: Instant,
    end: Instant,
    counts: &RefCell<Counts>,
) -> io::Result<()> {
    let mut message = vec![0; size];
    pattern::fill(0, 0, &mut message);
    let mut answer = vec![0; size];
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(());
        }
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        if sent >= start {
            let mut counts = counts.borrow_mut();
            counts.requests += 1;
            counts.latency.saturating_record(sent.elapsed().as_micros() as u64);
        }
    }
}

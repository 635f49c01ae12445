//! Gigabytes one way, over one connection or several.
//!
//! A connection begins with a line that tells the null server what to do: `DISCARD` or
//! `SOURCE <bytes>`. A server that discards everything anyway does not mind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::net::{RecvFlags, recv};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::crew::{Crew, pin};
use super::dialler::{Dialler, allow_descriptors};
use super::span::Marks;

/// Bytes handed to the kernel at once.
const PIECE_BYTES: usize = 256 * 1024;
/// How long connecting may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long no byte may move.
const MOVE_PATIENCE: Duration = Duration::from_secs(30);

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From here to the server.
    #[default]
    Upload,
    /// From the server, which must be the null server, to here.
    Download,
}

/// A transfer.
#[derive(Clone, Debug, Args)]
pub struct Bulk {
    #[command(flatten)]
    crew: Crew,
    /// Gigabytes (10^9 bytes), over all connections together.
    #[arg(long, default_value_t = 1.0)]
    gigabytes: f64,
    /// Which way.
    #[arg(long, value_enum, default_value_t)]
    direction: Direction,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct BulkOutcome {
    /// Bytes that have arrived to the end.
    pub bytes: u64,
    /// From the first byte until the end arrived on every connection.
    pub seconds: f64,
    /// Processor time the generator took.
    pub cpu_seconds: f64,
}

impl Bulk {
    /// Transfers. A thread for each connection: they do little else than wait for the kernel.
    pub fn run(&self) -> Result<BulkOutcome> {
        let count = self.crew.connections()?;
        let each = (self.gigabytes * 1e9) as u64 / count as u64;
        ensure!(
            self.gigabytes.is_finite() && each > 0,
            "--gigabytes {}: nothing to send",
            self.gigabytes
        );
        allow_descriptors(count)?;
        let mut dialler = Dialler::new(self.crew.target, &self.crew.source, count)?;
        let streams: Vec<_> = (0..count).map(|_| dialler.connect(CONNECT_PATIENCE)).collect();
        let streams: Vec<TcpStream> = streams.into_iter().collect::<Result<_>>()?;
        let marks = Marks(self.crew.marks.clone());
        marks.write("start")?;
        let (clock, start) = (process_clock(), Instant::now());
        let mut working = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let core = self.crew.cores.as_ref().map(|cores| cores.0[index % cores.0.len()]);
            let direction = self.direction;
            let work = move || {
                core.map_or(Ok(()), pin)?;
                match direction {
                    Direction::Upload => upload(stream, each),
                    Direction::Download => download(stream, each),
                }
            };
            working.push(thread::Builder::new().stack_size(256 * 1024).spawn(work)?);
        }
        let mut bytes = 0;
        for handle in working {
            bytes += handle.join().map_err(|_| anyhow!("a thread of the generator panicked"))??;
        }
        let seconds = start.elapsed().as_secs_f64();
        marks.write("end")?;
        Ok(BulkOutcome { bytes, seconds, cpu_seconds: (process_clock() - clock).as_secs_f64() })
    }
}

/// Sends; the server ends only when it has taken everything.
fn upload(mut stream: TcpStream, bytes: u64) -> Result<u64> {
    stream.set_read_timeout(Some(MOVE_PATIENCE))?;
    stream.set_write_timeout(Some(MOVE_PATIENCE))?;
    stream.write_all(b"DISCARD\n").context("cannot send")?;
    let piece = vec![0x5a; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(PIECE_BYTES as u64) as usize;
        stream
            .write_all(&piece[..count])
            .with_context(|| format!("the connection broke with {left} bytes still to send"))?;
        left -= count as u64;
    }
    stream.shutdown(std::net::Shutdown::Write).context("cannot end")?;
    let answer = stream.read(&mut [0; 1]).context("the server never ended")?;
    ensure!(
        answer == 0,
        "the server answered, and was to discard: use `ringway-bench serve null` or `serve discard`"
    );
    Ok(bytes)
}

/// Receives, and has the kernel throw the bytes away (`MSG_TRUNC`): what is measured is the way here.
fn download(mut stream: TcpStream, bytes: u64) -> Result<u64> {
    stream.set_read_timeout(Some(MOVE_PATIENCE))?;
    stream.write_all(format!("SOURCE {bytes}\n").as_bytes()).context("cannot ask")?;
    let mut room = vec![0; PIECE_BYTES];
    let mut came = 0;
    loop {
        match recv(&stream, &mut room[..], RecvFlags::TRUNC) {
            Ok((_, 0)) => break,
            Ok((_, count)) => came += count as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("the connection broke after {came} of {bytes} bytes: {error}"),
        }
    }
    ensure!(
        came == bytes,
        "{came} bytes came instead of {bytes}: only `ringway-bench serve null` sends what is asked for"
    );
    Ok(bytes)
}

fn process_clock() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

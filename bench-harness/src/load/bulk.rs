//! Gigabytes one way, over one connection or several.
//!
//! A connection begins with a line that tells the null server what to do: `DISCARD` or
//! `SOURCE <bytes>`. A server that discards everything anyway does not mind.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::net::{RecvFlags, recv};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::crew::Crew;
use super::dialler::{Dialler, allow_descriptors};
use super::span::Marks;
use crate::processors::pin;

/// Bytes handed to the kernel at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Stack of a thread that moves bytes; the piece is not on it.
const STACK_BYTES: usize = 256 * 1024;
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
            "--gigabytes {}: not a byte for each connection",
            self.gigabytes
        );
        let streams = connect(self.crew.target, &self.crew.source, count)?;
        let marks = Marks(self.crew.marks.clone());
        marks.write("start")?;
        let (clock, start) = (process_clock(), Instant::now());
        let mut working = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let core = self.crew.cores.as_ref().map(|cores| cores.0[index % cores.0.len()]);
            let direction = self.direction;
            working.push(spawn(move || {
                core.map_or(Ok(()), pin)?;
                match direction {
                    Direction::Upload => upload(stream, each, &Control::default()),
                    Direction::Download => download(stream, each, &Control::default()),
                }
            })?);
        }
        let bytes = join(working)?;
        let seconds = start.elapsed().as_secs_f64();
        marks.write("end")?;
        ensure!(bytes == each * count as u64, "{bytes} bytes arrived, {each} on each were to");
        Ok(BulkOutcome { bytes, seconds, cpu_seconds: (process_clock() - clock).as_secs_f64() })
    }
}

/// Transfers that go on until they are stopped.
pub(super) struct Herd {
    control: Arc<Control>,
    working: Vec<JoinHandle<Result<u64>>>,
}

/// What a transfer looks at after each piece, and tells.
#[derive(Debug, Default)]
struct Control {
    is_over: AtomicBool,
    moved_bytes: AtomicU64,
}

impl Herd {
    pub(super) fn start(
        target: SocketAddr,
        sources: &[IpAddr],
        count: usize,
        direction: Direction,
    ) -> Result<Herd> {
        let control = Arc::new(Control::default());
        let mut working = Vec::new();
        for stream in connect(target, sources, count)? {
            let control = control.clone();
            working.push(spawn(move || match direction {
                Direction::Upload => upload(stream, u64::MAX, &control),
                Direction::Download => download(stream, u64::MAX, &control),
            })?);
        }
        Ok(Herd { control, working })
    }

    /// Stops them, and tells how many bytes they have moved until now.
    pub(super) fn stop(self) -> Result<u64> {
        let moved = self.control.moved_bytes.load(Ordering::Relaxed);
        self.control.is_over.store(true, Ordering::Relaxed);
        join(self.working)?;
        Ok(moved)
    }
}

impl Control {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn has_moved(&self, count: usize) {
        self.moved_bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn connect(target: SocketAddr, sources: &[IpAddr], count: usize) -> Result<Vec<TcpStream>> {
    allow_descriptors(count)?;
    let mut dialler = Dialler::new(target, sources, count)?;
    (0..count).map(|_| dialler.connect(CONNECT_PATIENCE)).collect()
}

fn spawn(work: impl FnOnce() -> Result<u64> + Send + 'static) -> Result<JoinHandle<Result<u64>>> {
    let builder = thread::Builder::new().stack_size(STACK_BYTES);
    builder.spawn(work).context("cannot start a thread for each connection")
}

fn join(working: Vec<JoinHandle<Result<u64>>>) -> Result<u64> {
    let mut bytes = 0;
    for handle in working {
        bytes += handle.join().map_err(|_| anyhow!("a thread of the generator panicked"))??;
    }
    Ok(bytes)
}

/// Sends; the server ends only when it has taken everything.
fn upload(mut stream: TcpStream, bytes: u64, control: &Control) -> Result<u64> {
    stream.set_read_timeout(Some(MOVE_PATIENCE))?;
    stream.set_write_timeout(Some(MOVE_PATIENCE))?;
    stream.write_all(b"DISCARD\n").context("cannot send")?;
    let piece = vec![0x5a; PIECE_BYTES];
    let mut sent = 0;
    while sent < bytes && !control.is_over() {
        let count = (bytes - sent).min(PIECE_BYTES as u64) as usize;
        stream
            .write_all(&piece[..count])
            .with_context(|| format!("the connection broke after {sent} bytes"))?;
        control.has_moved(count);
        sent += count as u64;
    }
    stream.shutdown(Shutdown::Write).context("cannot end")?;
    let answer = stream.read(&mut [0; 1]).context("the server never ended")?;
    ensure!(
        answer == 0,
        "the server answered, and was to discard: use `ringway-bench serve null` or `serve discard`"
    );
    Ok(sent)
}

/// Receives, and has the kernel throw the bytes away (`MSG_TRUNC`): what is measured is the way here.
fn download(mut stream: TcpStream, bytes: u64, control: &Control) -> Result<u64> {
    stream.set_read_timeout(Some(MOVE_PATIENCE))?;
    stream.write_all(format!("SOURCE {bytes}\n").as_bytes()).context("cannot ask")?;
    let mut room = vec![0; PIECE_BYTES];
    let mut came = 0;
    while !control.is_over() {
        match recv(&stream, &mut room[..], RecvFlags::TRUNC) {
            Ok((_, 0)) => break,
            Ok((_, count)) => {
                control.has_moved(count);
                came += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("the connection broke after {came} of {bytes} bytes: {error}"),
        }
    }
    ensure!(
        came == bytes || control.is_over(),
        "{came} bytes came instead of {bytes}: only `ringway-bench serve null` sends what is asked for"
    );
    Ok(came)
}

fn process_clock() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

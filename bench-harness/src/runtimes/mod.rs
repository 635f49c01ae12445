//! `ringway-bench runtimes`: the same plain TCP relay on several runtimes, side by side. This is the
//! standing evidence for the decision that the engine owns its runtime.
//!
//! Each relay is a program of its own with one thread on one core; clients and server are one
//! thread on another core. Every repetition starts every relay afresh, without and with a system
//! call filter of a container's size, in an order that is reversed every second time.

mod confine;
mod generator;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::json;

pub use self::confine::Confine;
use self::generator::Generator;
use crate::measure::{memory, processor_time};
use crate::processors::pin;
use crate::record::{Origin, Recorder, Results};

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct Runtimes {
    /// The program `plain_relay`: `cargo build --release -p ringway-engine --example plain_relay`.
    #[arg(long, value_name = "FILE")]
    plain_relay: PathBuf,
    /// The program `runtime-relay`, built in bench-harness/runtimes.
    #[arg(long, value_name = "FILE")]
    runtime_relay: PathBuf,
    /// The folder to write. If it is there, its run is continued.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How often every relay has its turn, those of a continued run included.
    #[arg(long, default_value_t = 10)]
    repetitions: u32,
    /// End after so many repetitions; the next call goes on.
    #[arg(long, value_name = "N")]
    at_most: Option<u32>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The relay's core; the load runs on the lowest other one.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Only these relays.
    #[arg(long, value_delimiter = ',', value_name = "RELAY")]
    relays: Vec<String>,
}

/// The relays: Ringway's on its two reactors, and the others.
const RELAYS: [&str; 6] = ["ringway", "ringway-epoll", "tokio", "tokio-256k", "monoio", "glommio"];
const FILTERS: [&str; 2] = ["none", "seccomp"];
const MESSAGES: [usize; 3] = [1, 64, 1000];
const BULK: [usize; 2] = [1, 16];
const WARM_UP: Duration = Duration::from_millis(100);
/// After this time of silence connections count as idle.
const SILENCE: Duration = Duration::from_millis(200);

impl Runtimes {
    /// Measures, and prints a table of medians.
    ///
    /// # Errors
    /// When a program is missing, or the results cannot be written. A relay that fails is void.
    pub fn run(&self) -> Result<()> {
        for program in [&self.plain_relay, &self.runtime_relay] {
            ensure!(program.exists(), "{} is missing; see --help", program.display());
        }
        for relay in &self.relays {
            ensure!(RELAYS.contains(&&**relay), "no relay {relay}; there are {RELAYS:?}");
        }
        let (mut recorder, done) = match self.out.join("samples.csv").exists() {
            true => (Recorder::resume(&self.out)?, self.repetitions_done()?),
            false => (Recorder::create(&self.out)?, 0),
        };
        if done == 0 {
            recorder.manifest(&self.manifest())?;
        }
        let core = if self.core == 0 { 1 } else { 0 };
        pin(core)?;
        let last = self.repetitions.min(done + self.at_most.unwrap_or(self.repetitions));
        for repetition in done + 1..=last {
            let mut turns: Vec<(&str, &str)> = FILTERS
                .iter()
                .flat_map(|filter| self.wanted().map(move |relay| (relay, *filter)))
                .collect();
            if repetition % 2 == 0 {
                turns.reverse();
            }
            for (relay, filter) in turns {
                let mut turn = Turn { relay, filter, repetition, recorder: &mut recorder };
                if let Err(error) = self.take(&mut turn) {
                    turn.recorder.void(&turn.origin(""), &format!("{error:#}"))?;
                    println!("{relay} ({filter}): {error:#}");
                }
            }
            println!("repetition {repetition} of {} is done", self.repetitions);
        }
        table(&Results::load(&self.out)?);
        Ok(())
    }

    fn wanted(&self) -> impl Iterator<Item = &'static str> {
        RELAYS.into_iter().filter(|relay| {
            self.relays.is_empty() || self.relays.iter().any(|wanted| wanted == relay)
        })
    }

    fn repetitions_done(&self) -> Result<u32> {
        let results = Results::load(&self.out)?;
        Ok(results.samples.iter().map(|sample| sample.origin.repetition).max().unwrap_or(0))
    }

    /// One relay without or with the filter: all points.
    fn take(&self, turn: &mut Turn<'_>) -> Result<()> {
        let upstream = TcpListener::bind("127.0.0.1:0")?;
        upstream.set_nonblocking(true)?;
        rustix::net::listen(&upstream, 1024)?;
        let relay = Relay::start(&self.command(turn), upstream.local_addr()?, self.core)?;
        // The connection by which it was found to listen.
        while upstream.accept().is_err() {
            ensure!(relay.started.elapsed() < Duration::from_secs(10), "the relay does not dial");
        }
        let time = Duration::from_secs_f64(self.seconds);
        for connections in MESSAGES {
            let before = memory(relay.id())?.resident_bytes;
            let mut generator = Generator::open(relay.address, &upstream, connections)?;
            generator.messages(WARM_UP)?;
            let clock = processor_time(relay.id())?;
            let messages = generator.messages(time)?;
            let cost = processor_time(relay.id())? - clock;
            let micros = cost.as_secs_f64() * 1e6 / messages as f64;
            turn.sample(&format!("connections={connections}"), "cpu", "CPU-us/message", micros)?;
            if connections == 1000 {
                std::thread::sleep(SILENCE);
                let grown = memory(relay.id())?.resident_bytes.saturating_sub(before);
                let each = grown as f64 / connections as f64;
                turn.sample(&format!("idle={connections}"), "per-connection", "B", each)?;
            }
        }
        for connections in BULK {
            let mut generator = Generator::open(relay.address, &upstream, connections)?;
            generator.bulk(WARM_UP)?;
            let clock = processor_time(relay.id())?;
            let bytes = generator.bulk(time)?;
            let cost = processor_time(relay.id())? - clock;
            let seconds = cost.as_secs_f64() * 1e9 / bytes as f64;
            turn.sample(&format!("bulk={connections}"), "cpu", "CPU-s/GB", seconds)?;
        }
        Ok(())
    }

    /// The command that starts a relay, without its addresses.
    fn command(&self, turn: &Turn<'_>) -> Vec<PathBuf> {
        let relay: [PathBuf; 2] = match turn.relay {
            "ringway" => [self.plain_relay.clone(), "ring".into()],
            "ringway-epoll" => [self.plain_relay.clone(), "epoll".into()],
            other => [self.runtime_relay.clone(), other.into()],
        };
        let own = std::env::current_exe().unwrap_or_else(|_| "ringway-bench".into());
        let mut command: Vec<PathBuf> = match turn.filter {
            "seccomp" => vec![own, "confine".into(), "--".into()],
            _ => Vec::new(),
        };
        command.extend(relay);
        command
    }

    fn manifest(&self) -> serde_json::Value {
        let of = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).ok()
        };
        let lock = fs::read_to_string("bench-harness/runtimes/Cargo.lock").unwrap_or_default();
        let version = |name: &str| {
            let at = lock.find(&format!("name = \"{name}\"\n"))?;
            lock[at..].lines().nth(1)?.split('"').nth(1).map(str::to_owned)
        };
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find(|line| line.starts_with("model name"));
        json!({
            "commit": of("git", &["rev-parse", "HEAD"]),
            "date": of("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            "machine": {
                "kernel": of("uname", &["-srvm"]),
                "processor": model.and_then(|line| line.split(": ").nth(1)),
                "cores": std::thread::available_parallelism().map_or(0, usize::from),
            },
            "programs": {
                "glommio": version("glommio"),
                "monoio": version("monoio"),
                "tokio": version("tokio"),
                "plain_relay": of("sha256sum", &[&self.plain_relay.to_string_lossy()]),
                "runtime-relay": of("sha256sum", &[&self.runtime_relay.to_string_lossy()]),
            },
            "conditions": {
                "topology": "loopback; the relay one thread on one core, clients and server one \
                             thread that never sleeps on another",
                "cost": "scheduler time of all threads of the relay",
                "message_bytes": generator::MESSAGE_BYTES,
                "seconds": self.seconds,
                "order": "relays interleaved, reversed every second repetition, each started afresh",
                "filter": "seccomp: one comparison for each allowed system call, io_uring allowed",
            },
            "experiments": ["runtimes"],
            "subjects": RELAYS,
            "arguments": std::env::args().collect::<Vec<_>>(),
        })
    }
}

/// One relay's turn.
struct Turn<'a> {
    relay: &'static str,
    filter: &'static str,
    repetition: u32,
    recorder: &'a mut Recorder,
}

impl Turn<'_> {
    fn origin(&self, point: &str) -> Origin {
        let point = format!("{point} filter={}", self.filter).trim().to_owned();
        Origin {
            experiment: "runtimes".to_owned(),
            subject: self.relay.to_owned(),
            repetition: self.repetition,
            point,
        }
    }

    fn sample(&mut self, point: &str, metric: &str, unit: &str, value: f64) -> Result<()> {
        self.recorder.sample(&self.origin(point), metric, unit, value)
    }
}

/// A relay that runs. Dropping it ends it.
struct Relay {
    child: Child,
    address: SocketAddr,
    started: Instant,
}

impl Relay {
    /// Starts a relay and waits until it listens.
    fn start(command: &[PathBuf], upstream: SocketAddr, core: usize) -> Result<Relay> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let [program, arguments @ ..] = command else { bail!("no command") };
        let child = Command::new(program)
            .args(arguments)
            .args([address.to_string(), upstream.to_string(), core.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", Path::new(program).display()))?;
        let mut relay = Relay { child, address, started: Instant::now() };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = relay.child.try_wait()? {
                let mut said = String::new();
                let stderr = relay.child.stderr.as_mut().expect("piped");
                std::io::Read::read_to_string(stderr, &mut said)?;
                bail!("the relay ends ({status}): {}", said.trim().replace('\n', " "));
            }
            let late = relay.started.elapsed() > Duration::from_secs(10);
            ensure!(!late, "the relay does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(relay)
    }

    fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints medians: a row for each point, a column for each relay.
fn table(results: &Results) {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for sample in &results.samples {
        let row = (&*sample.origin.point, &*sample.unit);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|(point, _)| point.ends_with("seccomp"));
    println!("\n{:38}{}", "median", RELAYS.map(|relay| format!("{relay:>14}")).concat());
    for (point, unit) in rows {
        let cells = RELAYS.map(|relay| {
            let mut values: Vec<f64> = results
                .samples
                .iter()
                .filter(|sample| sample.origin.subject == relay)
                .filter(|sample| sample.origin.point == point && sample.unit == unit)
                .map(|sample| sample.value)
                .collect();
            values.sort_by(f64::total_cmp);
            let median = values.get(values.len() / 2);
            median.map_or(format!("{:>14}", "-"), |value| format!("{value:>14.3}"))
        });
        println!("{:38}{}", format!("{point} {unit}"), cells.concat());
    }
}

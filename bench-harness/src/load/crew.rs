//! The threads of the generator: each opens its share of the connections, all begin at one moment.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use super::dialler::{Dialler, allow_descriptors};
use super::protocol::{Dialect, Protocol};
use super::schedule::{Arrivals, Schedule};
use super::span::{Marks, Span};
use super::tally::Tally;
use super::worker::{Orders, Worker};
use crate::processors::pin;

/// How long after the last thread is ready the run begins, so that all are there in time.
const RUN_UP: Duration = Duration::from_millis(20);

/// What a thread takes to wake by its timer, with some to spare: measured 25 µs, of a hundred the
/// slowest 50 µs, in a virtual machine.
const SPIN_MICROSECONDS: u64 = 30;
/// Requests a second of one thread up to which it counts down: 15 % of its core at most.
const SPIN_RATE_MAX: f64 = 5000.0;

/// Who makes the load, and where to.
#[derive(Clone, Debug, Args)]
pub struct Crew {
    /// Where the server is, as ADDRESS:PORT.
    pub target: SocketAddr,
    /// Connections at a time; one by default, 16 for `connect`, 1000 for a storm, 10000 for `hold`.
    #[arg(long)]
    pub connections: Option<usize>,
    /// Threads of the generator; as many as --cores by default, else one.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Processor cores to pin the threads to, such as `0,2-3`.
    #[arg(long, value_name = "LIST")]
    pub cores: Option<Cores>,
    /// Connect from this address; repeat it when one address has not enough ports.
    #[arg(long, value_name = "ADDRESS")]
    pub source: Vec<IpAddr>,
    /// Write `start` and `end` lines here when measuring begins and is over.
    #[arg(long, value_name = "FILE")]
    pub marks: Option<PathBuf>,
    /// Microseconds before a request is due from which to count down instead of sleeping: sends at the
    /// moment itself instead of some 30 µs after it. By default 30 for rates at which that is a small
    /// share of a core, and none above.
    #[arg(long, value_name = "MICROSECONDS")]
    pub spin: Option<u64>,
}

/// What is sent.
#[derive(Clone, Debug, Args)]
pub struct What {
    /// Bytes of a message, or of the answer that is asked for.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub size: usize,
    /// What is spoken.
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,
    /// Open a connection for each request.
    #[arg(long)]
    pub connection_per_request: bool,
    /// Requests under way on one connection of HTTP/2.
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// What HTTP asks for; by default /bytes/SIZE, which the null server answers.
    #[arg(long)]
    pub path: Option<String>,
    /// The host HTTP asks for; by default the target.
    #[arg(long)]
    pub authority: Option<String>,
}

/// How often.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Again as soon as there is an answer.
    Closed,
    /// As scheduled.
    Open { rate: f64, arrivals: Arrivals, seed: u64 },
}

impl Crew {
    /// The same with another default.
    pub(super) fn or(&self, connections: usize) -> Crew {
        Crew { connections: self.connections.or(Some(connections)), ..self.clone() }
    }

    pub(super) fn connections(&self) -> Result<usize> {
        let connections = self.connections.unwrap_or(1);
        ensure!(connections > 0, "--connections 0: there is nothing to send over");
        Ok(connections)
    }

    /// Opens the connections and makes the load.
    pub(super) fn run(&self, what: &What, pace: Pace, span: Span) -> Result<Tally> {
        let ready = self.prepare(what)?;
        ready.run(pace, span, &Marks(self.marks.clone()))
    }

    /// Opens the connections, with one exchange over each.
    pub(super) fn prepare(&self, what: &What) -> Result<Ready> {
        let total = self.connections()?;
        // A thread without a connection could not keep its part of the schedule.
        let threads = self.threads()?.min(total);
        allow_descriptors(total + threads * 3)?;
        let dialect = what.dialect(self.target)?;
        let dialler = Dialler::new(self.target, &self.source, total)?;
        let mut ready = Ready { threads: Vec::new(), spin: self.spin };
        let (tell, told) = channel();
        for index in 0..threads {
            // The first threads take one more where they do not come out even.
            let connections = (total + threads - 1 - index) / threads;
            let member = Member {
                dialect: dialect.clone(),
                dialler: dialler.nth(index),
                connections,
                core: self.cores.as_ref().map(|cores| cores.0[index % cores.0.len()]),
            };
            let (order, orders) = channel();
            let tell = tell.clone();
            let handle = thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || member.work(&tell, &orders))
                .context("cannot start a thread")?;
            ready.threads.push((order, handle));
        }
        drop(tell);
        for _ in 0..threads {
            told.recv().context("a thread of the generator died")??;
        }
        Ok(ready)
    }

    fn threads(&self) -> Result<usize> {
        let wanted = self.threads.unwrap_or(self.cores.as_ref().map_or(1, |cores| cores.0.len()));
        ensure!(wanted > 0, "--threads 0: at least one thread makes the load");
        Ok(wanted)
    }
}

impl What {
    fn dialect(&self, target: SocketAddr) -> Result<Dialect> {
        let dialect = Dialect {
            protocol: self.protocol,
            size: self.size,
            streams: self.streams,
            authority: self.authority.clone().unwrap_or_else(|| target.to_string()),
            path: self.path.clone().unwrap_or_else(|| format!("/bytes/{}", self.size)),
            is_last: self.connection_per_request,
        };
        dialect.check()?;
        Ok(dialect)
    }
}

/// A crew with open connections, waiting for the word.
pub(super) struct Ready {
    threads: Vec<(Sender<Orders>, JoinHandle<Result<Tally>>)>,
    /// What the user said about counting down.
    spin: Option<u64>,
}

impl Ready {
    /// Makes the load, and waits until it is over.
    pub(super) fn run(self, pace: Pace, span: Span, marks: &Marks) -> Result<Tally> {
        let count = self.threads.len();
        let spin = self.spin(pace, count);
        let origin = Instant::now() + RUN_UP;
        let mut working = Vec::new();
        for (index, (order, handle)) in self.threads.into_iter().enumerate() {
            let schedule = match pace {
                Pace::Closed => None,
                Pace::Open { rate, arrivals, seed } => {
                    Some(Schedule::new(arrivals, rate, index, count, seed))
                }
            };
            order
                .send(Orders { origin, span, schedule, spin })
                .map_err(|_| anyhow!("a thread is gone"))?;
            working.push(handle);
        }
        span.watch(origin, marks, || working.iter().any(JoinHandle::is_finished))?;
        let mut all = Tally::new();
        for handle in working {
            all.add(handle.join().map_err(|_| anyhow!("a thread of the generator panicked"))??);
        }
        Ok(all)
    }

    /// How long before its moment each thread is to be awake.
    fn spin(&self, pace: Pace, threads: usize) -> Duration {
        Duration::from_micros(self.spin.unwrap_or(match pace {
            Pace::Open { rate, .. } if rate <= SPIN_RATE_MAX * threads as f64 => SPIN_MICROSECONDS,
            _ => 0,
        }))
    }
}

/// One thread, before it starts.
struct Member {
    dialect: Dialect,
    dialler: Dialler,
    connections: usize,
    core: Option<usize>,
}

impl Member {
    fn work(self, tell: &Sender<Result<()>>, orders: &Receiver<Orders>) -> Result<Tally> {
        let worker = self.prepare();
        let (worker, outcome) = match worker {
            Ok(worker) => (Some(worker), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Nobody listens any more when another thread has failed before.
        let _ = tell.send(outcome);
        match (worker, orders.recv()) {
            (Some(worker), Ok(orders)) => worker.run(orders),
            _ => bail!("the run was called off"),
        }
    }

    fn prepare(self) -> Result<Worker> {
        if let Some(core) = self.core {
            pin(core)?;
        }
        let mut worker = Worker::new(self.dialler, self.dialect, self.connections)?;
        worker.prepare()?;
        Ok(worker)
    }
}

/// Processor cores by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

impl FromStr for Cores {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Cores> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let mut cores = Vec::new();
        for part in text.split(',') {
            let range = match part.split_once('-') {
                Some((first, last)) => number(first).zip(number(last)),
                None => number(part).map(|core| (core, core)),
            };
            match range {
                Some((first, last)) if first <= last && last < 4096 => cores.extend(first..=last),
                _ => bail!("{part:?} is no core and no range of cores; write `0,2-3`"),
            }
        }
        Ok(Cores(cores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_numbers_and_ranges() {
        for (text, want) in [("0", vec![0]), ("0,2-3", vec![0, 2, 3]), ("5-5, 1", vec![5, 1])] {
            assert_eq!(text.parse::<Cores>().unwrap().0, want, "{text}");
        }
        for text in ["", "a", "3-1", "1,,2", "0-99999999"] {
            assert!(text.parse::<Cores>().unwrap_err().to_string().contains("2-3"), "{text}");
        }
    }
}

//! F10: a proxy that is killed. Its connections end at once, nothing passes in the clear while it is
//! away, and the next one is ready soon although it has a large mesh to read.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::super::trial::Trial;
use crate::mesh::{Format, Mesh};

/// Connections that are open when it dies.
const OPEN: usize = 50;
/// Tries to reach the server while the proxy is away.
const TRIES: u32 = 20;

/// Runs the row.
pub(in super::super) fn kill(trial: &mut Trial<'_>) -> Result<()> {
    let workloads = trial.amount(1_000, 10_000);
    let mesh = Mesh { workloads, services: workloads / 20, hosts: 100, format: Format::Documents };
    let mut documents = Vec::new();
    mesh.write(&mut documents)?;
    let plan = Plan::new(trial.settings).documents(&String::from_utf8(documents)?);
    let mut arena = Arena::start(plan)?;
    let to = arena.address("server", SERVED);
    let mut open = (0..OPEN).map(|_| arena.connect("client", to)).collect::<Result<Vec<_>>>()?;

    arena.a.process.signal(Signal::KILL)?;
    arena.a.process.wait(PATIENCE)?;
    let died = Instant::now();
    let mut ended = 0;
    for stream in &mut open {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        ended += u64::from(!matches!(stream.read(&mut [0; 1]), Err(error) if is_timeout(&error)));
    }
    let last = died.elapsed();
    trial.exactly("open connections ended", ended, "connections", OPEN as u64);
    trial.quickly("the last after", last.as_secs_f64(), "s", 1.0);
    let mut reached = 0;
    for _ in 0..TRIES {
        trial.go_on()?;
        reached += u64::from(arena.ask("client", to).is_ok());
    }
    trial.exactly("reached in the clear meanwhile", reached, "connections", 0);

    let began = Instant::now();
    arena.restart("host-a").context("the next proxy")?;
    trial.quickly("ready again after", began.elapsed().as_secs_f64(), "s", 2.0);
    trial.tell("workloads it knows", f64::from(workloads), "workloads");
    arena.must_work()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

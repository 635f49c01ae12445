//! F11: the wall clock jumps. Certificates are judged by it; everything else does not care.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::super::trial::{Trial, not_run};

/// Where Debian has the library that lies about the time.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Runs the row.
pub(in super::super) fn clock(trial: &mut Trial<'_>) -> Result<()> {
    if !Path::new(LIBRARY).exists() {
        return Err(not_run("libfaketime is not installed; Debian: apt-get install faketime"));
    }
    let time = tempfile::NamedTempFile::new()?;
    fs::write(time.path(), "+0")?;
    let file = time.path().display().to_string();
    let plan = Plan::new(trial.settings)
        .environment("LD_PRELOAD", LIBRARY)
        .environment("FAKETIME_TIMESTAMP_FILE", &file)
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut arena = Arena::start(plan)?;
    for jump in ["+10d", "-10d"] {
        fs::write(time.path(), jump)?;
        trial.sleep(Duration::from_secs(3))?;
        let before = arena.a.processor_time()? + arena.b.processor_time()?;
        let seconds = trial.amount(2, 5);
        trial.sleep(Duration::from_secs(seconds))?;
        let spent = arena.a.processor_time()? + arena.b.processor_time()? - before;
        let cores = spent.as_secs_f64() / seconds as f64;
        trial.quickly(&format!("{jump}: processor at rest"), cores, "cores", 0.05);
        fs::write(time.path(), "+0")?;
        let right = Instant::now();
        while !works(&arena) {
            trial.sleep(Duration::from_millis(100))?;
            ensure!(right.elapsed() < PATIENCE * 2, "the clock is right again, and nothing passes");
        }
        trial.quickly(&format!("{jump}: works after"), right.elapsed().as_secs_f64(), "s", 5.0);
    }
    let panics = [&arena.a, &arena.b].map(|proxy| proxy.process.log().matches("panicked").count());
    trial.exactly("panics", panics.iter().sum::<usize>() as u64, "lines", 0);
    arena.must_work().context("after the clock was set back")
}

/// A pair that has a tunnel, and one that needs a new one.
fn works(arena: &Arena) -> bool {
    arena.ask("client", arena.address("server", SERVED)).is_ok()
        && arena.ask("neighbour", arena.address("server-2", SERVED)).is_ok()
}

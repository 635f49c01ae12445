//! F11: the wall clock jumps. Certificates are judged by it; everything else does not care.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::super::trial::{Trial, not_run};

/// The library that lies about the time to a program with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// Runs the row.
pub(in super::super) fn clock(trial: &mut Trial<'_>) -> Result<()> {
    let library = library().ok_or_else(|| {
        not_run("libfaketime is not here; scripts/get-clients unpacks Debian's package libfaketime")
    })?;
    let time = tempfile::NamedTempFile::new()?;
    fs::write(time.path(), "+0")?;
    let file = time.path().display().to_string();
    let plan = Plan::new(trial.settings)
        .environment("LD_PRELOAD", &library.display().to_string())
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

/// Where Debian puts the library, or beside the programs that `scripts/get-clients` puts on the search path.
fn library() -> Option<PathBuf> {
    let installed = format!("/usr/lib/{}-linux-gnu/faketime", env::consts::ARCH);
    let search_path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&search_path).chain([PathBuf::from(installed)]);
    folders.map(|folder| folder.join(LIBRARY)).find(|library| library.exists())
}

/// A pair that has a tunnel, and one that needs a new one.
fn works(arena: &Arena) -> bool {
    arena.ask("client", arena.address("server", SERVED)).is_ok()
        && arena.ask("neighbour", arena.address("server-2", SERVED)).is_ok()
}

//! U5 and U6: a system that refuses io_uring, and one that grants hardly any locked memory. Ringway
//! starts, says what it took instead, and serves.

use anyhow::{Context, Result};

use super::super::arena::{Arena, Plan};
use super::super::traffic::Load;
use super::super::trial::{Trial, need};

/// Ready within this time, in seconds.
const READY_SECONDS: f64 = 1.0;

/// Runs U5: every way in which the system calls are refused.
pub(in super::super) fn refused(trial: &mut Trial<'_>) -> Result<()> {
    let own = trial.settings.own.display().to_string();
    for error in ["EPERM", "ENOSYS", "EACCES"] {
        let confine = [&own, "confine", "--forbid-io-uring", "--error", error, "--"];
        serve_under(trial, error, &confine, Some("epoll"))?;
    }
    Ok(())
}

/// Runs U6: without the capability to lock what it likes, and little or nothing it may lock.
pub(in super::super) fn memlock(trial: &mut Trial<'_>) -> Result<()> {
    need("setpriv", "util-linux")?;
    need("prlimit", "util-linux")?;
    for (name, bytes) in [("0", 0), ("64 KiB", 65_536), ("1 MiB", 1 << 20), ("8 MiB", 8 << 20)] {
        let limit = format!("--memlock={bytes}:{bytes}");
        let without = ["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
        let wrapper = ["prlimit", &limit, "setpriv", without[0], without[1]];
        serve_under(trial, name, &wrapper, None)?;
    }
    Ok(())
}

/// Starts both proxies under `wrapper` and has them carry requests.
pub(super) fn serve_under(
    trial: &mut Trial<'_>,
    name: &str,
    wrapper: &[&str],
    reactor: Option<&str>,
) -> Result<()> {
    let plan = Plan::new(trial.settings)
        .reactor("auto")
        .wrapped("host-a", wrapper)
        .wrapped("host-b", wrapper);
    let mut arena = Arena::start(plan).with_context(|| format!("with {name}"))?;
    let slowest = arena.a.ready_after().max(arena.b.ready_after()).as_secs_f64();
    trial.quickly(&format!("{name}: ready after"), slowest, "s", READY_SECONDS);
    let load = Load::requests(&arena, trial, ("client", "server"), 200, trial.amount(2.0, 5.0))?;
    let told = load.finish(trial)?;
    trial.exactly(&format!("{name}: requests lost"), told.lost(), "requests", 0);
    trial.at_least(&format!("{name}: requests"), told.number("requests"), "requests", 300.0);
    let log = arena.a.process.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("reactor")).collect();
    if let Some(reactor) = reactor {
        let says = lines.iter().filter(|line| line.contains(reactor)).count() as u64;
        trial.exactly(&format!("{name}: lines that say {reactor}"), says, "lines", 1);
    }
    if let Some(line) = lines.first() {
        let said = line.split('\t').skip(3).collect::<Vec<_>>().join(" ");
        trial.remark(format!("{name}: {said}"));
    }
    arena.must_work()
}

//! L6 and L9: a neighbour that is loud, and a machine that has no time.

use anyhow::Result;

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::traffic::Load;
use super::super::trial::Trial;
use crate::lab::Program;

/// New connections a second in the neighbour's storm: 72,000 a minute.
const STORM: &str = "1200";

/// Runs L6.
pub(in super::super) fn noisy(trial: &mut Trial<'_>) -> Result<()> {
    let seconds = trial.amount(5.0, 20.0);
    let mut arena = Arena::usual(trial)?;
    let victim = |trial: &Trial<'_>, arena: &Arena| {
        Load::requests(arena, trial, ("client", "server"), 200, seconds)
    };
    let quiet = victim(trial, &arena)?.finish(trial)?;
    let target = arena.address("server-2", SERVED).to_string();
    let longer = (seconds + 2.0).to_string();
    let storm =
        ["connect", &target, "--rate", STORM, "--connections", "1000", "--duration", &longer];
    let bulk = ["bulk", &target, "--connections", "4", "--gigabytes", "500"];
    for (name, arguments) in [("storm", &storm[..]), ("elephants", &bulk[..])] {
        let noise = Load::start_yielding(&arena, trial, "neighbour", name, arguments)?;
        let told = victim(trial, &arena)?.finish(trial)?;
        drop(noise);
        trial.exactly(&format!("{name}: requests lost"), told.lost(), "requests", 0);
        let times = told.number("p99_us") / quiet.number("p99_us").max(1.0);
        trial.at_most_times(&format!("{name}: p99 over quiet"), times, 2.0);
        trial.tell(&format!("{name}: p99"), told.number("p99_us"), "us");
    }
    trial.tell("quiet: p99", quiet.number("p99_us"), "us");
    trial.remark(
        "servers and both proxies share the processors of one machine; what makes the noise leaves them to the others",
    );
    arena.must_work()
}

/// Runs L9: as many busy programs as there are processors.
pub(in super::super) fn starved(trial: &mut Trial<'_>) -> Result<()> {
    let seconds = trial.amount(5.0, 20.0);
    let mut arena = Arena::usual(trial)?;
    let load = |trial: &Trial<'_>, arena: &Arena| {
        Load::requests(arena, trial, ("client", "server"), 200, seconds)
    };
    let quiet = load(trial, &arena)?.finish(trial)?;
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let mut busy = Vec::new();
    for number in 0..processors {
        let program = Program::new("sh").arguments(["-c", "while :; do :; done"]);
        busy.push(arena.lab.start("host-a", &format!("busy-{number}"), &program)?);
    }
    let told = load(trial, &arena)?.finish(trial)?;
    for process in &mut busy {
        process.terminate(PATIENCE)?;
    }
    trial.exactly("requests lost", told.lost(), "requests", 0);
    let times = told.number("p99_us") / quiet.number("p99_us").max(1.0);
    trial.at_most_times("p99 over quiet", times, 5.0);
    arena.must_work()
}

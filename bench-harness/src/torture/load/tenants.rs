//! L6 and L9: a neighbour that is loud, and a machine that has no time.

use anyhow::Result;

use super::super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::super::traffic::{Load, Turns};
use super::super::trial::Trial;
use crate::lab::Program;

/// New connections a second in the neighbour's storm: 72,000 a minute.
const STORM: &str = "1200";
/// Whom the neighbour makes noise at.
const NOISY_SERVER: &str = "server-2";

/// Runs L6.
pub(in super::super) fn noisy(trial: &mut Trial<'_>) -> Result<()> {
    let (rounds, seconds) = trial.amount((1, 5.0), (5, 10.0));
    let mut arena = Arena::start(Plan::new(trial.settings).yielding_server(NOISY_SERVER))?;
    let victim = |trial: &Trial<'_>, arena: &Arena| {
        Load::requests(arena, trial, ("client", "server"), 200, seconds)
    };
    let target = arena.address(NOISY_SERVER, SERVED).to_string();
    let longer = (seconds + 2.0).to_string();
    let storm =
        ["connect", &target, "--rate", STORM, "--connections", "1000", "--duration", &longer];
    let bulk = ["bulk", &target, "--connections", "4", "--gigabytes", "500"];
    for (name, arguments) in [("storm", &storm[..]), ("elephants", &bulk[..])] {
        let mut turns = Turns::begin()?;
        for _ in 0..rounds {
            let quiet = victim(trial, &arena)?.finish(trial)?;
            let noise = Load::start_yielding(&arena, trial, "neighbour", name, arguments)?;
            turns.add(&quiet, &victim(trial, &arena)?.finish(trial)?);
            drop(noise);
        }
        trial.exactly(&format!("{name}: requests lost"), turns.lost(), "requests", 0);
        turns.judge(trial, &format!("{name}: p99"), 2.0)?;
    }
    trial.remark(
        "servers and both proxies share the processors of one machine; those who make the noise and who serve it leave \
         them to the others",
    );
    arena.must_work()
}

/// Runs L9: as many busy programs as there are processors.
pub(in super::super) fn starved(trial: &mut Trial<'_>) -> Result<()> {
    let (rounds, seconds) = trial.amount((1, 5.0), (5, 10.0));
    let mut arena = Arena::usual(trial)?;
    let load = |trial: &Trial<'_>, arena: &Arena| {
        Load::requests(arena, trial, ("client", "server"), 200, seconds)
    };
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let mut turns = Turns::begin()?;
    for round in 0..rounds {
        let quiet = load(trial, &arena)?.finish(trial)?;
        let mut busy = Vec::new();
        for number in 0..processors {
            let program = Program::new("sh").arguments(["-c", "while :; do :; done"]);
            busy.push(arena.lab.start("host-a", &format!("busy-{round}-{number}"), &program)?);
        }
        turns.add(&quiet, &load(trial, &arena)?.finish(trial)?);
        for process in &mut busy {
            process.terminate(PATIENCE)?;
        }
    }
    trial.exactly("requests lost", turns.lost(), "requests", 0);
    turns.judge(trial, "p99", 5.0)?;
    arena.must_work()
}

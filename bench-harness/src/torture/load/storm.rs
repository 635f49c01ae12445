//! L2: ten thousand new connections a second through tunnels that are there already.

use anyhow::Result;

use super::super::arena::{Arena, SERVED};
use super::super::traffic::Load;
use super::super::trial::Trial;

/// New connections a second, and for how long.
const RATE: f64 = 10_000.0;
const SECONDS: &str = "10";

/// Runs the row.
pub(in super::super) fn storm(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    let target = arena.address("server", SERVED).to_string();
    let rate = RATE.to_string();
    #[rustfmt::skip]
    let arguments = [
        "connect", &target, "--rate", &rate, "--connections", "2000", "--duration", SECONDS,
        "--warm-up", "1",
    ];
    let told = Load::start(&arena, trial, "client", "storm", &arguments)?.finish(trial)?;
    trial.exactly("connections lost", told.lost(), "connections", 0);
    trial.at_least("achieved", told.number("rate_achieved"), "connections/s", RATE * 0.995);
    trial.quickly("p99", told.number("p99_us") / 1e3, "ms", 25.0);
    trial.quickly("worst", told.number("max_us") / 1e3, "ms", 900.0);
    trial.remark("generator, server and both proxies share the processors of one machine");
    arena.must_work()
}

//! F13: nobody takes the log, or there is no room for it. Traffic does not care; what was not
//! written is counted where somebody waits to read it.

use anyhow::Result;

use super::super::arena::{Arena, Plan};
use super::super::traffic::Load;
use super::super::trial::{Trial, need};

/// How the log is stuck, and the shell that sticks it.
const WAYS: [(&str, &str); 2] = [
    ("disk full", "exec \"$@\" >/dev/full 2>&1"),
    ("pipe stuck", "exec \"$@\" > >(exec sleep 600) 2>&1"),
];

/// Runs the row.
pub(in super::super) fn stuck_log(trial: &mut Trial<'_>) -> Result<()> {
    need("bash", "bash")?;
    let seconds = trial.amount(4.0, 60.0);
    for (way, script) in WAYS {
        let shell = ["bash", "-c", script, "stuck"];
        let plan = Plan::new(trial.settings)
            .log_level("info")
            .wrapped("host-a", &shell)
            .wrapped("host-b", &shell);
        let mut arena = Arena::start(plan)?;
        let target = arena.address("server", super::super::arena::SERVED).to_string();
        let duration = seconds.to_string();
        // A line of the log for each connection, on both sides.
        let arguments =
            ["connect", &target, "--rate", "400", "--duration", &duration, "--connections", "64"];
        let told = Load::start(&arena, trial, "client", "load", &arguments)?.finish(trial)?;
        trial.exactly(&format!("{way}: connections lost"), told.lost(), "connections", 0);
        let made = told.number("requests");
        trial.at_least(&format!("{way}: connections"), made, "connections", seconds * 390.0);
        let lost: f64 = [&arena.a, &arena.b]
            .into_iter()
            .map(|proxy| {
                let metrics = proxy.metrics(&arena.lab)?;
                let sum = |name| metrics.sum(name, &[]);
                Ok(sum("ringway_log_lines_lost_total") + sum("ringway_access_records_lost_total"))
            })
            .sum::<Result<f64>>()?;
        // What is lost must be more than fits into the queue, which is more than a second's worth.
        if way == "pipe stuck" && !trial.settings.short {
            trial.at_least(&format!("{way}: lines lost are counted"), lost, "lines", 1.0);
        } else {
            trial.tell(&format!("{way}: lines lost"), lost, "lines");
        }
        arena.must_work()?;
    }
    Ok(())
}

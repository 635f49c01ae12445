//! A proxy that is replaced by its successor, seen from outside.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::lab::{Process, wait_until};

/// What an old process says when a new one has begun to serve.
const HANDED_OVER: &str = "a new process serves";

/// Asks for a hand-over and waits until the new process serves; from then on `process` is the new one.
/// Returns the old one, which drains.
///
/// # Errors
/// When the old one goes on, or nothing happens; the error holds its log.
pub fn hand_over(process: &mut Process, patience: Duration) -> Result<Process> {
    let before = handed_over(&process.log()).count();
    process.signal(Signal::USR2)?;
    wait_until("a new process serves", patience, || {
        handed_over(&process.log()).count() > before || !process.is_running()
    })
    .with_context(|| process.log())?;
    let log = process.log();
    let line = handed_over(&log).nth(before);
    ensure!(line.is_some(), "the process ended instead of handing over:\n{log}");
    let id = line.and_then(|line| number(line, "pid")).with_context(|| format!("in {log}"))?;
    process.succeeded_by(id)
}

fn handed_over(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains(HANDED_OVER))
}

/// A number in a log line: `name=7` or `"name":7`.
fn number(line: &str, name: &str) -> Option<u32> {
    let after = line.split(name).nth(1)?;
    let digits: String = after
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

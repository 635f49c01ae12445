//! B9: text from outside that ends in the log. It is escaped, and a line has an end.

use std::fs;

use anyhow::Result;

use super::super::arena::{Arena, PATIENCE, Plan};
use super::super::hostile::Hostile;
use super::super::trial::Trial;

/// A line of the log is no longer.
const LINE_BYTES_MAX: f64 = 8.0 * 1024.0;

/// Runs the row.
pub(in super::super) fn sinks(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::start(Plan::new(trial.settings).log_level("debug"))?;
    let client = Hostile::start(&arena, trial, ("stranger", "sinks"), "sinks.py", &[])?;
    let outcome = client.finish(trial, PATIENCE * 4)?;
    trial.at_least("texts", outcome["texts"].as_f64().unwrap_or(0.0), "texts", 100.0);
    arena.must_work()?;
    let log = fs::read(arena.b.process.log_path())?;
    // Columns are separated by tabs.
    let is_raw = |byte: &&u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t');
    trial.exactly("control bytes in the log", log.iter().filter(is_raw).count() as u64, "bytes", 0);
    trial.exactly(
        "log is not UTF-8",
        u64::from(String::from_utf8(log.clone()).is_err()),
        "logs",
        0,
    );
    let longest = log.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
    trial.at_most("longest line", longest as f64, "bytes", LINE_BYTES_MAX);
    let forged = log.windows(6).filter(|window| window == b"forged").count();
    let own_lines = log.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"forged"));
    trial.exactly("forged lines", own_lines.count() as u64, "lines", 0);
    trial.tell("times that the text is logged", forged as f64, "times");
    Ok(())
}

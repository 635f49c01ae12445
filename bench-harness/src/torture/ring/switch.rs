//! U5s: the system's own switch, `kernel.io_uring_disabled`.
//!
//! It is the whole machine's, so the row is run only where that is allowed, and the switch is put back however the row
//! ends.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::super::trial::{Trial, not_run};
use super::refused::serve_under;

const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
/// Says that settings of the whole machine may be changed for some seconds.
const ALLOWED_BY: &str = "TORTURE_SYSCTL";

/// Runs the row.
pub(in super::super) fn switched_off(trial: &mut Trial<'_>) -> Result<()> {
    if !Path::new(SWITCH).exists() {
        return Err(not_run(format!("this kernel has no {SWITCH} (since Linux 6.6)")));
    }
    if std::env::var_os(ALLOWED_BY).is_none() {
        return Err(not_run(format!(
            "it turns io_uring off for the whole machine for some seconds; {ALLOWED_BY}=1 allows it"
        )));
    }
    // Who may enter namespaces, as a node must, is not meant by 1.
    let switch = Switch::set("1")?;
    serve_under(trial, "1", &["env"], Some("io_uring"))?;
    switch.turn("2")?;
    serve_under(trial, "2", &["env"], Some("epoll"))
}

/// The switch while it is not where it was.
struct Switch {
    before: String,
}

impl Switch {
    fn set(value: &str) -> Result<Switch> {
        let switch = Switch { before: fs::read_to_string(SWITCH)? };
        switch.turn(value)?;
        Ok(switch)
    }

    fn turn(&self, value: &str) -> Result<()> {
        fs::write(SWITCH, value).with_context(|| format!("{SWITCH} cannot be written"))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if fs::write(SWITCH, self.before.trim()).is_err() {
            eprintln!("{SWITCH} could not be put back to {}", self.before.trim());
        }
    }
}

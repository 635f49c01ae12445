//! Processors that do not go idle while something is measured.
//!
//! A processor of a virtual machine that has nothing to do is given to other machines and comes back late: on the machines
//! of `results/` up to 45 % of the time in which something wanted to run, for some seconds at a time. One of bare metal falls
//! into a sleep from which it wakes late, for which guides to measuring advise `idle=poll`. This does the same without a
//! restart: a thread on each processor that runs when nobody else wants to (`SCHED_IDLE`), and which the scheduler takes
//! for nobody. Its time is our own, which no account of a proxy has in it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use rustix::thread::gettid;

use crate::processors;

/// Keeps the processors awake until it is dropped.
#[derive(Debug)]
pub struct Awake {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    /// Begins on every processor that may be used.
    ///
    /// # Errors
    /// Where there is no `chrt` (Debian: util-linux), or it may not change how threads are scheduled.
    pub fn begin() -> Result<Awake> {
        let mut awake = Awake { stop: Arc::default(), threads: Vec::new() };
        for processor in processors::usable()? {
            let (stop, (ready, told)) = (awake.stop.clone(), std::sync::mpsc::channel());
            let spin = move || {
                let prepared = processors::pin(processor).and_then(|()| yield_to_all());
                let goes_on = prepared.is_ok();
                // Who waits for it may have gone, after another's error.
                let _ = ready.send(prepared);
                while goes_on && !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            let thread = thread::Builder::new().name(format!("awake-{processor}")).spawn(spin)?;
            awake.threads.push(thread);
            told.recv().context("a thread ended")??;
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

/// Has the calling thread run only when nobody else wants to.
fn yield_to_all() -> Result<()> {
    let thread = gettid().as_raw_nonzero().to_string();
    let output = Command::new("chrt")
        .args(["--idle", "--pid", "0", &thread])
        .output()
        .context("processors are kept awake with chrt; Debian: apt-get install util-linux")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "chrt cannot make a thread idle: {}", why.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_run_when_nobody_else_wants_to_keep_all_processors_awake() {
        let awake = Awake::begin().unwrap();
        assert_eq!(awake.threads.len(), processors::usable().unwrap().len());
        let mut idle = 0;
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            // A thread may have ended since.
            let Ok(name) = std::fs::read_to_string(task.join("comm")) else { continue };
            if !name.starts_with("awake-") {
                continue;
            }
            let stat = std::fs::read_to_string(task.join("stat")).unwrap();
            // The policy is the 41st field (proc_pid_stat(5)), and no name of ours has a parenthesis.
            let after_name = stat.rsplit(')').next().unwrap();
            let policy = after_name.split_whitespace().nth(41 - 3).unwrap();
            assert_eq!(policy, "5", "SCHED_IDLE");
            idle += 1;
        }
        assert_eq!(idle, awake.threads.len());
    }
}

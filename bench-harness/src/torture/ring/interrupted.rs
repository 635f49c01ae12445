//! U7: the ring's system call fails now and then, on a proxy that is carrying traffic.

use std::time::Duration;

use anyhow::Result;

use super::super::Reactor;
use super::super::arena::{Arena, PATIENCE};
use super::super::traffic::Load;
use super::super::trial::{Trial, need, not_run};
use crate::lab::Program;

/// What the kernel may answer without it being anybody's fault. Every so many calls does.
const ERRORS: [&str; 4] = ["EINTR", "EAGAIN", "EBUSY", "ENOMEM"];
const EVERY: u32 = 20;

/// Runs the row.
pub(in super::super) fn interrupted(trial: &mut Trial<'_>) -> Result<()> {
    need("strace", "strace")?;
    let call = match trial.settings.reactor {
        Reactor::Ring => "io_uring_enter",
        Reactor::Epoll => "epoll_pwait2,epoll_wait,epoll_pwait",
    };
    // Waiting on epoll can be interrupted and nothing else.
    let errors = match trial.settings.reactor {
        Reactor::Ring => &ERRORS[..],
        Reactor::Epoll => &ERRORS[..1],
    };
    let mut arena = Arena::usual(trial)?;
    for error in errors {
        let inject = format!("inject={call}:error={error}:when={EVERY}+{EVERY}");
        let id = arena.b.process.id().to_string();
        let trace = format!("trace={call}");
        let strace =
            Program::new("strace").arguments(["-f", "-qq", "-p", &id, "-e", &trace, "-e", &inject]);
        let mut strace = arena.lab.start("host-b", &format!("strace-{error}"), &strace)?;
        trial.sleep(Duration::from_millis(500))?;
        if !strace.is_running() {
            return Err(not_run(format!("strace cannot attach: {}", strace.log().trim())));
        }
        let load =
            Load::requests(&arena, trial, ("client", "server"), 100, trial.amount(3.0, 8.0))?;
        let told = load.finish(trial)?;
        let injected = strace.log().matches("(INJECTED)").count() as f64;
        strace.terminate(PATIENCE)?;
        trial.exactly(&format!("{error}: requests lost"), told.lost(), "requests", 0);
        trial.at_least(&format!("{error}: injected"), injected, "failures", 5.0);
        arena.must_work()?;
    }
    Ok(())
}

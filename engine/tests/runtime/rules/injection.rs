//! U7: errors of `io_uring_enter` in the middle of service lose no request.
//!
//! This program runs itself under strace, which makes calls fail from the hundredth on.

use std::process::Command;
use std::time::Duration;

use ringway_engine::runtime::{ReactorChoice, Runtime, counters, sleep, spawn};

use super::super::children;
use super::super::harness::{Case, Need};
use super::super::support::{dial, echo, listen, read_exact, write_all};

const SAYS_OK: &str = "every request was answered";

pub(crate) fn cases() -> Vec<Case> {
    //    error   of every so many calls
    [("EINTR", 3), ("EAGAIN", 3), ("EBUSY", 3), ("ENOMEM", 7), ("EINTR", 2)]
        .into_iter()
        .map(|(error, step)| {
            let name = format!("rules::u7_{}_of_every_{step}_enters[ring]", error.to_lowercase());
            Case::new(name, move || survives(error, step))
                .needs(Need::Ring)
                .needs(Need::Program("strace"))
        })
        .collect()
}

fn survives(error: &str, step: u32) {
    let (program, role, variable) = children::command("served-under-injection");
    let inject = format!("inject=io_uring_enter:error={error}:when=100+{step}");
    let output = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-e", "trace=io_uring_enter", "-e", &inject])
        .arg(program)
        .env(variable, role)
        .output()
        .expect("strace runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains(SAYS_OK), "{said}{complained}");
    print!("    {}", said);
}

/// The child: connections that come and go, each with requests that must be answered.
pub(crate) fn serve() {
    let (runtime, _) = Runtime::new(ReactorChoice::Ring).expect("a ring");
    runtime.block_on(async {
        let (listener, address) = listen();
        spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a working listener");
                spawn(echo(stream));
            }
        });
        for number in 0..200_u32 {
            let stream = dial(address).await.expect("a connection");
            for request in 0..5_u32 {
                let sent = (number * 5 + request).to_le_bytes();
                write_all(&stream, &sent).await.expect("room");
                let mut back = [0; 4];
                read_exact(&stream, &mut back).await.expect("an answer");
                assert_eq!(back, sent);
            }
            if number % 50 == 0 {
                sleep(Duration::from_millis(3)).await;
            }
        }
        println!("{SAYS_OK}; {} waits were refused", counters().waits_refused);
    });
}

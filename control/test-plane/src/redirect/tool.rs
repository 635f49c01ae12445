//! Runs the system's tools inside a network namespace.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread of its own inside `namespace`.
pub(super) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                .context("cannot enter the pod's network namespace")?;
            Ok(work())
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a tool with `input` in the namespace of the calling thread; what it printed.
pub(super) fn run(tool: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {tool}"))?;
    // A tool that ends early says why on its own.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{tool} refused: {}", complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! Running the system's tools inside a network namespace.
//!
//! A thread enters the namespace and spawns them from there; it ends with the work, so no other code ever runs in the
//! namespace by accident. Every tool gets a deadline. Input and output are files in memory: nothing can fill up and
//! block.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::thread::LinkNameSpaceType;

/// How long a tool may take. `iptables` may have to wait for another user of its lock.
const TOOL_TIMEOUT: Duration = Duration::from_secs(30);

/// Of a tool's complaint, this much is shown.
const COMPLAINT_BYTES_MAX: usize = 1000;

/// Where administration tools live when the search path does not name them, as in a systemd unit or a container.
const FALLBACK_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Why a tool did not do its work.
#[derive(Debug)]
pub enum ToolError {
    /// It is not installed.
    Missing(&'static str),
    /// It could not be started.
    Start(&'static str, io::Error),
    /// It took too long and was ended.
    TimedOut(&'static str),
    /// It refused.
    Failed {
        /// Which tool.
        tool: &'static str,
        /// What it said.
        complaint: String,
    },
}

impl std::fmt::Display for ToolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(tool) => write!(f, "{tool} is not installed"),
            Self::Start(tool, error) => write!(f, "{tool} could not be started: {error}"),
            Self::TimedOut(tool) => {
                write!(f, "{tool} did not finish within {} s", TOOL_TIMEOUT.as_secs())
            }
            Self::Failed { tool, complaint } => write!(f, "{tool} refused: {complaint}"),
        }
    }
}

impl std::error::Error for ToolError {}

/// Runs `work` on a thread inside `namespace`.
///
/// # Errors
/// When the thread cannot be made or the namespace not be entered.
pub(super) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ringway-netns".to_owned());
        let entered = thread.spawn_scoped(scope, || {
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace, kind)?;
            Ok(work())
        })?;
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether `tool` is installed.
pub(crate) fn is_installed(tool: &'static str) -> bool {
    find(tool).is_some()
}

/// Runs `tool` with `input` in the namespace of the calling thread and returns what it printed.
///
/// # Errors
/// [`ToolError`].
pub(super) fn run(
    tool: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, ToolError> {
    let path = find(tool).ok_or(ToolError::Missing(tool))?;
    let start = |error| ToolError::Start(tool, error);
    let stdin = memory_file(input.as_bytes()).map_err(start)?;
    let mut stdout = memory_file(b"").map_err(start)?;
    let mut stderr = memory_file(b"").map_err(start)?;
    let mut child = Command::new(path)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout.try_clone().map_err(start)?))
        .stderr(Stdio::from(stderr.try_clone().map_err(start)?))
        .spawn()
        .map_err(start)?;
    let status = wait(&mut child, tool)?;
    if status.success() {
        return read_all(&mut stdout).map_err(start);
    }
    let complaint = read_all(&mut stderr).map_err(start)?;
    Err(ToolError::Failed { tool, complaint: shorten(&complaint, &status) })
}

fn wait(child: &mut std::process::Child, tool: &'static str) -> Result<ExitStatus, ToolError> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().map_err(|error| ToolError::Start(tool, error))? {
            return Ok(status);
        }
        if started.elapsed() > TOOL_TIMEOUT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(ToolError::TimedOut(tool));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FALLBACK_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(tool))
        .find(|candidate| candidate.is_file())
}

fn memory_file(content: &[u8]) -> io::Result<File> {
    let descriptor = rustix::fs::memfd_create("ringway-tool", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn read_all(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn shorten(complaint: &str, status: &ExitStatus) -> String {
    let mut text = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        return status.to_string();
    }
    if text.len() > COMPLAINT_BYTES_MAX {
        let end = (0..=COMPLAINT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_reads_its_input_and_its_output_comes_back() {
        assert_eq!(run("cat", &[], "one\ntwo\n").unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_large_output_cannot_block() {
        let large = "x".repeat(1 << 20);
        assert_eq!(run("cat", &[], &large).unwrap(), large);
    }

    #[test]
    fn failures_carry_what_the_tool_said() {
        let error = run("sh", &["-c", "echo no such rule >&2; exit 3"], "").unwrap_err();
        assert_eq!(error.to_string(), "sh refused: no such rule");
        let error = run("sh", &["-c", "exit 3"], "").unwrap_err();
        assert_eq!(error.to_string(), "sh refused: exit status: 3");
        let error = run("no-such-tool-anywhere", &[], "").unwrap_err();
        assert_eq!(error.to_string(), "no-such-tool-anywhere is not installed");
    }
}

//! What the kernel says a process costs: processor time and memory, read from outside.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time of all threads that still live, user and system together.
///
/// Taken from the scheduler's own account (`/proc/<pid>/task/*/schedstat`), which counts
/// nanoseconds; `/proc/<pid>/stat` counts hundredths of a second.
pub fn processor_time(id: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    let tasks = fs::read_dir(format!("/proc/{id}/task")).context("the process is gone")?;
    for task in tasks.flatten() {
        // A thread may end between the listing and the reading.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub resident_bytes: u64,
    /// Resident at most so far (`VmHWM`).
    pub peak_bytes: u64,
}

/// Memory of the process `id`.
pub fn memory(id: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).context("the process is gone")?;
    Ok(Memory {
        resident_bytes: status_bytes(&status, "VmRSS:").context("no VmRSS")?,
        peak_bytes: status_bytes(&status, "VmHWM:").context("no VmHWM")?,
    })
}

/// Descriptors the process holds.
pub fn descriptors(id: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{id}/fd")).context("the process is gone")?.count())
}

fn status_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_time_and_memory() {
        let id = std::process::id();
        let memory = memory(id).unwrap();
        assert!(memory.resident_bytes > 100_000 && memory.peak_bytes >= memory.resident_bytes);
        assert!(descriptors(id).unwrap() >= 3);
        let before = processor_time(id).unwrap();
        // Work until the scheduler has noticed, however slow its clock.
        while processor_time(id).unwrap() == before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
    }
}

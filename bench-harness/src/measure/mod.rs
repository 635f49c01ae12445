//! What the kernel says that programs and the machine cost: processor time, memory, wake-ups, energy,
//! read from outside.

mod clock;
mod energy;
mod machine;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

pub use self::clock::{Clock, Cost};
pub use self::energy::Energy;
pub use self::machine::{busy_time, load_average, socket_memory_bytes, sockets, stolen_time};

/// Processor time of all threads that still live, user and system together.
///
/// Taken from the scheduler's own account (`/proc/<pid>/task/*/schedstat`), which counts
/// nanoseconds; `/proc/<pid>/stat` counts hundredths of a second.
pub fn processor_time(id: u32) -> Result<Duration> {
    Ok(thread_times(id)?.into_iter().map(|(_, time)| time).sum())
}

/// Processor time of each thread that still lives, by its id.
fn thread_times(id: u32) -> Result<Vec<(u32, Duration)>> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).context("the process is gone")?;
    let of_task = |task: fs::DirEntry| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        // A thread may end between the listing and the reading.
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds = text.split(' ').next()?.parse().ok()?;
        Some((thread, Duration::from_nanos(nanoseconds)))
    };
    Ok(tasks.flatten().filter_map(of_task).collect())
}

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub resident_bytes: u64,
    /// Resident at most so far (`VmHWM`).
    pub peak_bytes: u64,
    /// Resident now and no file's (`RssAnon`): what the process itself has written, without its program's text.
    pub anonymous_bytes: u64,
    /// Resident now, what several processes share divided among them (`Pss`); 0 where the kernel
    /// does not tell.
    pub proportional_bytes: u64,
}

/// Memory of the process `id`.
pub fn memory(id: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).context("the process is gone")?;
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    Ok(Memory {
        resident_bytes: status_bytes(&status, "VmRSS:").context("no VmRSS")?,
        peak_bytes: status_bytes(&status, "VmHWM:").context("no VmHWM")?,
        anonymous_bytes: status_bytes(&status, "RssAnon:").context("no RssAnon")?,
        proportional_bytes: status_bytes(&rollup, "Pss:").unwrap_or(0),
    })
}

/// How often the threads of a process have gone to sleep and been woken.
pub fn wake_ups(id: u32) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).context("the process is gone")?;
    let of_thread = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    Ok(tasks
        .flatten()
        .filter_map(|task| of_thread(fs::read_to_string(task.path().join("status")).ok()?))
        .sum())
}

/// A process and all that descend from it and still live.
pub fn family(id: u32) -> Vec<u32> {
    let mut all = vec![id];
    let mut next = 0;
    while next < all.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", all[next]));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
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
        let (before, busy) = (processor_time(id).unwrap(), busy_time().unwrap());
        // Work until the scheduler has noticed, however slow its clock.
        while processor_time(id).unwrap() == before || busy_time().unwrap() == busy {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
    }

    #[test]
    fn sleeping_and_children_are_seen() {
        let id = std::process::id();
        let before = wake_ups(id).unwrap();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(wake_ups(id).unwrap() > before);
        assert!(family(id).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

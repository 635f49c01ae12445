//! Which processors there are for us, and which one a thread keeps to.

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Those that this thread may use, by number.
///
/// # Errors
/// Where the kernel does not tell.
pub(crate) fn usable() -> Result<Vec<usize>> {
    let usable = sched_getaffinity(None).context("cannot tell which processors there are")?;
    Ok((0..CpuSet::MAX_CPU).filter(|id| usable.is_set(*id)).collect())
}

/// Binds this thread to one, and the threads and programs it starts from now on.
///
/// # Errors
/// Where there is no such processor, or it may not be used.
pub(crate) fn pin(id: usize) -> Result<()> {
    ensure!(id < CpuSet::MAX_CPU, "there is no core {id}");
    let mut set = CpuSet::new();
    set.set(id);
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot use core {id}: is there one, and is it allowed here?"))
}

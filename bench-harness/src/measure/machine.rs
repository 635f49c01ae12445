//! What the machine as a whole does: everything that runs on its processors, interrupts included.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::Namespace;

/// Time that all processors together spent on anything at all: programs, the kernel, interrupts of
/// either kind. What a hypervisor took away does not count.
pub fn busy_time() -> Result<Duration> {
    // user nice system idle iowait irq softirq steal (proc_stat(5)).
    processors(&[0, 1, 2, 5, 6])
}

/// Time in which a program could have run, had the hypervisor not given the processor to another machine.
pub fn stolen_time() -> Result<Duration> {
    processors(&[7])
}

/// The sum of some fields over all processors.
fn processors(which: &[usize]) -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let first = text.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let fields: Vec<u64> = first
        .context("unexpected /proc/stat")?
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let ticks: u64 = which.iter().filter_map(|index| fields.get(*index)).sum();
    let each = Duration::from_secs(1) / rustix::param::clock_ticks_per_second() as u32;
    Ok(each * u32::try_from(ticks).context("a machine that has run for too long")?)
}

/// Bytes of kernel memory that TCP sockets hold. The kernel keeps one account for all namespaces,
/// so only the difference between two moments means something.
pub fn socket_memory_bytes(namespace: &Namespace) -> Result<u64> {
    let text = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/sockstat"))??;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("no TCP in sockstat")?;
    let pages = line.split_whitespace().skip_while(|word| *word != "mem").nth(1);
    let pages: u64 = pages.context("no mem in sockstat")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// TCP sockets in use in a namespace, of IPv4 and IPv6, whoever holds them.
pub fn sockets(namespace: &Namespace) -> Result<u64> {
    let mut all = 0;
    for (file, start) in [("sockstat", "TCP:"), ("sockstat6", "TCP6:")] {
        let path = format!("/proc/thread-self/net/{file}");
        let text = match namespace.enter(|| fs::read_to_string(path))? {
            // A kernel without IPv6.
            Err(_) if file == "sockstat6" => continue,
            text => text?,
        };
        let line = text.lines().find(|line| line.starts_with(start)).context("no TCP in it")?;
        let sockets = line.split_whitespace().skip_while(|word| *word != "inuse").nth(1);
        all += sockets.context("no inuse in it")?.parse::<u64>()?;
    }
    Ok(all)
}

/// The load of the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

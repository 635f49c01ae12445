//! Whether the process may have as much memory as it needs to start and to serve.
//!
//! A thread that finds no room for its signal stack ends the whole process by a signal, and says nothing of limits: that
//! is how the standard library starts threads. So what is needed is known beforehand (`enough`), and a thread that
//! fails all the same later ends the process in order (`end_if_short`).

use std::fmt;

use ringway_engine::limits::{SHARD_MEMORY_BYTES, START_MEMORY_BYTES};
use rustix::process::{Resource, getrlimit};

use super::cores::cores_of;
use crate::source::NodeConfig;

/// The system gives no more memory: `EX_OSERR` of `sysexits.h`.
pub const EXIT: u8 = 71;

/// Memory is limited to less than is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    limit: &'static Limit,
    allowed: u64,
    /// What the program has already, before it has done anything.
    has: u64,
    shards: u64,
}

/// A limit of a process, and where `/proc` tells what counts against it.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    name: &'static str,
    resource: Resource,
    field: &'static str,
    what: &'static str,
    /// How to raise it: systemd's name, and the option of the shell's `ulimit`.
    raised_by: (&'static str, &'static str),
}

const LIMITS: [Limit; 2] = [
    Limit {
        name: "RLIMIT_AS",
        resource: Resource::As,
        field: "VmSize",
        what: "address space",
        raised_by: ("LimitAS=", "-v"),
    },
    Limit {
        name: "RLIMIT_DATA",
        resource: Resource::Data,
        field: "VmData",
        what: "data",
        raised_by: ("LimitDATA=", "-d"),
    },
];

/// Whether a node of this configuration may have what it needs. Call it while there is one thread.
///
/// # Errors
/// Where it may not, with what to allow.
pub(super) fn enough(node: &NodeConfig) -> Result<(), Shortage> {
    let shards = cores_of(&node.cores).len() as u64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = |limit: &Limit| getrlimit(limit.resource).current;
    match shortage(&status, shards, allowed) {
        Some(shortage) => Err(shortage),
        None => Ok(()),
    }
}

fn shortage(
    status: &str,
    shards: u64,
    allowed: impl Fn(&Limit) -> Option<u64>,
) -> Option<Shortage> {
    LIMITS.iter().find_map(|limit| {
        let has = bytes_of(status, limit.field)?;
        let shortage = Shortage { limit, allowed: allowed(limit)?, has, shards };
        (shortage.allowed < shortage.needed()).then_some(shortage)
    })
}

impl Shortage {
    fn needed(&self) -> u64 {
        self.has + START_MEMORY_BYTES + self.shards * SHARD_MEMORY_BYTES
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, allowed, has, shards } = self;
        let Limit { name, what, raised_by: (unit, shell), .. } = limit;
        write!(
            f,
            "{name} allows this process {} MiB of {what}, and it needs {}: {} for the program, {} to start, {} for each \
             of {shards} shards; allow it more (`{unit}` of its unit, `ulimit {shell}`), or give it fewer `cores`",
            allowed >> 20,
            self.needed().div_ceil(1 << 20),
            has.div_ceil(1 << 20),
            START_MEMORY_BYTES >> 20,
            SHARD_MEMORY_BYTES >> 20,
        )
    }
}

fn bytes_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Ends the process with a line, when a thread has panicked with this message because there was no memory for it: what
/// it was to do nobody does now, and what follows such a panic is a signal.
pub(super) fn end_if_short(message: &str) {
    if is_shortage(message) {
        eprintln!(
            "ringway: the system gives no more memory to a new thread, so the process ends; allow it more, or lower the \
             limits of the configuration"
        );
        std::process::exit(EXIT.into());
    }
}

/// What the standard library and tokio say of threads for which there is no memory.
fn is_shortage(message: &str) -> bool {
    let begins = [
        "failed to allocate an alternative stack",
        "failed to set up alternative stack guard page",
        "OS can't spawn worker thread",
    ];
    begins.iter().any(|begin| message.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tringway\nVmPeak:\t  999 kB\nVmSize:\t   20480 kB\nVmData:\t    1024 kB\n";

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        //  name                 shards  RLIMIT_AS         RLIMIT_DATA  wanted
        type Row = (&'static str, u64, Option<u64>, Option<u64>, Option<&'static str>);
        let need = START_MEMORY_BYTES + 2 * SHARD_MEMORY_BYTES;
        let rows: [Row; 6] = [
            ("no limits", 2, None, None, None),
            ("just enough addresses", 2, Some(need + (20 << 20)), None, None),
            ("a byte less", 2, Some(need + (20 << 20) - 1), None, Some("RLIMIT_AS")),
            ("enough for fewer shards", 3, Some(need + (20 << 20)), None, Some("RLIMIT_AS")),
            ("just enough data", 2, None, Some(need + (1 << 20)), None),
            ("too little data", 2, Some(1 << 40), Some(need), Some("RLIMIT_DATA")),
        ];
        for (name, shards, addresses, data, want) in rows {
            let allowed = |limit: &Limit| match limit.name {
                "RLIMIT_AS" => addresses,
                _ => data,
            };
            let found = shortage(STATUS, shards, allowed);
            assert_eq!(found.map(|shortage| shortage.limit.name), want, "{name}");
            let Some(said) = found.map(|shortage| shortage.to_string()) else { continue };
            let needed = format!("it needs {}", found.unwrap().needed().div_ceil(1 << 20));
            assert!(said.contains(&needed) && said.contains("ulimit -"), "{name}: {said}");
        }
    }

    #[test]
    fn a_panic_for_want_of_memory_is_known() {
        assert!(is_shortage("failed to allocate an alternative stack: Cannot allocate memory"));
        assert!(is_shortage("OS can't spawn worker thread: Resource temporarily unavailable"));
        assert!(!is_shortage("index out of bounds: the len is 3 but the index is 7"));
    }

    #[test]
    fn this_process_says_what_it_has() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        for limit in &LIMITS {
            assert!(bytes_of(&status, limit.field).unwrap() > 0, "{}", limit.name);
        }
        assert_eq!(bytes_of("VmSize:\t12 MB\n", "VmSize"), None);
    }
}

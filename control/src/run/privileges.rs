//! What the process is allowed: capabilities it needs, and descriptors it may open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A capability this program uses, with its bit and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// As `man 7 capabilities` calls it.
    pub name: &'static str,
    /// What for.
    pub purpose: &'static str,
    bit: u8,
}

/// Packet marks, transparent sockets, redirect rules.
pub const NET_ADMIN: Capability = Capability {
    name: "CAP_NET_ADMIN",
    purpose: "to mark packets and install redirect rules",
    bit: 12,
};

/// Entering other network namespaces.
pub const SYS_ADMIN: Capability = Capability {
    name: "CAP_SYS_ADMIN",
    purpose: "to enter the network namespaces of workloads",
    bit: 21,
};

/// Those of `needed` this process does not have; all of them if that cannot be found out.
pub fn missing(needed: &[Capability]) -> Vec<Capability> {
    let effective = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective_of(&status))
        .unwrap_or(0);
    needed.iter().filter(|capability| effective & 1 << capability.bit == 0).copied().collect()
}

/// Raises the number of descriptors this process may open to the highest it may choose. Returns it.
///
/// # Errors
/// When the system refuses; the old bound then stays.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

fn effective_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        let status = "Name:\tringway\nCapPrm:\t0000000000000000\nCapEff:\t0000000000201000\n";
        let effective = effective_of(status).unwrap();
        assert_ne!(effective & 1 << NET_ADMIN.bit, 0);
        assert_ne!(effective & 1 << SYS_ADMIN.bit, 0);
        assert_eq!(effective & 1, 0);
        assert_eq!(effective_of("Name:\tx\n"), None);
        assert_eq!(effective_of("CapEff:\tzz\n"), None);
    }

    #[test]
    fn the_descriptor_limit_ends_at_its_maximum() {
        let raised = raise_descriptor_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), raised);
    }
}

//! Which capabilities a node keeps.
//!
//! Always: what captures connections (NET_ADMIN, and SYS_ADMIN to enter namespaces). The others depend on the
//! configuration, and on whether its files can be reached without them: that is tried, not guessed.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

use super::Places;
use crate::redirect::tool_is_installed;
use crate::source::{Mode, NodeConfig, Redirect};

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keep(CapabilitySet);

/// What is kept, and why it is more than one would expect.
pub(super) struct Kept {
    pub(super) sets: CapabilitySet,
    pub(super) notes: Vec<String>,
}

impl Keep {
    /// What a node of this configuration needs in any case.
    pub(super) fn of(node: &NodeConfig) -> Self {
        let mut set = CapabilitySet::NET_ADMIN;
        // Also who lives in the workload's namespace enters it, to run the tools that make the rules.
        if node.mode == Mode::Shared || node.redirect != Redirect::None {
            set |= CapabilitySet::SYS_ADMIN;
        }
        let iptables = match node.redirect {
            Redirect::Iptables => true,
            Redirect::Auto => !tool_is_installed("nft"),
            Redirect::Nftables | Redirect::None => false,
        };
        if iptables {
            // The older iptables speaks through a raw socket.
            set |= CapabilitySet::NET_RAW;
        }
        let listen = [node.listen.admin, node.listen.metrics, node.listen.readiness];
        let own = listen.into_iter().flatten().map(|address| address.port());
        let ports = [node.ports.outbound, node.ports.inbound, node.ports.tunnel];
        if own.chain(ports).any(|port| port < 1024) {
            set |= CapabilitySet::NET_BIND_SERVICE;
        }
        Self(set)
    }

    /// The set itself.
    #[cfg(test)]
    pub(super) fn set(self) -> CapabilitySet {
        self.0
    }
}

/// What is kept of what this process has.
pub(super) fn keep(keep: &Keep, places: &Places) -> Kept {
    let Ok(have) = capabilities(None) else {
        return Kept { sets: CapabilitySet::empty(), notes: Vec::new() };
    };
    let low_ports = match places.low_ports {
        true => CapabilitySet::NET_BIND_SERVICE,
        false => CapabilitySet::empty(),
    };
    let mut sets = (keep.0 | low_ports) & have.permitted;
    let mut notes = Vec::new();
    if have.permitted.contains(CapabilitySet::IPC_LOCK) && !lock_without_limit() {
        sets |= CapabilitySet::IPC_LOCK;
        notes.push("IPC_LOCK is kept, rings need more locked memory than is allowed".to_owned());
    }
    // Tried without what overrides the modes of files, and as narrowly given back as will do.
    let overrides = [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE];
    for candidate in overrides {
        let Some(out_of_reach) = with_effective(&have, sets, || unreachable(places)) else {
            break;
        };
        let with = sets | (candidate & have.permitted);
        let helps =
            with_effective(&have, with, || unreachable(places)).as_ref() != Some(&out_of_reach);
        if helps {
            sets = with;
            notes.push(format!(
                "{} is kept, {out_of_reach} is out of reach without",
                names(candidate)
            ));
        }
    }
    let processes = places.read.iter().any(|path| path.starts_with("/proc"));
    if processes {
        sets |= CapabilitySet::SYS_PTRACE & have.permitted;
        notes.push("SYS_PTRACE is kept, a namespace is named by a process".to_owned());
    }
    Kept { sets, notes }
}

/// What a shard needs of that: marks and transparent sockets, and to enter namespaces.
pub(super) fn of_shards(kept: CapabilitySet) -> CapabilitySet {
    kept & (CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN | CapabilitySet::NET_BIND_SERVICE)
}

/// Gives up every capability but these, and the possibility to get them back.
pub(super) fn restrict(kept: CapabilitySet) -> io::Result<()> {
    let have = capabilities(None)?;
    if have.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if kept.contains(one) {
                continue;
            }
            match remove_capability_from_bounding_set(one) {
                // Not a capability of this kernel: there are no higher ones.
                Err(io::Errno::INVAL) => break,
                removed => removed?,
            }
        }
    }
    restrict_thread(kept)
}

/// The same for this thread only, its bounding set excluded.
pub(super) fn restrict_thread(kept: CapabilitySet) -> io::Result<()> {
    let have = capabilities(None)?;
    let sets = CapabilitySets {
        effective: have.effective & kept,
        permitted: have.permitted & kept,
        inheritable: have.inheritable & kept,
    };
    set_capabilities(None, sets)
}

/// `NET_ADMIN+SYS_ADMIN`, or `none`.
pub(super) fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join("+") }
}

/// Whether memory may be locked without limit: then what rings lock is not counted.
fn lock_without_limit() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    getrlimit(Resource::Memlock) == unlimited || setrlimit(Resource::Memlock, unlimited).is_ok()
}

/// Does `work` as this process would with these capabilities.
fn with_effective<T>(have: &CapabilitySets, set: CapabilitySet, work: impl FnOnce() -> T) -> T {
    let lowered = CapabilitySets { effective: set & have.permitted, ..*have };
    // What cannot be lowered makes everything look reachable, and is then kept out all the same: later errors say so.
    let _ = set_capabilities(None, lowered);
    let outcome = work();
    let _ = set_capabilities(None, *have);
    outcome
}

/// The first place that cannot be reached now.
fn unreachable(places: &Places) -> Option<String> {
    let allows = |path: &Path, access| {
        accessat(CWD, path, access, AtFlags::EACCESS) != Err(io::Errno::ACCESS)
    };
    let read = places.read.iter().find(|path| !allows(path, Access::READ_OK));
    let written = places.written.iter().find(|path| {
        // Of what is not there yet, the directory that will hold it.
        let there = path.ancestors().find(|path| path.exists() || is_hidden(path));
        there.is_some_and(|path| {
            let enter = if path.is_file() { Access::empty() } else { Access::EXEC_OK };
            !allows(path, Access::READ_OK | Access::WRITE_OK | enter)
        })
    });
    read.or(written).map(|path| path.display().to_string())
}

/// Whether a directory above keeps us from seeing if it is there.
fn is_hidden(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever may enter the directory need not be allowed to read the key in it.
    #[test]
    fn files_are_looked_at_and_not_their_directories_only() {
        use std::os::unix::fs::PermissionsExt;

        let Ok(have) = capabilities(None) else { return };
        if !have.permitted.contains(CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN) {
            eprintln!("not tried: this needs a user who may read everything");
            return;
        }
        let home = tempfile::TempDir::new().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let key = home.path().join("root-key.pem");
        std::fs::write(&key, "").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&key, Some(12_345), Some(12_345)).unwrap();
        let places = |written: Vec<std::path::PathBuf>| Places { written, ..Places::default() };
        // Capabilities are a thread's own: the other tests keep theirs.
        let kept = |places: &Places| keep(&Keep(CapabilitySet::NET_ADMIN), places).sets;
        let overrides = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        let directory_only = kept(&places(vec![home.path().to_owned()]));
        assert!(!directory_only.intersects(overrides), "{}", names(directory_only));
        let with_file = kept(&places(vec![home.path().to_owned(), key]));
        assert!(with_file.contains(CapabilitySet::DAC_OVERRIDE), "{}", names(with_file));
    }

    #[test]
    fn the_configuration_says_what_is_kept() {
        let base = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
        let node = NodeConfig { redirect: Redirect::Nftables, ..NodeConfig::default() };
        assert_eq!(Keep::of(&node), Keep(base));
        let iptables = NodeConfig { redirect: Redirect::Iptables, ..node.clone() };
        assert_eq!(Keep::of(&iptables), Keep(base | CapabilitySet::NET_RAW));
        let mut low = node.clone();
        low.listen.metrics = Some(([127, 0, 0, 1], 80).into());
        assert_eq!(Keep::of(&low), Keep(base | CapabilitySet::NET_BIND_SERVICE));
        let dedicated = NodeConfig { mode: Mode::Dedicated, redirect: Redirect::None, ..node };
        assert_eq!(Keep::of(&dedicated), Keep(CapabilitySet::NET_ADMIN));
        assert_eq!(of_shards(CapabilitySet::all()), base | CapabilitySet::NET_BIND_SERVICE);
        assert_eq!(names(base), "NET_ADMIN+SYS_ADMIN");
        assert_eq!(names(CapabilitySet::empty()), "none");
    }
}

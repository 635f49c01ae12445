//! Which namespaces have our rules: written down, so that a start after a kill finds those it no longer serves.
//!
//! A file of a few lines in the state directory. It is a help, not a truth: a namespace that is enrolled again is
//! taken over without it, and one whose file changed identity since is left alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Namespaces in one ledger; far above the pods a host can run.
const ENTRIES_MAX: usize = 4096;

/// A ledger is smaller than this, or it is not one.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Which of two namespaces it is: the device and inode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceFile {
    device: u64,
    inode: u64,
}

/// One namespace with rules of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Where it can be opened.
    pub path: PathBuf,
    /// Which one it was.
    pub file: NamespaceFile,
}

/// The namespaces that have our rules, by workload.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    entries: BTreeMap<String, LedgerEntry>,
}

impl NamespaceFile {
    /// Identifies the namespace at `path`.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Ledger {
    /// Reads the ledger; a missing or unreadable one is empty.
    pub fn open(file: &Path) -> Self {
        let entries = read(file).unwrap_or_default();
        Self { file: file.to_owned(), entries }
    }

    /// Whether the ledger at `file` names nothing that is still there. One that cannot be read is left alone.
    pub fn is_stale(file: &Path) -> bool {
        let is_there =
            |entry: &LedgerEntry| NamespaceFile::at(&entry.path).ok() == Some(entry.file);
        read(file).is_some_and(|entries| !entries.values().any(is_there))
    }

    /// Notes that rules are about to go into `path`.
    ///
    /// # Errors
    /// When the ledger cannot be written, or `path` is not there.
    pub fn record(&mut self, uid: &str, path: &Path) -> io::Result<()> {
        let file = NamespaceFile::at(path)?;
        if self.entries.len() >= ENTRIES_MAX {
            return Err(io::Error::other("too many namespaces"));
        }
        self.entries.insert(uid.to_owned(), LedgerEntry { path: path.to_owned(), file });
        self.write()
    }

    /// Notes that the rules of `uid` are gone.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn forget(&mut self, uid: &str) -> io::Result<()> {
        match self.entries.remove(uid) {
            Some(_) => self.write(),
            None => Ok(()),
        }
    }

    /// What an earlier process left and the workloads `kept` do not take over, as far as it is still the same.
    pub fn leftovers(&self, kept: impl Fn(&str) -> bool) -> Vec<(String, PathBuf)> {
        let left = self.entries.iter().filter(|(uid, _)| !kept(uid));
        left.filter(|(_, entry)| NamespaceFile::at(&entry.path).ok() == Some(entry.file))
            .map(|(uid, entry)| (uid.clone(), entry.path.clone()))
            .collect()
    }

    /// Forgets whatever `kept` does not hold.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn retain(&mut self, kept: impl Fn(&str) -> bool) -> io::Result<()> {
        let before = self.entries.len();
        self.entries.retain(|uid, _| kept(uid));
        if self.entries.len() == before { Ok(()) } else { self.write() }
    }

    /// Written whole or not at all; not synced, as nothing of it outlives a reboot.
    fn write(&self) -> io::Result<()> {
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory)?;
        }
        let temporary = self.file.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&self.entries)?)?;
        drop(file);
        fs::rename(&temporary, &self.file)
    }
}

fn read(file: &Path) -> Option<BTreeMap<String, LedgerEntry>> {
    if fs::metadata(file).ok()?.len() > FILE_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_found_by_the_next_process_if_it_is_still_the_same() {
        let home = tempfile::TempDir::new().unwrap();
        let file = home.path().join("run").join("redirects.json");
        let namespace = |name: &str| {
            let path = home.path().join(name);
            fs::write(&path, name).unwrap();
            path
        };
        let mut ledger = Ledger::open(&file);
        for name in ["kept", "left", "replaced", "gone", "forgotten"] {
            ledger.record(name, &namespace(name)).unwrap();
        }
        ledger.forget("forgotten").unwrap();
        // The new file exists before the old one goes: its inode cannot be the same.
        fs::write(home.path().join("new"), "").unwrap();
        fs::rename(home.path().join("new"), home.path().join("replaced")).unwrap();
        fs::remove_file(home.path().join("gone")).unwrap();

        assert!(!Ledger::is_stale(&file), "some are there still");
        let mut next = Ledger::open(&file);
        let left = next.leftovers(|uid| uid == "kept");
        assert_eq!(left, [("left".to_owned(), home.path().join("left"))]);
        next.retain(|uid| uid == "kept").unwrap();
        assert_eq!(Ledger::open(&file).entries.keys().collect::<Vec<_>>(), ["kept"]);
        fs::remove_file(home.path().join("kept")).unwrap();
        assert!(Ledger::is_stale(&file));
    }

    #[test]
    fn a_broken_ledger_is_an_empty_one() {
        let home = tempfile::TempDir::new().unwrap();
        let file = home.path().join("redirects.json");
        fs::write(&file, "{").unwrap();
        assert!(Ledger::open(&file).leftovers(|_| false).is_empty());
    }

    #[test]
    fn a_namespace_that_is_not_there_is_not_recorded() {
        let home = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(&home.path().join("redirects.json"));
        assert!(ledger.record("a", &home.path().join("nothing")).is_err());
        assert!(ledger.leftovers(|_| false).is_empty());
    }
}

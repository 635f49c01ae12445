//! What a node keeps in the state directory: a file of each kind for each node in each network namespace, because several
//! may run on one machine.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Which namespaces have rules of ours.
    Ledger,
    /// Where a hand-over is asked for.
    Control,
}

impl Kind {
    fn start(self) -> &'static str {
        match self {
            Self::Ledger => "redirects-",
            Self::Control => "control-",
        }
    }

    fn end(self) -> &'static str {
        match self {
            Self::Ledger => ".json",
            Self::Control => ".sock",
        }
    }

    /// The file of the node called `node` in the network namespace of this thread.
    ///
    /// # Errors
    /// Without `/proc`.
    pub(crate) fn path(self, directory: &Path, node: &str) -> io::Result<PathBuf> {
        let (node, place) = (node.replace('/', "_"), own_namespace()?);
        Ok(directory.join(format!("{}{node}-{place}{}", self.start(), self.end())))
    }

    /// The files of all nodes in the network namespace of this thread.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn here(self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let end = format!("-{}{}", own_namespace()?, self.end());
        let mut files = self.all(directory)?;
        files.retain(|(name, _)| name.ends_with(&end));
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }

    /// The files of all nodes, with their names.
    fn all(self, directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
        let mut files = Vec::new();
        for entry in directory.read_dir()? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(self.start()) && name.ends_with(self.end()) {
                files.push((name.to_owned(), path));
            }
        }
        Ok(files)
    }
}

fn own_namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Removes what nodes have left that were killed and will not come back: those nobody listens for, and whose ledger, if
/// there is one, names nothing that is still there, as `is_stale` tells.
pub(crate) fn remove_stale(
    directory: &Path,
    keep: &Path,
    is_stale: impl Fn(&Path) -> bool,
) -> io::Result<usize> {
    let mut removed = 0;
    for (name, ledger) in Kind::Ledger.all(directory)? {
        let of_node = &name[Kind::Ledger.start().len()..name.len() - Kind::Ledger.end().len()];
        let control =
            directory.join(format!("{}{of_node}{}", Kind::Control.start(), Kind::Control.end()));
        if ledger == keep || UnixStream::connect(&control).is_ok() || !is_stale(&ledger) {
            continue;
        }
        std::fs::remove_file(&ledger)?;
        // One that is not there was removed in order.
        let _ = std::fs::remove_file(&control);
        removed += 1;
    }
    for (name, control) in Kind::Control.all(directory)? {
        let of_node = &name[Kind::Control.start().len()..name.len() - Kind::Control.end().len()];
        let ledger = format!("{}{of_node}{}", Kind::Ledger.start(), Kind::Ledger.end());
        let refused = UnixStream::connect(&control)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused && !directory.join(ledger).exists() {
            std::fs::remove_file(&control)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_nobody_needs_goes_and_nothing_else() {
        let home = tempfile::TempDir::new().unwrap();
        let place = |name: &str| home.path().join(name);
        let own = Kind::Ledger.path(home.path(), "own/node").unwrap();
        for ledger in [
            "redirects-dead-1.json",
            "redirects-lives-2.json",
            "redirects-rules-3.json",
            "other-4.json",
        ] {
            std::fs::write(place(ledger), "{}").unwrap();
        }
        std::fs::write(&own, "{}").unwrap();
        for dead in ["control-dead-1.sock", "control-alone-5.sock"] {
            drop(UnixListener::bind(place(dead)).unwrap());
        }
        let _lives = UnixListener::bind(place("control-lives-2.sock")).unwrap();
        let is_stale = |ledger: &Path| !ledger.to_string_lossy().contains("rules");
        assert_eq!(remove_stale(home.path(), &own, is_stale).unwrap(), 2);
        let mut left: Vec<_> = home
            .path()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != own)
            .collect();
        left.sort();
        let names = [
            "control-lives-2.sock",
            "other-4.json",
            "redirects-lives-2.json",
            "redirects-rules-3.json",
        ];
        assert_eq!(left, names.map(place));
        assert_eq!(Kind::Ledger.here(home.path()).unwrap(), [own]);
    }
}

//! The revocation lists of a running node: read at the start, watched from then on.

use std::path::PathBuf;
use std::sync::Arc;

use ringway_protocols::tls::RevocationLists;

use super::error::RunError;
use crate::identity::{RevocationError, RevocationFiles};
use crate::source::{Source, Watcher};

/// The files, and who tells when one has changed.
pub(super) struct Revocation {
    files: RevocationFiles,
    watcher: Watcher,
}

impl Revocation {
    /// Reads the lists. A node that was told to obey a list does not start without it.
    pub(super) fn open(
        published: Option<PathBuf>,
        configured: &[PathBuf],
    ) -> Result<Self, RunError> {
        // Watched before they are read, so that what changes in between is not missed.
        let paths = configured.iter().chain(&published);
        let watcher = watch(paths.cloned()).map_err(RunError::System)?;
        let files = RevocationFiles::open(published, configured).map_err(RunError::Revocation)?;
        Ok(Self { files, watcher })
    }

    /// The same in ztunnel's place, which starts without a list that is missing or cannot be read, and says so. The file
    /// is watched: once it can be used, it is.
    pub(super) fn open_forgiving(
        published: Option<PathBuf>,
        configured: &[PathBuf],
    ) -> Result<Self, RunError> {
        let paths = configured.iter().chain(&published);
        let watcher = watch(paths.cloned()).map_err(RunError::System)?;
        let (files, error) = RevocationFiles::open_forgiving(published, configured);
        if let Some(error) = error {
            tracing::warn!(%error, "no certificate is held against it until that is mended");
        }
        Ok(Self { files, watcher })
    }

    /// Waits until a file has changed. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
        self.watcher.changed().await;
    }

    /// Other files from now on.
    pub(super) fn configure(&mut self, configured: &[PathBuf]) {
        self.files.configure(configured);
        match watch(self.files.paths()) {
            Ok(watcher) => self.watcher = watcher,
            Err(error) => {
                tracing::error!(%error, "the revocation lists are not watched: reload when they change");
            }
        }
    }

    /// Reads them again. `true`: there is something new.
    pub(super) fn refresh(&mut self) -> Result<bool, RevocationError> {
        self.files.refresh()
    }

    pub(super) fn lists(&self) -> &Arc<RevocationLists> {
        self.files.lists()
    }
}

fn watch(paths: impl IntoIterator<Item = PathBuf>) -> std::io::Result<Watcher> {
    let sources: Vec<Source> = paths.into_iter().map(Source::Path).collect();
    Watcher::new(&sources)
}

//! A snapshot of which can be seen whether it is whole, and who frees it.

use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// See the module's text.
pub(crate) struct Snapshot {
    /// Written without any order of its own before it is published.
    contents: AtomicUsize,
}

impl Snapshot {
    pub(crate) fn new(number: usize) -> Self {
        let snapshot = Self { contents: AtomicUsize::new(0) };
        snapshot.contents.store(number, Relaxed);
        snapshot
    }

    pub(crate) fn number(&self) -> usize {
        self.contents.load(Relaxed)
    }
}

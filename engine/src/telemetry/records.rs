//! Records on their way from the shards to whoever writes them: a bounded queue that never makes a shard wait.

use crate::sync::{
    ArrayQueue,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// See the module's text.
pub(crate) struct Records<T> {
    // Boxed: the queue's slots are all there from the start.
    waiting: ArrayQueue<Box<T>>,
    lost: AtomicU64,
}

impl<T> Records<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { waiting: ArrayQueue::new(most), lost: AtomicU64::new(0) }
    }

    /// Leaves a record to be taken. Above the bound it is lost, and counted.
    pub(crate) fn leave(&self, record: T) {
        if self.waiting.push(Box::new(record)).is_err() {
            self.lose();
        }
    }

    /// Counts a record that was not left.
    pub(crate) fn lose(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    /// The oldest that nobody has taken yet.
    pub(crate) fn take(&self) -> Option<T> {
        self.waiting.pop().map(|record| *record)
    }

    /// Those that were lost because nobody took them in time.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

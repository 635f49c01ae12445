//! Streams to one destination, counted by all shards.

use crate::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// How many streams a destination has, at most 255: then it is as busy as it gets.
#[derive(Default)]
pub(crate) struct StreamCount(AtomicU8);

impl StreamCount {
    pub(crate) fn get(&self) -> u8 {
        self.0.load(Relaxed)
    }

    /// Counts one more; `false` when it cannot be counted, and must not be uncounted then.
    pub(crate) fn add(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |streams| streams.checked_add(1)).is_ok()
    }

    /// Counts one less that was counted.
    pub(crate) fn remove(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

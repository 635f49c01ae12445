//! Tells whether a stream moves bulk, so that small ones are not put beside it.

use std::{cell::Cell, time::Instant};

use crate::limits::{BULK_BYTES, BULK_WINDOW};

/// Bytes one stream moved in the current window.
#[derive(Default)]
pub(super) struct BulkMeter {
    window_start: Cell<Option<Instant>>,
    bytes: Cell<u64>,
}

impl BulkMeter {
    /// Counts bytes that moved; returns whether the stream moves bulk.
    pub(super) fn moved(&self, bytes: usize, now: Instant) -> bool {
        let fresh = self.window_start.get().is_none_or(|start| now >= start + BULK_WINDOW);
        if fresh {
            self.window_start.set(Some(now));
            self.bytes.set(0);
        }
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.bytes.get() >= BULK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stream_is_bulk_by_what_it_moves_in_one_window() {
        let start = Instant::now();
        let meter = BulkMeter::default();
        let almost = BULK_BYTES as usize - 1;
        assert!(!meter.moved(almost, start));
        assert!(meter.moved(1, start + Duration::from_millis(99)));
        assert!(!meter.moved(almost, start + BULK_WINDOW), "a new window starts from nothing");
    }
}

//! The shard's scratch: one buffer, shared by all connections.
//!
//! Between two awaits a task has the shard to itself, so it needs no buffers of its own: it reads
//! into the scratch, hands the bytes on, and copies out only what is left over. [`scratch`] lends
//! it to a closure, which cannot await.
//!
//! The borrow cannot fail: the box is taken out of its cell for the time of the closure. A use
//! inside a use finds the cell empty and gets a fresh box, which is dropped afterwards (counted,
//! never an error); a closure that panics takes its box with it, and the next use makes a new one.

use super::local;

/// Bytes of the scratch: 32 full TLS records with what surrounds them. Bulk through a tunnel costs a tenth less than with
/// half of that, and the bytes still stay in a second-level cache of 1 MiB.
pub const SCRATCH_BYTES: usize = 32 * (16 * 1024 + 64);

/// Lends the shard's scratch to `work`. What is in it is of no use to anybody.
///
/// # Panics
/// Outside of a runtime.
pub fn scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let local = local::expect_current("scratch");
    let mut lent = local.scratch.take().unwrap_or_else(|| {
        if local.scratch_made.replace(true) {
            local.count(|counters| counters.scratch_nested += 1);
        }
        // Zeroed boxes are mapped, not touched: an idle shard pays for no page.
        vec![0; SCRATCH_BYTES].into()
    });
    let result = work(&mut lent);
    local.scratch.set(Some(lent));
    result
}

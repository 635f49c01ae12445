//! What a shard's runtime counts: plain numbers of its own thread, summed up by whoever shows them.

use std::cell::RefCell;

/// Counted by a shard since its start; see [`counters`](super::counters()).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Tasks that are there now.
    pub tasks: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that ended in a wait of more than zero.
    pub waits: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Tasks and turn-end hooks that panicked.
    pub panics: u64,
    /// Wake-ups that came from other threads.
    pub remote_wakes: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepts that failed because the peer or the network had gone; skipped.
    pub accept_skipped: u64,
    /// Accepts that failed for want of descriptors or memory; each is followed by a pause.
    pub accept_exhausted: u64,
    /// Pauses made because the descriptor reserve was reached before the limit.
    pub accept_reserve_pauses: u64,
    /// Connections reset because only the descriptor reserve was left.
    pub accept_refused: u64,
    /// Descriptors the kernel handed over after their listener had gone; closed.
    pub late_accepts_closed: u64,
    /// Sockets refused because they were not in the namespace asked for.
    pub wrong_namespace: u64,
    /// Completions the kernel could not put into the full queue and kept aside.
    pub completion_overflows: u64,
    /// Multishot accepts and polls that ended by themselves and were armed again.
    pub rearmed: u64,
    /// Submissions that did not fit the submission queue and waited for the next round.
    pub submissions_delayed: u64,
    /// Waits the kernel refused for the moment (`EBUSY`, `EAGAIN`, `ENOMEM`); repeated.
    pub waits_refused: u64,
    /// Nested uses of the scratch buffers, served with fresh ones.
    pub scratch_nested: u64,
}

/// The counters of one runtime, for all of its parts.
#[derive(Debug, Default)]
pub(super) struct Counts(RefCell<Counters>);

impl Counts {
    pub(super) fn count(&self, add: impl FnOnce(&mut Counters)) {
        add(&mut self.0.borrow_mut());
    }

    /// Turns of the loop.
    pub(super) fn turns(&self) -> u64 {
        self.0.borrow().turns
    }

    pub(super) fn now(&self) -> Counters {
        *self.0.borrow()
    }
}

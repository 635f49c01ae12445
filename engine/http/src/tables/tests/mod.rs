//! What is asked of the tables, told by the standard's conformance tests.

mod build;
mod conformance;
mod cost;
mod mistakes;
mod oracle;
mod streams;

use std::cell::Cell;

thread_local! {
    /// What look-ups of this thread have done: look-ups by hash, and candidates tried.
    pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
}

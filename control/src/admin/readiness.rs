//! What still has to happen before this process takes traffic.
//!
//! Whoever asks is told by name, so that a host that does not come up says what it waits for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The pending tasks of the process. Cheap to clone; lives on the control thread.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The steps of the start.
    steps: RefCell<BTreeSet<&'static str>>,
    /// What comes and goes while it runs: workloads and their certificates.
    parts: RefCell<BTreeSet<String>>,
    was_ready: Cell<bool>,
    draining: Cell<bool>,
}

impl Readiness {
    /// Marks a step of the start as pending, or as done.
    pub fn set_step(&self, step: &'static str, pending: bool) {
        let mut steps = self.shared.steps.borrow_mut();
        if pending {
            steps.insert(step);
        } else {
            steps.remove(step);
        }
        drop(steps);
        self.note();
    }

    /// Says which parts are pending now.
    pub fn set_parts(&self, pending: impl IntoIterator<Item = String>) {
        *self.shared.parts.borrow_mut() = pending.into_iter().collect();
        self.note();
    }

    /// From now on not ready, for good: the process is about to leave.
    pub fn start_draining(&self) {
        self.shared.draining.set(true);
    }

    /// What is pending, sorted.
    pub fn pending(&self) -> Vec<String> {
        let mut pending = self.shared.parts.borrow().clone();
        pending.extend(self.shared.steps.borrow().iter().map(|step| (*step).to_owned()));
        if self.shared.draining.get() {
            pending.insert("draining".to_owned());
        }
        pending.into_iter().collect()
    }

    /// Whether nothing is pending.
    pub fn is_ready(&self) -> bool {
        !self.shared.draining.get() && self.nothing_pending()
    }

    /// Whether it was ever ready: the start is over.
    pub fn was_ready(&self) -> bool {
        self.shared.was_ready.get()
    }

    fn note(&self) {
        if self.nothing_pending() {
            self.shared.was_ready.set(true);
        }
    }

    fn nothing_pending(&self) -> bool {
        self.shared.steps.borrow().is_empty() && self.shared.parts.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_named_in_order_until_it_is_done() {
        let readiness = Readiness::default();
        readiness.set_step("proxy", true);
        readiness.set_parts(["workload b".to_owned(), "certificate a".to_owned()]);
        assert_eq!(readiness.pending(), ["certificate a", "proxy", "workload b"]);
        assert!(!readiness.is_ready() && !readiness.was_ready());
        readiness.set_step("proxy", false);
        readiness.set_parts([]);
        assert!(readiness.is_ready() && readiness.was_ready());
        readiness.set_parts(["workload b".to_owned()]);
        assert!(!readiness.is_ready() && readiness.was_ready());
    }

    #[test]
    fn who_leaves_is_not_ready_again() {
        let readiness = Readiness::default();
        readiness.start_draining();
        readiness.set_step("proxy", false);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["draining"]);
    }
}

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
    pending: RefCell<BTreeSet<String>>,
    was_ready: Cell<bool>,
    draining: Cell<bool>,
}

impl Readiness {
    /// Marks `task` as pending, or as done.
    pub fn set_pending(&self, task: &str, pending: bool) {
        let mut tasks = self.shared.pending.borrow_mut();
        if pending {
            tasks.insert(task.to_owned());
        } else {
            tasks.remove(task);
        }
        if tasks.is_empty() {
            self.shared.was_ready.set(true);
        }
    }

    /// From now on not ready, for good: the process is about to leave.
    pub fn start_draining(&self) {
        self.shared.draining.set(true);
    }

    /// What is pending, sorted.
    pub fn pending(&self) -> Vec<String> {
        let mut pending: BTreeSet<String> = self.shared.pending.borrow().clone();
        if self.shared.draining.get() {
            pending.insert("draining".to_owned());
        }
        pending.into_iter().collect()
    }

    /// Whether nothing is pending.
    pub fn is_ready(&self) -> bool {
        !self.shared.draining.get() && self.shared.pending.borrow().is_empty()
    }

    /// Whether it was ever ready: the start is over.
    pub fn was_ready(&self) -> bool {
        self.shared.was_ready.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_named_in_order_until_they_are_done() {
        let readiness = Readiness::default();
        readiness.set_pending("workload b", true);
        readiness.set_pending("proxy", true);
        assert_eq!(readiness.pending(), ["proxy", "workload b"]);
        assert!(!readiness.is_ready() && !readiness.was_ready());
        readiness.set_pending("proxy", false);
        readiness.set_pending("workload b", false);
        assert!(readiness.is_ready() && readiness.was_ready());
        readiness.set_pending("workload b", true);
        assert!(!readiness.is_ready() && readiness.was_ready());
    }

    #[test]
    fn who_leaves_is_not_ready_again() {
        let readiness = Readiness::default();
        readiness.start_draining();
        readiness.set_pending("proxy", false);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["draining"]);
    }
}

//! Tasks of which a shard has one at a time.

use std::{cell::Cell, rc::Rc};

/// Whether the task runs.
#[derive(Debug, Default)]
pub(crate) struct Single(Rc<Cell<bool>>);

/// Held by the task. It has ended when this is dropped, also when it panicked: the next one begins then.
pub(crate) struct Running(Rc<Cell<bool>>);

impl Single {
    /// What the task is to hold; none while it runs.
    pub(crate) fn begin(&self) -> Option<Running> {
        (!self.0.replace(true)).then(|| Running(self.0.clone()))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.0.get()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn the_next_begins_when_the_one_before_has_ended_or_panicked() {
        let single = Single::default();
        let first = single.begin();
        assert!(first.is_some() && single.begin().is_none() && single.is_running());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = first;
            panic!("as a defect would");
        }));
        assert!(panicked.is_err() && !single.is_running());
        assert!(single.begin().is_some());
    }
}

//! What a pod may have only so many of at a time: copies of requests, and services outside that are being asked.

use std::{cell::Cell, rc::Rc};

/// One of them; dropped, there is room for another.
pub(super) struct Place(Rc<Cell<usize>>);

impl Place {
    /// Counts one more, unless there are `most`.
    pub(super) fn take(count: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        if count.get() == most {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self(count.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::OUTSIDE_CALLS_MAX;

    #[test]
    fn no_more_are_asked_than_may_be() {
        let take = |count: &Rc<Cell<usize>>| Place::take(count, OUTSIDE_CALLS_MAX);
        let count = Rc::new(Cell::new(0));
        let mut all: Vec<_> = (0..OUTSIDE_CALLS_MAX).map_while(|_| take(&count)).collect();
        assert_eq!(all.len(), OUTSIDE_CALLS_MAX);
        assert!(take(&count).is_none());
        all.pop();
        assert!(take(&count).is_some());
        drop(all);
        assert_eq!(count.get(), 0);
    }
}

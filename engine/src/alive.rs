//! Counts what is alive on this thread (feature `sim`): whatever is left when a simulated run is over has
//! leaked, most likely in a circle of counted pointers.

use std::{cell::RefCell, collections::BTreeMap};

thread_local! {
    static ALIVE: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

/// A part of whatever is counted; it lives as long.
#[derive(Debug)]
pub(crate) struct Alive(&'static str);

impl Alive {
    pub(crate) fn new(kind: &'static str) -> Self {
        ALIVE.with_borrow_mut(|alive| *alive.entry(kind).or_default() += 1);
        Self(kind)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // A thread that ends may have dropped its counts already; nobody looks at them then.
        let _ = ALIVE.try_with(|alive| *alive.borrow_mut().entry(self.0).or_default() -= 1);
    }
}

/// How many of each kind are alive on this thread; kinds of which none is are left out.
pub(crate) fn alive() -> Vec<(&'static str, usize)> {
    ALIVE.with_borrow(|alive| {
        alive.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (*kind, *count)).collect()
    })
}

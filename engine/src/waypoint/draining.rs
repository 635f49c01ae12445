//! Tells every connection of a pod that it is to end in order.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use slab::Slab;

/// See the module's text.
#[derive(Default)]
pub(crate) struct Draining {
    begun: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl Draining {
    /// From here on.
    pub(crate) fn begin(&self) {
        if !self.begun.replace(true) {
            self.waiting.take().drain().for_each(Waker::wake);
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get()
    }
}

/// One that waits for it.
pub(crate) struct Awaited {
    draining: Rc<Draining>,
    slot: Option<usize>,
}

impl Awaited {
    pub(crate) fn new(draining: &Rc<Draining>) -> Self {
        Self { draining: draining.clone(), slot: None }
    }

    /// Ready once it has begun, and from then on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.draining.has_begun() {
            self.slot = None;
            return Poll::Ready(());
        }
        let mut waiting = self.draining.waiting.borrow_mut();
        match self.slot {
            Some(slot) => waiting[slot].clone_from(cx.waker()),
            None => self.slot = Some(waiting.insert(cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.filter(|_| !self.draining.has_begun()) {
            self.draining.waiting.borrow_mut().remove(slot);
        }
    }
}

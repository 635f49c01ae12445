//! One value from one task to another, on one shard.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// Who gives.
pub(crate) struct Giver<T>(Rc<RefCell<Slot<T>>>);

/// Who gets.
pub(crate) struct Getter<T>(Rc<RefCell<Slot<T>>>);

struct Slot<T> {
    value: Option<T>,
    given_up: bool,
    waker: Option<Waker>,
}

/// Both ends.
pub(crate) fn handoff<T>() -> (Giver<T>, Getter<T>) {
    let slot = Rc::new(RefCell::new(Slot { value: None, given_up: false, waker: None }));
    (Giver(slot.clone()), Getter(slot))
}

impl<T> Giver<T> {
    pub(crate) fn give(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let mut slot = self.0.borrow_mut();
        slot.given_up = true;
        let waker = slot.waker.take();
        drop(slot);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Getter<T> {
    /// Waits for the value; none when its giver has gone without giving.
    pub(crate) async fn get(self) -> Option<T> {
        poll_fn(|cx| {
            let mut slot = self.0.borrow_mut();
            if slot.value.is_some() || slot.given_up {
                return Poll::Ready(slot.value.take());
            }
            slot.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

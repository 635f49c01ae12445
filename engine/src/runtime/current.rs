//! What a thread has of the runtime that it is in, found without being handed through.
//!
//! It is a thread-local reference-counted pointer, set while `block_on` runs and while a runtime is dropped. Every function
//! clones the pointer out before it does anything, so no thread-local is borrowed while foreign code (a waker, a
//! destructor) runs. Every poll and wake looks here, so the looks are part of their callers.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::thread::LocalKey;

/// Where a thread has it, under the number of its runtime.
pub(super) type Place<T> = RefCell<Option<(u32, Rc<T>)>>;

/// What the thread has.
#[inline(always)]
pub(super) fn get<T>(place: &'static LocalKey<Place<T>>) -> Option<Rc<T>> {
    place.try_with(|place| Some(place.borrow().as_ref()?.1.clone())).ok().flatten()
}

/// What it has, if it is of the runtime named: handles and wakers may outlive theirs.
#[inline(always)]
pub(super) fn get_if<T>(place: &'static LocalKey<Place<T>>, id: u32) -> Option<Rc<T>> {
    let matching = |place: &Place<T>| {
        let place = place.borrow();
        place.as_ref().filter(|(own, _)| *own == id).map(|(_, value)| value.clone())
    };
    place.try_with(matching).ok().flatten()
}

/// What it must have, for `what` to be done.
#[inline(always)]
pub(super) fn expect<T>(place: &'static LocalKey<Place<T>>, what: &str) -> Rc<T> {
    match get(place) {
        Some(value) => value,
        None => panic!("{what} needs a runtime: call it inside Runtime::block_on"),
    }
}

/// Gives it to the thread until the guard is dropped.
pub(super) fn enter<T>(place: &'static LocalKey<Place<T>>, id: u32, value: &Rc<T>) -> Entered<T> {
    let former = place.with(|place| place.replace(Some((id, value.clone()))));
    Entered { place, former }
}

/// Restores what the thread had before on drop.
pub(super) struct Entered<T: 'static> {
    place: &'static LocalKey<Place<T>>,
    former: Option<(u32, Rc<T>)>,
}

impl<T> Entered<T> {
    /// Whether it had one already.
    pub(super) fn is_nested(&self) -> bool {
        self.former.is_some()
    }
}

impl<T> Drop for Entered<T> {
    fn drop(&mut self) {
        let former = self.former.take();
        let _left = self.place.with(|place| mem::replace(&mut *place.borrow_mut(), former));
    }
}

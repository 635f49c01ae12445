//! Who waits for room at an endpoint that may have no further connection.
//!
//! Whoever gives a connection, a place on one, or the place of one back wakes the request that has waited longest. What other
//! shards give back wakes nobody here, so that each looks again after a while as well.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    task::{Poll, Waker},
};

use crate::{limits::UPSTREAM_ROOM_TIME, runtime};

/// The connections of one endpoint, as far as they are counted, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Room {
    open: Cell<usize>,
    /// By the ticket that each has drawn. At most as many as may be pending.
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    tickets: Cell<u64>,
}

impl Room {
    /// How many connections there are, whatever they do.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// One more.
    pub(super) fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// One less.
    pub(super) fn closed(&self) {
        self.open.set(self.open.get() - 1);
        self.given_back();
    }

    /// There is something that a request may take.
    pub(super) fn given_back(&self) {
        let longest = self.waiting.borrow_mut().pop_front();
        longest.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Waits for that, or for [`UPSTREAM_ROOM_TIME`].
    pub(super) async fn wait(&self) {
        let mut patience = pin!(runtime::sleep(UPSTREAM_ROOM_TIME));
        let place = Place { room: self, ticket: self.tickets.get() };
        self.tickets.set(place.ticket + 1);
        let mut is_queued = false;
        poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            let own = waiting.iter_mut().find(|(ticket, _)| *ticket == place.ticket);
            match own {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None if is_queued => return Poll::Ready(()),
                None => waiting.push_back((place.ticket, cx.waker().clone())),
            }
            is_queued = true;
            patience.as_mut().poll(cx)
        })
        .await;
    }
}

/// A place among those who wait; dropped, it is nobody's.
struct Place<'r> {
    room: &'r Room,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.waiting.borrow_mut().retain(|(ticket, _)| *ticket != self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Context, Wake},
    };

    use super::*;
    use crate::runtime::Runtime;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn who_has_waited_longest_is_woken_and_who_has_gone_is_not() {
        let (runtime, _) = Runtime::new(Default::default()).expect("the system has a reactor");
        runtime.block_on(async {
            let room = Room::default();
            let woken: [Arc<Counting>; 3] = Default::default();
            let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(room.wait())).collect();
            for (waiter, woken) in waiting.iter_mut().zip(&woken) {
                let waker = Waker::from(woken.clone());
                assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            drop(waiting.remove(0));
            room.given_back();
            assert_eq!(woken.each_ref().map(|woken| woken.0.load(Relaxed)), [0, 1, 0]);
            let waker = Waker::from(woken[1].clone());
            let mut cx = Context::from_waker(&waker);
            assert!(waiting[0].as_mut().poll(&mut cx).is_ready());
            drop(waiting);
            assert!(room.waiting.borrow().is_empty(), "nobody is waited for");
        });
    }
}

//! How other threads reach a shard: an injector of tasks to be polled, and an eventfd that ends its
//! wait.

use super::key::TaskKey;
use super::wakeup::Wakeup;
use crate::sync::SegQueue;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// The part of a runtime that other threads may touch.
#[derive(Debug)]
pub(crate) struct Remote {
    id: u32,
    injector: SegQueue<TaskKey>,
    /// The shard is about to wait, or waits: it must be woken.
    waiting: AtomicBool,
    wakeup: Wakeup,
}

impl Remote {
    pub(crate) fn new(id: u32, wakeup: Wakeup) -> Remote {
        Remote { id, injector: SegQueue::new(), waiting: AtomicBool::new(false), wakeup }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Makes a task ready from another thread. Bounded by the number of tasks: each has one place.
    pub(crate) fn inject(&self, key: TaskKey) {
        self.injector.push(key);
        // Either this sees `waiting`, or the shard's last look at the injector sees the key.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::AcqRel) {
            self.wakeup.wake();
        }
    }

    /// The shard is about to wait; `false` when it must not, because a task was made ready.
    pub(crate) fn may_wait(&self) -> bool {
        self.waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.injector.is_empty()
    }

    /// The shard is awake.
    pub(crate) fn woken(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// The tasks made ready meanwhile: no more than there are now, so that busy wakers cannot hold
    /// the shard here.
    pub(crate) fn injected(&self) -> impl Iterator<Item = TaskKey> {
        let now = self.injector.len();
        std::iter::from_fn(|| self.injector.pop()).take(now)
    }
}

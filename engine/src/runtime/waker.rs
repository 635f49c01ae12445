//! A task's waker: from its own thread, and from others.

use std::sync::Arc;
use std::task::Wake;

use super::key::TaskKey;
use super::ready::{self, TenantId};
use super::remote::Remote;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What a task's waker points to.
///
/// On the task's own thread a wake is two plain memory accesses and a push; from elsewhere it goes
/// through the runtime's injector. Each way has its own flag, so that neither needs a locked
/// instruction for the other's sake; at worst a task is polled once too often.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    key: TaskKey,
    tenant: TenantId,
    remote: Arc<Remote>,
    /// In the ready queue. Touched by the task's own thread only.
    queued: AtomicBool,
    /// In the injector.
    injected: AtomicBool,
}

impl TaskWaker {
    pub(crate) fn new(key: TaskKey, remote: Arc<Remote>, tenant: TenantId) -> TaskWaker {
        let (queued, injected) = (AtomicBool::new(false), AtomicBool::new(false));
        TaskWaker { key, tenant, remote, queued, injected }
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Claims the one place in the ready queue; `false` when it is taken.
    pub(crate) fn claim(&self) -> bool {
        let free = !self.queued.load(Ordering::Relaxed);
        if free {
            self.queued.store(true, Ordering::Relaxed);
        }
        free
    }

    /// About to be polled: wakes from here on count anew.
    pub(crate) fn released(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }

    /// Taken from the injector: pairs with the swap in `wake`, so the poll sees what the waker
    /// wrote.
    pub(crate) fn taken_from_injector(&self) {
        self.injected.swap(false, Ordering::AcqRel);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(ready) = ready::current_if(self.remote.id()) {
            if self.claim() {
                ready.push(self.tenant, self.key);
            }
        } else if !self.injected.swap(true, Ordering::AcqRel) {
            self.remote.inject(self.key);
        }
    }
}

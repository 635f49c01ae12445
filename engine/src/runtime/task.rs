//! Spawning, and the handle that it gives out.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::key::TaskKey;
use super::local::{self, Local};
use super::ready::{Tenant, TenantId};
use super::tasks::{BoxedFuture, TaskEnd};

/// Runs `future` on this shard. Dropping the returned handle detaches it.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Task {
    let local = local::expect_current("spawn");
    Task::begin(&local, local.ready.current.get(), Box::pin(future))
}

/// Runs `future` on this shard as a task of `tenant`'s, and so whatever it spawns.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn_for(tenant: &Tenant, future: impl Future<Output = ()> + 'static) -> Task {
    Task::begin(&local::expect_current("spawn"), tenant.id(), Box::pin(future))
}

/// Runs `future` as a task of the shard's own, whoever's task it is that asks.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn_for_shard(future: impl Future<Output = ()> + 'static) -> Task {
    Task::begin(&local::expect_current("spawn"), TenantId::default(), Box::pin(future))
}

/// A spawned task. Dropping the handle detaches the task; awaiting it tells how it ended.
#[derive(Debug)]
pub struct Task {
    local: u32,
    key: TaskKey,
    not_send: PhantomData<Rc<()>>,
}

impl Task {
    fn begin(local: &Local, tenant: TenantId, future: BoxedFuture) -> Task {
        Task { local: local.id(), key: local.spawn(tenant, future), not_send: PhantomData }
    }

    /// Drops the task's future: at once, or when its current poll returns if it is running.
    pub fn abort(&self) {
        let Some(local) = local::current_if(self.local) else { return };
        let aborted = local.tasks.borrow_mut().abort(self.key);
        if let Some(future) = aborted {
            local.discard(future);
            local.finish(self.key, TaskEnd::Aborted);
        }
    }

    /// Whether the task has completed, panicked or been aborted.
    pub fn is_finished(&self) -> bool {
        let end = local::current_if(self.local).map(|local| local.tasks.borrow().end(self.key));
        end.is_none_or(|end| end.is_some())
    }
}

impl Future for Task {
    type Output = TaskEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TaskEnd> {
        let Some(local) = local::current_if(self.local) else {
            return Poll::Ready(TaskEnd::Aborted);
        };
        let waker = cx.waker().clone();
        let (poll, _former) = local.tasks.borrow_mut().poll_end(self.key, waker);
        poll
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(local) = local::current_if(self.local) {
            let _joiner = local.tasks.borrow_mut().detach(self.key);
        }
    }
}

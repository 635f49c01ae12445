//! Tasks: a slab of boxed futures and their wakers.
//!
//! ```text
//!            wake                  turn                 Ready / panic / abort
//!   Waiting ──────▶ Ready (queue) ──────▶ Running ─────────────────────────▶ Done ─▶ slot freed
//!      ▲                                     │ Pending
//!      └─────────────────────────────────────┘
//! ```
//!
//! A task is taken out of the slab while it runs, so that it may spawn, wake and abort freely,
//! itself included. A waker names its task by index and generation: a stale one finds nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use slab::Slab;

use super::key::TaskKey;
use super::ready::TenantId;
use super::remote::Remote;
use super::waker::TaskWaker;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// Its future completed.
    Completed,
    /// It was aborted, or its runtime was dropped.
    Aborted,
    /// It panicked; the panic ended this task and nothing else.
    Panicked,
}

pub(crate) type BoxedFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A task's future with its waker, out of the slab for the time of a poll.
pub(crate) struct Running {
    pub(crate) future: BoxedFuture,
    pub(crate) waker: Waker,
}

/// The slab of tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    slab: Slab<Entry>,
    generation: u32,
    alive: usize,
}

struct Entry {
    generation: u32,
    state: State,
    /// Somebody holds the [`Task`](super::Task), so its end must stay readable.
    held: bool,
    handle: Arc<TaskWaker>,
    joiner: Option<Waker>,
}

enum State {
    Waiting(Running),
    Running { aborted: bool },
    Done(TaskEnd),
}

impl Tasks {
    pub(crate) fn insert(
        &mut self,
        future: BoxedFuture,
        remote: &Arc<Remote>,
        tenant: TenantId,
    ) -> TaskKey {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let vacant = self.slab.vacant_entry();
        let key = TaskKey { index: vacant.key() as u32, generation };
        let handle = Arc::new(TaskWaker::new(key, remote.clone(), tenant));
        let waker = Waker::from(handle.clone());
        let state = State::Waiting(Running { future, waker });
        vacant.insert(Entry { generation, state, held: true, handle, joiner: None });
        self.alive += 1;
        key
    }

    /// Futures not yet finished.
    pub(crate) fn alive(&self) -> usize {
        self.alive
    }

    pub(crate) fn handle(&self, key: TaskKey) -> Option<&Arc<TaskWaker>> {
        self.entry(key).map(|entry| &entry.handle)
    }

    /// Takes a task out to be polled, and tells whose it is.
    pub(crate) fn begin(&mut self, key: TaskKey) -> Option<(Running, TenantId)> {
        let entry = self.entry_mut(key)?;
        entry.handle.released();
        let tenant = entry.handle.tenant();
        match std::mem::replace(&mut entry.state, State::Running { aborted: false }) {
            State::Waiting(running) => Some((running, tenant)),
            other => {
                entry.state = other;
                None
            }
        }
    }

    /// Puts a task back that is not done; returned when it was aborted meanwhile.
    pub(crate) fn park(&mut self, key: TaskKey, running: Running) -> Result<(), Running> {
        let entry = self.entry_mut(key).expect("a running task keeps its slot");
        match entry.state {
            State::Running { aborted: false } => {
                entry.state = State::Waiting(running);
                Ok(())
            }
            _ => Err(running),
        }
    }

    /// Marks the end of a task whose future is gone; the joiner is the caller's to wake.
    pub(crate) fn finish(&mut self, key: TaskKey, end: TaskEnd) -> Option<Waker> {
        let entry = self.entry_mut(key)?;
        entry.state = State::Done(end);
        let (joiner, held) = (entry.joiner.take(), entry.held);
        self.alive -= 1;
        if !held {
            self.slab.remove(key.index as usize);
        }
        joiner
    }

    pub(crate) fn abort(&mut self, key: TaskKey) -> Option<Running> {
        let entry = self.entry_mut(key)?;
        match std::mem::replace(&mut entry.state, State::Running { aborted: true }) {
            State::Waiting(running) => Some(running),
            State::Running { .. } => None,
            done @ State::Done(_) => {
                entry.state = done;
                None
            }
        }
    }

    /// Any task that still waits, to be dropped when the runtime goes.
    pub(crate) fn abort_any(&mut self) -> Option<(TaskKey, Running)> {
        let waiting = |(_, entry): &(usize, &Entry)| matches!(entry.state, State::Waiting(_));
        let (index, entry) = self.slab.iter().find(waiting)?;
        let key = TaskKey { index: index as u32, generation: entry.generation };
        self.abort(key).map(|running| (key, running))
    }

    pub(crate) fn end(&self, key: TaskKey) -> Option<TaskEnd> {
        match self.entry(key)?.state {
            State::Done(end) => Some(end),
            _ => None,
        }
    }

    pub(crate) fn poll_end(
        &mut self,
        key: TaskKey,
        waker: Waker,
    ) -> (Poll<TaskEnd>, Option<Waker>) {
        let entry = self.entry_mut(key).expect("a held task keeps its slot");
        match entry.state {
            State::Done(end) => (Poll::Ready(end), Some(waker)),
            _ => (Poll::Pending, entry.joiner.replace(waker)),
        }
    }

    pub(crate) fn detach(&mut self, key: TaskKey) -> Option<Waker> {
        let entry = self.entry_mut(key)?;
        entry.held = false;
        let joiner = entry.joiner.take();
        if matches!(entry.state, State::Done(_)) {
            self.slab.remove(key.index as usize);
        }
        joiner
    }

    fn entry(&self, key: TaskKey) -> Option<&Entry> {
        self.slab.get(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    fn entry_mut(&mut self, key: TaskKey) -> Option<&mut Entry> {
        self.slab.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }
}

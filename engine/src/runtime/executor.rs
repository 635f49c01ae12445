//! The executor: [`Runtime`] and the turn of its loop.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use super::counters::Counts;
use super::local::{self, Local};
use super::options::{RuntimeError, RuntimeOptions};
use super::pulse::Pulse;
use super::reactor::Reactor;
use super::reactor::choice::{ReactorChoice, ReactorReport};
use super::remote::Remote;
#[cfg(feature = "sim")]
use super::sim::World;
use super::wakeup::Wakeup;

/// A single-threaded runtime. It belongs to the thread that made it.
///
/// Dropping it drops every task, then what the kernel still had in hand for it.
pub struct Runtime {
    local: Rc<Local>,
}

impl Runtime {
    /// Makes a runtime for this thread.
    ///
    /// # Errors
    /// [`RuntimeError::RingRefused`] only when the ring is forced; `Auto` steps down by itself.
    pub fn new(choice: ReactorChoice) -> Result<(Runtime, ReactorReport), RuntimeError> {
        Runtime::with_options(&RuntimeOptions { reactor: choice, ..RuntimeOptions::default() })
    }

    /// Makes a runtime for this thread.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn with_options(
        options: &RuntimeOptions,
    ) -> Result<(Runtime, ReactorReport), RuntimeError> {
        let wakeup = Wakeup::new().map_err(RuntimeError::Setup)?;
        let (id, counts) = (next_id(), Rc::<Counts>::default());
        let (reactor, report) = Reactor::choose(options, id, &wakeup, &counts)?;
        let seed = RandomState::new().hash_one(id);
        Ok((Runtime::start(Remote::new(id, wakeup), reactor, counts, seed), report))
    }

    /// Makes a runtime that lives in a simulated world.
    #[cfg(feature = "sim")]
    pub(crate) fn in_world(world: &World) -> Runtime {
        let wakeup = Wakeup::new().expect("a descriptor for wake-ups");
        let remote = Remote::new(next_id(), wakeup);
        let reactor = Reactor::Sim(world.clone());
        Runtime::start(remote, reactor, Rc::default(), world.seed_of_runtime())
    }

    fn start(remote: Remote, reactor: Reactor, counts: Rc<Counts>, seed: u64) -> Runtime {
        Runtime { local: Rc::new(Local::new(remote, reactor, counts, seed)) }
    }

    /// Runs `future` to its end on this thread, with the tasks it spawns beside it.
    ///
    /// Tasks that are left over wait for the next `block_on`, or are dropped with the runtime. A
    /// panic of `future` itself is the caller's.
    ///
    /// # Panics
    /// When the thread is already inside a runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let entered = local::enter(&self.local);
        assert!(!entered.is_nested(), "block_on inside a runtime would stop its shard");
        let local = &*self.local;
        let waker = Waker::from(local.main.clone());
        let mut future = pin!(future);
        waker.wake_by_ref();
        loop {
            if local.take_main_ready()
                && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return output;
            }
            local.poll_tasks();
            local.end_turn();
            local.wait();
        }
    }

    /// Since when its turn lasts, for another thread to see.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.local.pulse.clone()
    }

    /// Tasks not yet finished.
    pub fn tasks(&self) -> usize {
        self.local.tasks.borrow().alive()
    }
}

/// Tells runtimes apart for as long as the process lives.
fn next_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _entered = local::enter(&self.local);
        self.local.abort_all();
        self.local.reactor.shut_down();
    }
}

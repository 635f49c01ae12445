//! What one thread's runtime owns, and how the rest of the runtime finds it, as what is `current`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::counters::{Counters, Counts};
use super::current::{self, Entered, Place};
use super::key::TaskKey;
use super::pulse::Pulse;
use super::random::Random;
use super::reactor::Reactor;
use super::ready::{self, Ready, TenantId};
use super::remote::Remote;
use super::tasks::{BoxedFuture, Running, TaskEnd, Tasks};
use super::waker::TaskWaker;
use super::wheel::Wheel;

thread_local! {
    static CURRENT: Place<Local> = const { RefCell::new(None) };
}

/// Something to be done once per turn, after the tasks and before the wait.
pub trait TurnEnd {
    /// Called once for each [`at_turn_end`].
    fn turn_end(self: Rc<Self>);
}

/// Calls `hook` once, after all tasks that are ready in this turn were polled and before the shard
/// waits. Asked for during a turn's end, it is called at the end of the next turn, which begins
/// without a wait.
///
/// # Panics
/// Outside of a runtime.
pub fn at_turn_end(hook: Rc<dyn TurnEnd>) {
    expect_current("at_turn_end").hooks.borrow_mut().push(hook);
}

/// What this shard's runtime has met so far.
///
/// # Panics
/// Outside of a runtime.
pub fn counters() -> Counters {
    let local = expect_current("counters");
    let tasks = local.tasks.borrow().alive() as u64;
    Counters { tasks, ..local.counts.now() }
}

/// A random number for choices that need no secrecy: seeded from the system, or by the simulation.
///
/// # Panics
/// Outside of a runtime.
pub fn random() -> u64 {
    expect_current("random").random.borrow_mut().next()
}

/// One thread's runtime.
pub(crate) struct Local {
    pub(crate) remote: Arc<Remote>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) tasks: RefCell<Tasks>,
    pub(crate) timers: RefCell<Wheel>,
    pub(crate) reactor: Reactor,
    pub(crate) scratch: Cell<Option<Box<[u8]>>>,
    pub(crate) scratch_made: Cell<bool>,
    pub(crate) main: Arc<TaskWaker>,
    counts: Rc<Counts>,
    now: Cell<Instant>,
    random: RefCell<Random>,
    pub(super) ready: Rc<Ready>,
    polling: RefCell<Vec<TaskKey>>,
    fired: RefCell<Vec<Waker>>,
    hooks: RefCell<Vec<Rc<dyn TurnEnd>>>,
}

impl Local {
    pub(crate) fn new(remote: Remote, reactor: Reactor, counts: Rc<Counts>, seed: u64) -> Local {
        let (remote, now) = (Arc::new(remote), reactor.clock());
        Local {
            main: Arc::new(TaskWaker::new(TaskKey::MAIN, remote.clone(), TenantId::default())),
            remote,
            pulse: Arc::new(Pulse::new(now)),
            tasks: RefCell::default(),
            timers: RefCell::new(Wheel::new(now)),
            reactor,
            scratch: Cell::default(),
            scratch_made: Cell::default(),
            counts,
            now: Cell::new(now),
            random: RefCell::new(Random::new(seed)),
            ready: Rc::default(),
            polling: RefCell::default(),
            fired: RefCell::default(),
            hooks: RefCell::default(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.remote.id()
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Counters)) {
        self.counts.count(add);
    }

    /// Which turn this is.
    pub(crate) fn turn(&self) -> u64 {
        self.counts.turns()
    }

    pub(super) fn spawn(&self, tenant: TenantId, future: BoxedFuture) -> TaskKey {
        let key = self.tasks.borrow_mut().insert(future, &self.remote, tenant);
        self.schedule(key);
        key
    }

    pub(crate) fn take_main_ready(&self) -> bool {
        let ready = self.ready.take_main();
        if ready {
            self.main.released();
        }
        ready
    }

    fn schedule(&self, key: TaskKey) {
        let tasks = self.tasks.borrow();
        if let Some(handle) = tasks.handle(key).filter(|handle| handle.claim()) {
            self.ready.push(handle.tenant(), key);
        }
    }

    /// Polls tasks that are ready now, some of each tenant; what they wake has its turn next.
    pub(crate) fn poll_tasks(&self) {
        self.count(|counters| counters.turns += 1);
        let mut polling = self.polling.take();
        self.ready.take_turn(&mut polling);
        self.reactor.order_turn(&mut polling);
        let mut turn = polling.drain(..);
        while let Some(key) = turn.next() {
            self.poll_task(key);
            if turn.len() > 0 && self.ready.is_turn_spent() {
                self.give_back(turn.as_slice());
                break;
            }
        }
        drop(turn);
        self.ready.current.set(TenantId::default());
        self.polling.replace(polling);
    }

    /// Leaves the rest of a turn to the next.
    fn give_back(&self, rest: &[TaskKey]) {
        let tasks = self.tasks.borrow();
        let with_tenant = |key: &TaskKey| Some((tasks.handle(*key)?.tenant(), *key));
        self.ready.give_back(rest.iter().filter_map(with_tenant));
    }

    fn poll_task(&self, key: TaskKey) {
        let Some((mut running, tenant)) = self.tasks.borrow_mut().begin(key) else { return };
        self.ready.current.set(tenant);
        self.count(|counters| counters.polls += 1);
        let poll = catch_unwind(AssertUnwindSafe(|| {
            running.future.as_mut().poll(&mut Context::from_waker(&running.waker))
        }));
        let end = match poll {
            Ok(Poll::Pending) => {
                let parked = self.tasks.borrow_mut().park(key, running);
                let Err(aborted) = parked else { return };
                self.discard(aborted);
                TaskEnd::Aborted
            }
            Ok(Poll::Ready(())) => {
                self.discard(running);
                TaskEnd::Completed
            }
            Err(panic) => {
                self.panicked(panic);
                self.discard(running);
                TaskEnd::Panicked
            }
        };
        self.finish(key, end);
    }

    pub(crate) fn finish(&self, key: TaskKey, end: TaskEnd) {
        let joiner = self.tasks.borrow_mut().finish(key, end);
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }

    /// Drops a task's future; a destructor that panics costs the shard nothing else.
    pub(crate) fn discard(&self, running: Running) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(running))) {
            self.panicked(panic);
        }
    }

    fn panicked(&self, panic: Box<dyn Any + Send>) {
        self.count(|counters| counters.panics += 1);
        // The panic hook has told the story; a payload that panics when dropped is not dropped.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
    }

    /// Calls the hooks of this turn.
    pub(crate) fn end_turn(&self) {
        let hooks = self.hooks.take();
        for hook in hooks {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook.turn_end())) {
                self.panicked(panic);
            }
        }
    }

    /// Looks at the reactor, waiting only when nothing is ready, and makes ready what is due.
    pub(crate) fn wait(&self) {
        let busy = !self.ready.is_empty() || !self.hooks.borrow().is_empty();
        let mut timeout = Some(Duration::ZERO);
        if !busy && self.remote.may_wait() {
            self.count(|counters| counters.waits += 1);
            let deadline = self.timers.borrow().next_deadline();
            timeout = deadline.map(|at| at.saturating_duration_since(self.reactor.clock()));
        }
        if timeout != Some(Duration::ZERO) {
            self.pulse.rest();
        }
        self.reactor.wait(timeout);
        self.remote.woken();
        self.now.set(self.reactor.clock());
        self.pulse.turn(self.now());
        self.take_injected();
        self.fire_timers();
    }

    fn take_injected(&self) {
        for key in self.remote.injected() {
            self.count(|counters| counters.remote_wakes += 1);
            if key == TaskKey::MAIN {
                self.main.taken_from_injector();
                if self.main.claim() {
                    self.ready.push(TenantId::default(), key);
                }
                continue;
            }
            if let Some(handle) = self.tasks.borrow().handle(key) {
                handle.taken_from_injector();
            }
            self.schedule(key);
        }
    }

    fn fire_timers(&self) {
        let mut fired = self.fired.take();
        self.timers.borrow_mut().advance(self.now(), &mut fired);
        #[cfg(feature = "sim")]
        if matches!(self.reactor, Reactor::Sim(_)) {
            assert!(!self.timers.borrow().is_late(), "a timer is set in the past");
        }
        fired.drain(..).for_each(Waker::wake);
        self.fired.replace(fired);
    }

    /// Drops every task, those included that destructors spawn.
    pub(crate) fn abort_all(&self) {
        loop {
            let waiting = self.tasks.borrow_mut().abort_any();
            let Some((key, running)) = waiting else { break };
            self.discard(running);
            self.finish(key, TaskEnd::Aborted);
        }
        self.hooks.take();
    }
}

/// The runtime this thread is in.
#[inline]
pub(crate) fn current() -> Option<Rc<Local>> {
    current::get(&CURRENT)
}

/// The runtime this thread is in, if it is the one named.
#[inline]
pub(crate) fn current_if(id: u32) -> Option<Rc<Local>> {
    current::get_if(&CURRENT, id)
}

/// The runtime this thread must be in.
#[inline]
pub(crate) fn expect_current(what: &str) -> Rc<Local> {
    current::expect(&CURRENT, what)
}

/// Makes `local`, and what is ready in it, current until the guard is dropped.
pub(super) fn enter(local: &Rc<Local>) -> Inside {
    let entered = current::enter(&CURRENT, local.id(), local);
    Inside { entered, _ready: ready::enter(local.id(), &local.ready) }
}

/// The thread is in a runtime.
pub(super) struct Inside {
    entered: Entered<Local>,
    _ready: Entered<Ready>,
}

impl Inside {
    /// Whether a runtime was entered already.
    pub(super) fn is_nested(&self) -> bool {
        self.entered.is_nested()
    }
}

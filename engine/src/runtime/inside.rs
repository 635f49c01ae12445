//! A simulated world and the runtime that is inside it.

use super::executor::Runtime;
use super::local;
use super::reactor::Reactor;
use super::sim::World;

impl World {
    /// A runtime that lives in this world; for one thread, and one at a time.
    pub fn runtime(&self) -> Runtime {
        Runtime::in_world(self)
    }

    /// The world of the running runtime, if it is simulated.
    pub fn current() -> Option<World> {
        match &local::current()?.reactor {
            Reactor::Sim(world) => Some(world.clone()),
            _ => None,
        }
    }

    /// Timers that are set in the running runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn timers_set(&self) -> usize {
        local::expect_current("timers_set").timers.borrow().set()
    }
}

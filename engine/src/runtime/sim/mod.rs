//! A simulated network with a virtual clock: the whole data plane in one thread, from one seed.
//!
//! A [`World`] has namespaces with addresses, TCP between them, and the redirection that a node
//! agent installs. The public socket types run on it when they are given one of its namespaces, so
//! the code above the runtime is the production code, unchanged. The clock stands while tasks are
//! ready, but for a microsecond per turn, and otherwise jumps to the next thing that happens.
//!
//! Faults are drawn from the seed: short reads and writes, resets, refusals, connections that die
//! without a word, orders of tasks within a turn. What was really met is counted
//! ([`World::faults_met`]): a test that means to survive a fault should check that it happened.
//!
//! **Determinism:** the same seed, options and program give the same run to the last byte
//! ([`World::digest`]). Nothing here reads a clock, iterates a hash map or asks the system.

mod carrying;
mod connection;
mod dialling;
mod ending;
pub(super) mod namespace;
mod network;
mod options;
pub(super) mod sockets;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use self::namespace::SimNamespace;
use self::network::Network;
pub use self::options::{FaultsMet, WorldOptions};
use super::key::TaskKey;
use super::netns::NetNamespace;
use super::readiness::Readiness;
use super::watch::Watch;

/// When every world begins, in Unix time.
pub const WALL_CLOCK_START: Duration = Duration::from_secs(1_900_000_000);

/// The virtual cost of one turn of the loop, so that a busy shard does not stop the clock.
const TURN: Duration = Duration::from_micros(1);

/// A simulated network. Clones are the same world.
#[derive(Clone)]
pub struct World {
    id: u64,
    network: Rc<RefCell<Network>>,
}

impl World {
    /// A world whose faults, too, are drawn from the seed.
    pub fn new(seed: u64) -> World {
        World::with_options(seed, WorldOptions::drawn_from(seed))
    }

    /// A world with the given faults.
    pub fn with_options(seed: u64, options: WorldOptions) -> World {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        World { id, network: Rc::new(RefCell::new(Network::new(seed, options))) }
    }

    /// A host, or a pod: whatever has addresses and ports of its own.
    pub fn namespace(&self, name: &str, addresses: &[IpAddr]) -> NetNamespace {
        let index = self.network.borrow_mut().add_namespace(name, addresses);
        NetNamespace::simulated(SimNamespace { world: self.id, index })
    }

    /// Installs, or removes, the redirection of a captured pod: what it dials unmarked, other than
    /// itself, arrives at its own 15001; what is dialled from outside, other than 15008, at its
    /// 15006.
    ///
    /// # Panics
    /// When the namespace is not of this world.
    pub fn redirect(&self, namespace: &NetNamespace, installed: bool) {
        let index = self.index_of(namespace);
        self.network.borrow_mut().redirect(index, installed);
    }

    /// Cuts a namespace's link for good: its connections hear nothing more, its dials no answer.
    ///
    /// # Panics
    /// When the namespace is not of this world.
    pub fn unplug(&self, namespace: &NetNamespace) {
        let index = self.index_of(namespace);
        self.network.borrow_mut().unplug(index);
    }

    /// Joins a namespace to the network again; what was cut stays cut.
    ///
    /// # Panics
    /// When the namespace is not of this world.
    pub fn plug_in(&self, namespace: &NetNamespace) {
        let index = self.index_of(namespace);
        self.network.borrow_mut().plug_in(index);
    }

    /// What the wall clock says: [`WALL_CLOCK_START`] and what has passed since, if nobody has set it.
    pub fn wall_clock(&self) -> SystemTime {
        let network = self.network.borrow();
        let right = SystemTime::UNIX_EPOCH + WALL_CLOCK_START + network.clock;
        let wrong_by = Duration::from_secs(network.wall_clock_error.unsigned_abs());
        if network.wall_clock_error < 0 { right - wrong_by } else { right + wrong_by }
    }

    /// Sets the wall clock so many seconds before, or behind, what it should say.
    pub fn set_wall_clock(&self, seconds_ahead: i64) {
        self.network.borrow_mut().wall_clock_error = seconds_ahead;
    }

    /// Changes the faults from now on, as for a calm end.
    pub fn set_options(&self, options: WorldOptions) {
        self.network.borrow_mut().options = options;
    }

    /// What was really met so far.
    pub fn faults_met(&self) -> FaultsMet {
        self.network.borrow().met
    }

    /// The sockets that somebody still holds, in words. Empty at the end of a test, or there is a
    /// leak.
    pub fn open_sockets(&self) -> Vec<String> {
        self.network.borrow().open_sockets()
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.network.borrow().clock
    }

    /// A fingerprint of everything that happened, bytes by their number only: equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.network.borrow().digest
    }

    /// The seed it was made from.
    pub fn seed(&self) -> u64 {
        self.network.borrow().seed
    }

    pub(crate) fn now(&self) -> Instant {
        let network = self.network.borrow();
        network.start + network.clock
    }

    /// Has things happen: those of the passing microsecond, or with nothing ready those of the next
    /// moment at which something happens, no later than `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let wakes = {
            let mut network = self.network.borrow_mut();
            let now = network.clock;
            let idle = timeout != Some(Duration::ZERO);
            let until = match (idle, timeout.map(|timeout| now + timeout), network.next_event()) {
                (false, ..) => now + TURN,
                (true, Some(deadline), Some(event)) => deadline.min(event).max(now + TURN),
                (true, Some(deadline), None) => deadline,
                (true, None, Some(event)) => event.max(now + TURN),
                (true, None, None) => panic!(
                    "the simulation stands still at {now:?} (seed {:#x}): no task is ready, no timer \
                     is set and nothing is under way; open: {:#?}",
                    network.seed,
                    network.open_sockets()
                ),
            };
            network.advance(until);
            std::mem::take(&mut network.wakes)
        };
        self.deliver(wakes);
    }

    /// Any order of the tasks of a turn is allowed; a simulation tries many.
    pub(crate) fn order_turn(&self, tasks: &mut [TaskKey]) {
        let mut network = self.network.borrow_mut();
        if network.options.shuffle_tasks {
            network.random.shuffle(tasks);
        }
    }

    pub(crate) fn seed_of_runtime(&self) -> u64 {
        self.network.borrow_mut().random.next()
    }

    /// No borrow is held here: a waker may run anything.
    fn deliver(&self, wakes: Vec<(Rc<Watch>, Readiness)>) {
        for (watch, readiness) in wakes {
            watch.notify(readiness);
        }
    }

    fn index_of(&self, namespace: &NetNamespace) -> usize {
        let simulated = namespace.as_simulated().filter(|simulated| simulated.world == self.id);
        simulated.expect("a namespace of this world").index
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network.borrow();
        f.debug_struct("World")
            .field("seed", &format_args!("{:#x}", network.seed))
            .field("elapsed", &network.clock)
            .finish_non_exhaustive()
    }
}

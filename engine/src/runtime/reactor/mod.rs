//! The reactor: the one place where a shard waits.
//!
//! Two reactors for the kernel behind one interface, [`ring`] (io_uring) and [`epoll`], and with
//! the feature `sim` a simulated `World` in their place. All give edges: a watch is told once that
//! it became ready, and again only when that happens anew. All deliver into the same [`Watch`]es,
//! so nothing above this module knows which one runs.
//!
//! **Invariant:** none makes sockets, moves bytes or owns buffers. The kernel holds nothing of
//! ours but descriptors.

pub(super) mod choice;
mod epoll;
mod ring;
mod slice;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::choice::{ReactorChoice, ReactorKind, ReactorReport};
use self::epoll::Epoll;
pub use self::ring::RING_OPERATIONS;
use self::ring::Ring;
pub(crate) use self::slice::{SHARD_SLICE, ask_for_slice};
use super::counters::Counts;
use super::key::TaskKey;
use super::options::{RuntimeError, RuntimeOptions};
#[cfg(feature = "sim")]
use super::sim::World;
use super::wakeup::Wakeup;
use super::watch::{Token, Watch};

/// The reactor of one runtime.
pub(crate) enum Reactor {
    Epoll(Epoll),
    Ring(Box<Ring>),
    #[cfg(feature = "sim")]
    Sim(World),
}

impl Reactor {
    /// Makes the reactor that `options` ask for, of the runtime `id`; `wakeup` is the eventfd other
    /// threads write to.
    pub(crate) fn choose(
        options: &RuntimeOptions,
        id: u32,
        wakeup: &Wakeup,
        counts: &Rc<Counts>,
    ) -> Result<(Reactor, ReactorReport), RuntimeError> {
        let refused = match options.reactor {
            ReactorChoice::Epoll => "asked for".to_owned(),
            ReactorChoice::Auto | ReactorChoice::Ring => {
                match Ring::new(options.ring, id, wakeup, counts.clone()) {
                    Ok((ring, reason)) => {
                        let report = ReactorReport { kind: ReactorKind::Ring, reason };
                        return Ok((Reactor::Ring(Box::new(ring)), report));
                    }
                    Err(reason) => reason,
                }
            }
        };
        if options.reactor == ReactorChoice::Ring {
            let report = ReactorReport { kind: ReactorKind::Ring, reason: refused };
            return Err(RuntimeError::RingRefused(report));
        }
        let epoll = Epoll::new(id, wakeup).map_err(RuntimeError::Setup)?;
        let reason = match options.reactor {
            ReactorChoice::Epoll => refused,
            _ => format!("io_uring cannot be used: {refused}"),
        };
        Ok((Reactor::Epoll(epoll), ReactorReport { kind: ReactorKind::Epoll, reason }))
    }

    /// Watches a descriptor from now on: the first edge comes at once if it is ready already.
    pub(crate) fn register(
        &self,
        fd: BorrowedFd<'_>,
        watch: &Rc<Watch>,
    ) -> rustix::io::Result<Token> {
        match self {
            Reactor::Epoll(epoll) => epoll.register(fd, watch),
            Reactor::Ring(ring) => Ok(ring.register(fd, watch)),
            // A socket of the kernel in a simulation: nobody would ever hear of it.
            #[cfg(feature = "sim")]
            Reactor::Sim(_) => Err(rustix::io::Errno::OPNOTSUPP),
        }
    }

    /// Stops watching and closes.
    pub(crate) fn close(&self, token: Token, fd: OwnedFd) {
        match self {
            Reactor::Epoll(epoll) => epoll.close(token, fd),
            Reactor::Ring(ring) => ring.close(token, fd),
            #[cfg(feature = "sim")]
            Reactor::Sim(_) => drop(fd),
        }
    }

    /// Stops watching and gives the descriptor back.
    pub(crate) fn release(&self, token: Token, fd: OwnedFd) -> OwnedFd {
        match self {
            Reactor::Epoll(epoll) => epoll.release(token, fd),
            Reactor::Ring(ring) => ring.release(token, fd),
            #[cfg(feature = "sim")]
            Reactor::Sim(_) => fd,
        }
    }

    /// Whether the connections of this listener are accepted by the reactor; if so, they are from
    /// now on. It takes all that wait, so it stops where there is no `room` for them.
    pub(crate) fn accepts(&self, listener: Option<Token>, room: bool) -> bool {
        match (self, listener) {
            (Reactor::Ring(ring), Some(token)) => ring.accepts(token, room),
            _ => false,
        }
    }

    /// Has the reactor accept no more; whether it still might.
    pub(crate) fn stop_accepting(&self, listener: Option<Token>) -> bool {
        match (self, listener) {
            (Reactor::Ring(ring), Some(token)) => ring.stop_accepting(token),
            _ => false,
        }
    }

    /// Delivers what is ready; waits for it up to `timeout`, for ever without one.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        match self {
            Reactor::Epoll(epoll) => epoll.wait(timeout),
            Reactor::Ring(ring) => ring.wait(timeout),
            #[cfg(feature = "sim")]
            Reactor::Sim(world) => world.wait(timeout),
        }
    }

    /// The clock this reactor lives by.
    pub(crate) fn clock(&self) -> Instant {
        match self {
            Reactor::Epoll(_) | Reactor::Ring(_) => Instant::now(),
            #[cfg(feature = "sim")]
            Reactor::Sim(world) => world.now(),
        }
    }

    /// Chooses the order in which a turn polls its tasks; without a choice, as they became ready.
    pub(crate) fn order_turn(&self, _tasks: &mut [TaskKey]) {
        match self {
            Reactor::Epoll(_) | Reactor::Ring(_) => {}
            #[cfg(feature = "sim")]
            Reactor::Sim(world) => world.order_turn(_tasks),
        }
    }

    /// Takes back everything the kernel holds for this reactor.
    pub(crate) fn shut_down(&self) {
        match self {
            Reactor::Epoll(_) => {}
            Reactor::Ring(ring) => ring.shut_down(),
            #[cfg(feature = "sim")]
            Reactor::Sim(_) => {}
        }
    }
}

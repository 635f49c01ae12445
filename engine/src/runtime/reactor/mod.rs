//! The reactor: the one place where a shard waits.
//!
//! Two reactors for the kernel behind one interface: [`ring`] (io_uring) and [`epoll`]. Both give
//! edges: a source is told once that it became ready, and again only when that happens anew. Both
//! deliver into the same [`Source`]s, so nothing above this module knows which one runs.
//!
//! **Invariant:** neither makes sockets, moves bytes or owns buffers. The kernel holds nothing of
//! ours but descriptors.

mod epoll;

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::epoll::Epoll;
use super::executor::{RuntimeError, RuntimeOptions};
use super::local::Local;
use super::source::{Source, Token};
use super::task::TaskKey;

/// Which reactor a runtime shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReactorChoice {
    /// The ring if the kernel lets us and its self-test passes, otherwise epoll.
    #[default]
    Auto,
    /// io_uring, or an error that says what is in the way.
    Ring,
    /// epoll.
    Epoll,
}

/// Which reactor a runtime has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReactorKind {
    /// io_uring as the wait point.
    Ring,
    /// epoll as the wait point.
    Epoll,
}

impl fmt::Display for ReactorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReactorKind::Ring => "io_uring",
            ReactorKind::Epoll => "epoll",
        })
    }
}

/// Queue lengths of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Submission queue entries; halved, down to 256, while the kernel has no memory for them.
    pub submissions: u32,
    /// Completion queue entries. At least four times the submissions, unless a test wants overflow.
    pub completions: u32,
}

impl Default for RingSizes {
    fn default() -> Self {
        RingSizes { submissions: 1024, completions: 8192 }
    }
}

/// What was chosen and why; `Display` is the one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactorReport {
    kind: ReactorKind,
    reason: String,
}

impl ReactorReport {
    /// What was chosen.
    pub fn kind(&self) -> ReactorKind {
        self.kind
    }

    /// Why, in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for ReactorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reactor {}: {}", self.kind, self.reason)
    }
}

/// The reactor of one runtime.
pub(crate) enum Reactor {
    Epoll(Epoll),
}

impl Reactor {
    /// Makes the reactor that `options` ask for; `wakeup` is the eventfd other threads write to.
    pub(crate) fn choose(
        options: &RuntimeOptions,
        wakeup: &OwnedFd,
    ) -> Result<(Reactor, ReactorReport), RuntimeError> {
        let reason = match options.reactor {
            ReactorChoice::Epoll => "asked for".to_owned(),
            ReactorChoice::Auto => "io_uring is not built in".to_owned(),
            ReactorChoice::Ring => {
                let reason = "io_uring is not built in".to_owned();
                let report = ReactorReport { kind: ReactorKind::Epoll, reason };
                return Err(RuntimeError::RingRefused(report));
            }
        };
        let epoll = Epoll::new(wakeup).map_err(RuntimeError::Setup)?;
        Ok((Reactor::Epoll(epoll), ReactorReport { kind: ReactorKind::Epoll, reason }))
    }

    /// Watches a descriptor from now on: the first edge comes at once if it is ready already.
    pub(crate) fn register(
        &self,
        local: &Local,
        fd: BorrowedFd<'_>,
        source: &Rc<Source>,
    ) -> rustix::io::Result<Token> {
        match self {
            Reactor::Epoll(epoll) => epoll.register(local.id(), fd, source),
        }
    }

    /// Stops watching and closes.
    pub(crate) fn close(&self, token: Token, fd: OwnedFd) {
        match self {
            Reactor::Epoll(epoll) => epoll.close(token, fd),
        }
    }

    /// Stops watching and gives the descriptor back.
    pub(crate) fn release(&self, token: Token, fd: OwnedFd) -> OwnedFd {
        match self {
            Reactor::Epoll(epoll) => epoll.release(token, fd),
        }
    }

    /// Whether the connections of this listener are accepted by the reactor; if so, they now are.
    pub(crate) fn accepts(&self, _listener: Option<Token>) -> bool {
        match self {
            Reactor::Epoll(_) => false,
        }
    }

    /// Delivers what is ready; waits for it up to `timeout`, for ever without one.
    pub(crate) fn wait(&self, _local: &Local, timeout: Option<Duration>) {
        match self {
            Reactor::Epoll(epoll) => epoll.wait(timeout),
        }
    }

    /// The clock this reactor lives by.
    pub(crate) fn clock(&self) -> Instant {
        match self {
            Reactor::Epoll(_) => Instant::now(),
        }
    }

    /// The order in which a turn polls its tasks: as they became ready.
    pub(crate) fn order_turn(&self, _tasks: &mut [TaskKey]) {}

    /// Takes back everything the kernel holds for this reactor.
    pub(crate) fn shut_down(&self, _local: &Local) {}
}

//! The shard's runtime: one thread, one executor, one reactor, readiness first.
//!
//! A [`Runtime`] belongs to the thread that made it. Connections are tasks ([`spawn`]), time is a
//! wheel of milliseconds ([`sleep`], [`timeout`], [`now`]), sockets tell when they are ready and
//! the bytes move by plain non-blocking calls on ready sockets. Nothing in flight owns our memory,
//! so dropping a future at any await is always safe.
//!
//! ```text
//!  block_on ──▶ turn: poll what was ready at its start ──▶ turn-end hooks ──▶ reactor ──▶ timers ┐
//!               ▲                                                                                │
//!               └────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each file knows those below it only:
//!
//! ```text
//!  net, splice                sockets and pipes
//!  socket, netns, cookie      where they are made
//!  executor                   the loop
//!  task, time, watched        spawning, timers, readiness: what waits
//!  local                      what one thread's runtime owns
//!  tasks, reactor, wheel      what it runs, where it waits, until when
//!  waker                      ready, or from elsewhere remote
//! ```
//!
//! The reactor is chosen once, at start: `ring` (io_uring as the wait point) or `epoll`, behind one
//! interface and held to the same tests, because io_uring is forbidden in many containers. With the
//! feature `sim` there is a third: a seeded network with a virtual clock.
//!
//! **Invariants**
//! * A shard never blocks: every descriptor is non-blocking and no lock is taken.
//! * A socket of a workload is made by `socket(2)` inside that workload's network namespace, and is
//!   refused when the kernel's namespace cookie says otherwise.
//! * What the kernel may still hand over after its waiter has left (an accepted descriptor, a
//!   readiness) is closed or ignored by the reactor, never leaked and never given to somebody else.
//! * A task that panics loses its own connection and nothing else.

mod cookie;
mod counters;
mod current;
mod descriptors;
mod executor;
#[cfg(feature = "sim")]
mod inside;
mod key;
mod local;
mod mailbox;
mod net;
mod netns;
mod options;
mod pulse;
mod random;
mod reactor;
mod readiness;
mod ready;
mod remote;
mod scratch;
#[cfg(feature = "sim")]
mod sim;
mod socket;
mod splice;
mod task;
mod tasks;
mod time;
mod waker;
mod wakeup;
mod watch;
mod watched;
mod wheel;

pub use counters::Counters;
pub use descriptors::{DESCRIPTOR_RESERVE, descriptors_max};
pub use executor::Runtime;
pub use local::{TurnEnd, at_turn_end, counters, random};
pub use mailbox::{MailReceiver, MailSender, TrySendError, mailbox};
pub(crate) use net::Holds;
pub use net::{
    ConnectOptions, DetachedStream, Keepalive, ListenOptions, PeerPatience, TcpListener, TcpStream,
    UdpOptions, UdpSocket, UnixListener, UnixSeqpacket, UnixStream, check_listener,
};
pub use netns::NetNamespace;
pub use options::{RuntimeError, RuntimeOptions};
pub use pulse::Pulse;
pub use reactor::RING_OPERATIONS;
pub use reactor::choice::{ReactorChoice, ReactorKind, ReactorReport, RingSizes};
pub(crate) use reactor::{SHARD_SLICE, ask_for_slice};
pub use ready::{Tenant, moved_bytes, visit_bytes_max};
pub use scratch::{SCRATCH_BYTES, scratch};
#[cfg(feature = "sim")]
pub use sim::{FaultsMet, WALL_CLOCK_START, World, WorldOptions};
pub use splice::{Pipe, PipePool, splice_in, splice_out};
pub use task::{Task, spawn, spawn_for, spawn_for_shard};
pub use tasks::TaskEnd;
pub use time::{Elapsed, Sleep, Timeout, YieldNow, now, sleep, sleep_until, timeout, yield_now};

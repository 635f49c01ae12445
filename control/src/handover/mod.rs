//! Hand-over: a running node starts its successor and gives it everything that lives.
//!
//! ```text
//!   predecessor                                   successor (its child, on a socket pair)
//!   start ─────────────────────────────────────▶  exec
//!                                     hello ◀──   which version of this protocol
//!   inheritance, workload…, complete ──────────▶  descriptors: servers, namespaces, listening sockets
//!        serves on                                configuration, certificates, engine
//!                                     ready ◀──   everything but the word
//!   serve ─────────────────────────────────────▶  accepts
//!                                   serving ◀──
//!   accepts no more, tells the service manager
//!   succeeded ─────────────────────────────────▶  is the node now
//!   connections ───────────────────────────────▶
//!                                     taken ◀──   then relays them     (again and again)
//!   tunnels drained, ends
//! ```
//!
//! * `channel`: frames with descriptors on the socket pair.
//! * `message`: what is said, and how it is written.
//! * `predecessor`, `successor`: the two sides.
//! * [`control_socket`]: where `ringway handover` asks for it.
//!
//! **Invariant:** until `serving` has come, nothing has changed, neither of the predecessor nor of any rule: whatever goes
//! wrong, the successor is ended and the predecessor goes on. Only parent and child have the channel; there is no path anybody
//! else could connect to.
//!
//! **Invariant:** a connection is relayed by one process at a time. The successor says `taken` before it relays, the
//! predecessor goes on itself only when that was not said and can no longer be: then it says `taken back`, so that a
//! successor that wakes up late knows it from a predecessor that has died.

pub(crate) mod channel;
pub mod control_socket;
pub(crate) mod message;
pub(crate) mod predecessor;
pub(crate) mod successor;

/// The version of the protocol; two processes that differ in it do not hand over.
pub const PROTOCOL: u32 = 2;

/// Set for the successor: its standard input is the channel. The value is the predecessor's [`PROTOCOL`].
pub const VARIABLE: &str = "RINGWAY_HANDOVER";

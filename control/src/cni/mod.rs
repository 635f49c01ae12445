//! The agent of a CNI plugin tells which pods are on this host, and hands over their network namespaces.
//!
//! ```text
//!   agent ── packet, descriptor ──▶ socket ─▶ message ─▶ session ── job ──▶ whoever runs pods
//!         ◀──────── answer ──────── socket ◀──────────── session ◀─ outcome ─┘
//!                                      └────── driver ──────┘
//! ```
//!
//! The protocol is Istio's: one message per packet on a SEQPACKET socket on which the agent listens. We greet once, and
//! from then on say nothing but one answer to each request, in order. A request to serve a pod is answered when its
//! listeners are bound, because the agent lets a pod start when it hears that.
//!
//! `Session` is the machine, without I/O; [`drive`] connects it. Pods outlive connections: an agent that comes back
//! tells all it knows, and what it then does not name is stopped.
//!
//! **Invariant:** whatever the agent does wrong ends its connection at most, never the process and no pod.
//! **Invariant:** a descriptor is held by a pod that runs or waits to be started, and by nothing else.

mod backoff;
mod driver;
pub mod message;
mod session;
mod socket;

#[cfg(test)]
mod tests;

pub use self::driver::{Pods, drive};
pub use self::message::PodInfo;
pub use self::session::{Job, Outcome, PodSeen, Seen};
pub use self::socket::Namespace;

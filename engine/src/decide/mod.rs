//! Decisions: pure functions from a [`Snapshot`](crate::snapshot::Snapshot) and a question to an answer or a [`Refusal`].
//!
//! Nothing here waits, logs, reads a clock or throws dice: chance comes in as a number. The same question
//! about the same snapshot has the same answer, on every shard.
//!
//! * [`outbound()`]: a workload connects somewhere; where do its bytes go, and in what?
//! * [`outbound_except`]: the same, after some of the answers could not be dialled.
//! * [`missing()`]: what must be asked about before that can be said?
//! * [`inbound_tunnel`]: a peer asks through HBONE to be connected; to what?
//! * [`missing_inbound`]: and what must be asked about before that?
//! * [`inbound_plaintext`]: somebody connects to a workload without a tunnel.
//! * `fronted`: what a waypoint is asked for; `behind_waypoint`: where it sends that.
//! * [`authorize()`]: do policies let an inbound connection in?
//! * [`inbound_service`]: which service did an inbound connection mean? (Telemetry only.)
//!
//! **Invariant:** what the snapshot knows to be in the mesh is never sent to in plaintext unless it is said
//! to be reached so, and a waypoint that cannot be found is never bypassed: both are refused.
//!
//! **Invariant:** a workload that names a policy nobody has told us of lets nobody in.

mod address;
mod authorize;
mod balance;
mod chance;
#[cfg(feature = "waypoint")]
mod fronted;
mod inbound;
mod missing;
mod outbound;
mod refusal;
mod upstream;

pub use self::authorize::{DryRun, Matched, Verdict, authorize};
pub use self::inbound::{InboundTarget, inbound_plaintext, inbound_service, inbound_tunnel};
pub use self::missing::{missing, missing_inbound};
pub use self::outbound::{NextHop, Route, outbound, outbound_except};
pub use self::refusal::Refusal;
#[cfg(feature = "waypoint")]
pub use self::{
    fronted::{Fronted, fronted, fronts},
    outbound::{behind_waypoint, chosen_behind_waypoint, workload_behind_waypoint},
};
pub use crate::snapshot::Facts;

#[cfg(test)]
mod tests;

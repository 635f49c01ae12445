//! The data plane: a shard-per-core runtime and, on it, the story of a connection.
//!
//! ```text
//!  capture ─▶ outbound ─▶ decide ─▶ tunnel ─▶ relay        what a workload here opens
//!          └▶ inbound  ─▶ decide ─▶ dial   ─▶ relay        what comes in for it
//!                    everything on one shard: shard ─▶ runtime
//! ```
//!
//! Read [`outbound`](self) first. Control drives it all through [`Engine`].
//!
//! **Invariant:** nothing on a shard is shared with another but what [`Engine`] names: the published
//! snapshot, the telemetry cells, the placement table and the mailboxes. No lock is taken on the path
//! of a connection.

mod accounts;
#[cfg(feature = "sim")]
mod alive;
mod buffers;
mod capture;
mod carry;
pub mod close;
mod config;
mod connect;
mod connection;
pub mod decide;
mod drain;
mod engine;
mod handover;
mod handshakes;
mod hash;
mod hook;
mod inbound;
mod inner;
pub mod limits;
mod outbound;
mod parting;
mod placement;
mod publish;
mod rate;
mod reach;
mod rejudge;
mod relay;
mod role;
pub mod runtime;
mod shard;
#[cfg(feature = "sim")]
pub mod sim;
mod single;
pub mod snapshot;
mod socks5;
mod spike;
mod sync;
pub mod telemetry;
mod tries;
mod tunnel;
mod wanted;
#[cfg(feature = "waypoint")]
mod waypoint;

#[cfg(feature = "waypoint")]
pub use self::role::GatewayRole;
pub use self::{
    accounts::{Limit, LimitReached},
    capture::EnrollError,
    config::{EngineConfig, OriginalSource, OutOfRange, PACKET_MARK, Ports, TunnelOptions},
    connection::{Carrier, MovedConnection, OpenConnection},
    drain::DrainReport,
    engine::{Engine, StartError},
    handover::{ListeningWorkload, Way},
    hook::ShardHook,
    relay::{DirectionState, Observer, RelayState, relay_plain},
    role::Role,
};

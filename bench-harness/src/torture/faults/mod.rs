//! Faults survived.

mod abort;
mod authority;
mod backend;
mod clock;
mod death;
mod log;
mod memory;
mod network;
mod plane;
mod reuse;
mod revoke;
mod stuck;
mod swap;

pub(super) use self::abort::aborts;
pub(super) use self::authority::{authority_away, rotation};
pub(super) use self::backend::{backends, half_open};
pub(super) use self::clock::clock;
pub(super) use self::death::kill;
pub(super) use self::log::stuck_log;
pub(super) use self::memory::memory;
pub(super) use self::network::bad_network;
pub(super) use self::plane::plane_away;
pub(super) use self::reuse::reuse;
pub(super) use self::revoke::revoke;
pub(super) use self::stuck::stuck;
pub(super) use self::swap::swaps;

//! Load held.

mod churn;
mod descriptors;
mod idle;
mod slow;
mod storm;
mod tenants;
mod workloads;

pub(super) use self::churn::churn;
pub(super) use self::descriptors::descriptors;
pub(super) use self::idle::{idle, idle_tunnels};
pub(super) use self::slow::slow;
pub(super) use self::storm::storm;
pub(super) use self::tenants::{noisy, starved};
pub(super) use self::workloads::come_and_go;

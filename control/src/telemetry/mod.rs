//! What is told to the outside: the log, access lines, metrics.

pub mod access_log;
pub mod decisions;
pub mod exposition;
pub mod log;
pub mod metrics;
#[cfg(feature = "waypoint")]
pub mod mirrors;
pub mod process;
#[cfg(feature = "waypoint")]
pub mod requests;
#[cfg(feature = "waypoint")]
pub mod traces;

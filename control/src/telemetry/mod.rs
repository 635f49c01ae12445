//! What is told to the outside: the log, access lines, metrics.

pub mod access_log;
pub mod dry_run;
pub mod exposition;
pub mod log;
pub mod metrics;
pub mod process;
#[cfg(feature = "waypoint")]
pub mod requests;
#[cfg(feature = "waypoint")]
pub mod traces;

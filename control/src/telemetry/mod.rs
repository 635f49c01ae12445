//! What is told to the outside: the log, access lines, metrics.

pub mod exposition;
pub mod log;

//! The data plane: a shard-per-core runtime and, on it, the story of a connection.

pub mod decide;
pub mod runtime;
pub mod snapshot;

//! tmp
pub mod readiness;
pub mod server;

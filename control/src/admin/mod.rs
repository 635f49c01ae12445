//! tmp
pub mod config_dump;
pub mod readiness;
pub mod server;

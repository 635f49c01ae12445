//! Bytes to events and back, without I/O.
//!
//! Every protocol Ringway speaks is here as a plain state machine: it is fed bytes and the time, and returns events,
//! bytes to send and errors.
//!
//! **Invariant:** nothing in this crate opens a socket, reads a clock, starts a thread, logs, or uses `unsafe`.
#![forbid(unsafe_code)]

pub mod bounds;
pub mod dns;
pub mod hbone;
pub mod identity;
pub mod proxy_protocol;
pub mod socks5;
pub mod tls;

//! What a waypoint decides about HTTP: which rule a request meets, what is changed on it, who may, how often, and
//! what is tried again.
//!
//! ```text
//!  control: YAML or xDS ─▶ model ─▶ Tables::compile ─▶ (published with the snapshot) ─▶ engine::waypoint asks
//! ```
//!
//! Two forms of the same thing: [`model`] is what a loader fills in, plain and complete; the [`tables`] are what a
//! shard asks for each request, made once.
//!
//! **Invariant:** nothing here does I/O, reads a clock, draws a random number or logs; time and chance are arguments. What a client
//! sends never panics and never costs more than a bound says.
//!
//! **Invariant:** the node role links nothing of this crate.

pub mod authorize;
pub mod balance;
pub mod breaker;
pub mod budget;
mod descriptor;
pub mod fault;
pub mod filter;
pub mod grpc;
pub mod head;
pub mod model;
pub mod outlier;
pub mod outside;
pub mod path;
pub mod policies;
pub mod rate;
pub mod retry;
pub mod session;
pub mod tables;
pub mod token;
pub mod trace;

pub use self::head::RequestHead;
pub use self::tables::{Attached, Found, Tables};

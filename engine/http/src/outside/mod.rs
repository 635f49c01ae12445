//! What services outside are asked about a request, and what their answers mean: external authorizers, in Envoy's
//! protocols over gRPC and HTTP, and Envoy's rate limit service.
//!
//! ```text
//!  a request ─▶ Check / Ask ─▶ bytes ─▶ (the engine carries them) ─▶ bytes ─▶ Verdict / Answer ─▶ changes to heads
//! ```
//!
//! **Invariant:** what cannot be understood is never a yes.

pub mod authorization;
mod changes;
pub mod limits;
mod query;

use std::fmt;

pub use self::changes::HeaderChanges;
pub use self::query::QueryChanges;

/// Messages of an external authorizer.
#[expect(
    unreachable_pub,
    clippy::enum_variant_names,
    reason = "generated; proto/authorization.proto says it"
)]
mod authorization_proto {
    include!(concat!(env!("OUT_DIR"), "/authorization.rs"));
}

/// Messages of a rate limit service.
#[expect(unreachable_pub, reason = "generated; proto/ratelimit.proto says it")]
mod ratelimit_proto {
    include!(concat!(env!("OUT_DIR"), "/ratelimit.rs"));
}

/// Why an answer is as good as none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no message of this service.
    Message(String),
    /// The service says itself that something is wrong.
    Failed(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Message(why) => write!(f, "its answer cannot be read: {why}"),
            Unreadable::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unreadable {}

//! What the headers of a tunnel say: the CONNECT request, its answer, and the values they carry.
//!
//! Reading is tolerant where a peer may be careless (telemetry headers) and strict where it may be
//! hostile (the target, and everything RFC 9113 §8.2 and §8.3 call malformed). Writing is exact:
//! what we write, we read back.

mod authority;
mod baggage;
mod connect;
mod fields;
mod forwarded;
mod traceparent;

pub use authority::{Authority, AuthorityError};
pub use baggage::{Baggage, WorkloadType};
pub use connect::{ConnectRequest, ConnectResponse};
pub(crate) use connect::{RequestReader, ResponseReader, check_trailer};
pub use fields::{FieldError, MalformedRequest};
pub use forwarded::Forwarded;
pub use traceparent::Traceparent;

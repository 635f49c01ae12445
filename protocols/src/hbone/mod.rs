//! HBONE: tunnels for TCP connections over HTTP/2 CONNECT (RFC 9113, RFC 9110 §9.3.6), both roles,
//! without I/O.
//!
//! A [`Connection`] is fed the plaintext of TLS records and the time. It returns [`Event`]s, and
//! queues the frames it wants to send. Payload is never copied and never kept: a [`Event::Data`]
//! says where in the caller's slice it lies, and for sending the machine only writes the nine bytes
//! before it.
//!
//! ```text
//! frame      what lies on the wire                 stream      what is kept about a stream
//! hpack      header compression                    flow        windows
//! headers    what the headers of a tunnel say      budget      every bound, and who exceeds them
//! code       how streams end, in codes and sockets   connection  the machine itself
//! error      whose fault it is                        settings    what each side asks of the other
//! ```
//!
//! **Invariant:** of HTTP there is exactly one method here, CONNECT. No request body, no push, no
//! priorities, and no way to reach the headers of an application's own HTTP.

pub mod budget;
mod code;
mod connection;
mod error;
mod flow;
pub mod frame;
mod headers;
pub mod hpack;
mod settings;
mod stream;

pub use budget::RETAINED_BYTES_MAX;
pub use code::{ErrorCode, LocalEnd, StreamEnd};
pub use connection::{Connection, Event, OpenError};
pub use error::{Abuse, Error, Misbehaviour, Silence};
pub use frame::HEAD_BYTES as FRAME_HEADER_BYTES;
pub use headers::{
    Authority, AuthorityError, Baggage, ConnectRequest, ConnectResponse, FieldError, Forwarded,
    MalformedRequest, Traceparent, WorkloadType,
};
pub use settings::Settings;
pub use stream::StreamId;

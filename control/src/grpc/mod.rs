//! Connections to a control plane: gRPC over HTTP/2 over TLS 1.3, and what every call on them carries.
//!
//! ```text
//!   Endpoint ── connect() ──▶ resolve ─▶ TCP ─▶ TLS (roots read now) ─▶ HTTP/2 ──▶ Channel
//!                                                                                   │ each call:
//!                                        authorization (token read now), clusterid, headers
//! ```
//!
//! A [`Channel`] is one connection and no more: it does not connect again. Whoever uses it knows what a lost connection
//! means for them, when to try again, and that the roots and the token are read anew by then.
//!
//! **Invariant:** a server is believed only with a certificate that leads to the [`Roots`] and names the host that was
//! dialled, or the one alternative. `http://` has neither and is for tests and for servers on the same host.

mod address;
mod channel;
mod connect;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod roots;
#[cfg(test)]
mod tests;
mod token;
mod verifier;

pub use self::address::Address;
pub use self::channel::Channel;
#[cfg(feature = "waypoint")]
pub(crate) use self::connect::connect_http1;
pub use self::connect::{connect, connect_unix};
pub use self::error::GrpcError;
pub(crate) use self::error::lost;
pub use self::roots::Roots;
#[cfg(feature = "waypoint")]
pub(crate) use self::roots::system_roots;
pub use self::token::TokenSource;
pub(crate) use self::token::{TOKEN_FILE, no_token};

use hyper::header::{HeaderName, HeaderValue};

/// The largest message that is read: 100,000 workloads in one response fit.
pub const MESSAGE_BYTES_MAX: usize = 200 << 20;

/// Names that the protocol sets itself.
const RESERVED: [&str; 6] =
    ["authorization", "clusterid", "connection", "content-type", "host", "te"];

/// A server of the control plane, and what it is told about us.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where it is.
    pub uri: Address,
    /// Who may sign for it.
    pub roots: Roots,
    /// A name that its certificate may have instead of the host's.
    pub alternative_hostname: Option<String>,
    /// Who we are; without one neither it nor the cluster is told.
    pub token: Option<TokenSource>,
    /// The cluster whose token it is.
    pub cluster_id: String,
    /// What every call carries besides, see [`header`].
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether keys are agreed on by X25519MLKEM768 alone.
    pub post_quantum_only: bool,
}

/// A header for [`Endpoint::headers`].
///
/// # Errors
/// [`GrpcError::Header`], when HTTP/2 cannot carry it or the protocol sets it itself.
pub fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), GrpcError> {
    let refused = |why| GrpcError::Header { name: name.to_owned(), why };
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refused("its name has characters that no header has"))?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
        return Err(refused("the protocol sets it itself"));
    }
    if name.as_str().ends_with("-bin") {
        return Err(refused("its name ends in `-bin`, which gRPC keeps for binary values"));
    }
    let value = HeaderValue::from_str(value)
        .map_err(|_| refused("its value has characters that no header has"))?;
    Ok((name, value))
}

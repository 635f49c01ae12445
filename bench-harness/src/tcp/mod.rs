//! TCP servers and a client for what HTTP does not show: half-close, resets, digests, silence.

mod client;
mod server;

pub use self::client::{Tcp, TcpOutcome};
pub use self::server::{Behaviour, Server};

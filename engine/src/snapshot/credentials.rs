//! What an identity proves itself with.

/// The key, chain and trust anchors of one identity, ready for handshakes.
pub type Credentials = ringway_protocols::tls::Credentials;

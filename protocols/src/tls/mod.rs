//! Mutual TLS 1.3 between the hosts of a mesh, without I/O; and whom clients of other servers believe ([`Origination`]).
//!
//! ```text
//!  Credentials ─▶ Handshake ──advance()…──▶ Complete ──finish()──▶ Records ──seal() / open()
//! ```
//!
//! rustls shakes hands; the traffic keys then move to [`Records`], which seals and opens in the caller's
//! own buffers, so that a byte is not copied for TLS.
//!
//! **Invariant:** a session that is resumed is judged like one that is new, by what its peer showed in
//! the first one. One that goes on is judged again by [`Records::judge_again`] when what its peer is judged
//! by has changed.

pub mod bounds;
mod connection;
mod credentials;
mod error;
mod handshake;
mod leaf;
mod options;
mod origination;
mod peer;
mod records;
mod revocation;
mod tickets;
mod trust;
mod verifier;

pub use self::{
    bounds::{REVOCATION_BYTES_MAX, REVOCATION_LISTS_MAX},
    credentials::{Credentials, Material},
    error::{Error, Misbehaviour},
    handshake::{Handshake, Progress},
    leaf::LeafNames,
    options::{Options, RecordLayer},
    origination::{AlternativeName, Belief, Origination},
    records::{
        Opened, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_BYTES_MAX, RECORD_TRAILER_BYTES, Records,
    },
    revocation::{RevocationLists, lists_in_pem},
};

/// Draws from the thread's random generator, so that its first handshake does not pay for seeding it.
pub fn warm_up() {
    let mut byte = [0];
    // A generator that fails now fails in the handshake too, where it can be reported.
    let _ = aws_lc_rs::rand::fill(&mut byte);
}

//! What can go wrong in TLS, by whose fault.

use std::fmt;

use rustls::{AlertDescription, CertificateError, OtherError};

/// Each reads as a sentence for the operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// Our own key, chain or trust anchors cannot be used.
    Credentials(String),
    /// The handshake failed; the text is the TLS library's.
    Handshake(rustls::Error),
    /// The peer ended the connection with this alert.
    PeerAlert(AlertDescription),
    /// The peer broke the record protocol.
    PeerMisbehaved(&'static str),
    /// A record did not open: it was altered on the way, or sealed with another key.
    BadRecord,
    /// No more records may be sealed with these keys and they could not be renewed.
    KeysExhausted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(why) => write!(f, "own credentials cannot be used: {why}"),
            // What our own verifier says reads better without the library's wrapping.
            Self::Handshake(rustls::Error::InvalidCertificate(CertificateError::Other(
                OtherError(why),
            ))) => write!(f, "{why}"),
            Self::Handshake(error) => write!(f, "{error}"),
            Self::PeerAlert(alert) => write!(f, "the peer sent the alert {alert:?}"),
            Self::PeerMisbehaved(how) => write!(f, "the peer broke TLS: {how}"),
            Self::BadRecord => {
                f.write_str("a record did not open: altered, or sealed with another key")
            }
            Self::KeysExhausted => f.write_str("the traffic keys are exhausted"),
        }
    }
}

impl std::error::Error for Error {}

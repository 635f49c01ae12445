//! What can go wrong in TLS, by whose fault, and the alert that tells the peer.

use std::fmt;

use rustls::{AlertDescription, CertificateError, OtherError};

/// Each reads as a sentence for the operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// Our own key, chain or trust anchors cannot be used.
    Credentials(String),
    /// Revocation lists that cannot be used; nothing is held against them.
    Revocation(String),
    /// The two sides have no cipher suite, version or such in common, or the peer broke the handshake;
    /// the text is the TLS library's.
    Handshake(rustls::Error),
    /// The peer's certificate is not one we accept.
    PeerUntrusted(CertificateError),
    /// The peer did not agree to speak HTTP/2 inside the session: it is no HBONE peer.
    PeerWithoutHttp2,
    /// The peer ended the connection with this alert.
    PeerAlert(AlertDescription),
    /// The peer broke the record protocol.
    PeerMisbehaved(Misbehaviour),
    /// A record did not open: it was altered on the way, or sealed with another key.
    BadRecord,
    /// No more records may be sealed with this key, and nobody took the key update that renews it.
    KeysExhausted,
    /// This side has closed the session and cannot seal any more.
    Closed,
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It closed before the handshake was complete.
    ClosedInHandshake,
    /// It sent data before the handshake was complete.
    DataInHandshake,
    /// Its handshake takes more bytes than any honest one.
    HandshakeTooLong,
    /// It showed a longer chain of certificates than is kept of a peer.
    ChainTooLong,
    /// A record of a type that has no place behind the handshake.
    WrongRecordType,
    /// A record longer than RFC 8446 §5.2 allows.
    RecordTooLong,
    /// A record of nothing but padding.
    NoContentType,
    /// An alert or a handshake message without a byte in it.
    EmptyMessage,
    /// Many records in a row that carry no data.
    RecordsWithoutData,
    /// A handshake message was cut by a record of another type.
    MessageInterrupted,
    /// A handshake message longer than any that may come behind the handshake.
    MessageTooLong,
    /// A handshake message that has no place behind the handshake.
    UnexpectedMessage,
    /// A key update that does not end its record.
    KeyUpdateNotAlone,
    /// A key update that is neither wanted nor not wanted.
    MalformedKeyUpdate,
    /// An alert that is not two bytes long.
    MalformedAlert,
    /// It used one key for more records than is safe, though it was asked to renew it.
    KeyNotRenewed,
    /// Something came behind what already had ended the session.
    AfterTheEnd,
}

impl Error {
    /// Whether the peer's certificate, or one above it, was revoked.
    pub fn is_revocation(&self) -> bool {
        matches!(self, Self::PeerUntrusted(CertificateError::Revoked))
    }

    /// Whether the peer's certificate, or one above it, is past its end.
    pub fn is_expiry(&self) -> bool {
        use CertificateError::{Expired, ExpiredContext};
        matches!(self, Self::PeerUntrusted(Expired | ExpiredContext { .. }))
    }

    /// What tells the peer. `None` when there is nothing to tell, or nobody to tell it to.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        use AlertDescription as Alert;
        match self {
            Self::PeerUntrusted(why) => Some(why.clone().into()),
            Self::PeerWithoutHttp2 => Some(Alert::NoApplicationProtocol),
            Self::PeerMisbehaved(how) => how.alert(),
            Self::BadRecord => Some(Alert::BadRecordMac),
            Self::Handshake(_) => Some(Alert::DecodeError),
            Self::Credentials(_) | Self::Revocation(_) | Self::KeysExhausted => {
                Some(Alert::InternalError)
            }
            Self::PeerAlert(_) | Self::Closed => None,
        }
    }
}

impl Misbehaviour {
    fn alert(self) -> Option<AlertDescription> {
        use AlertDescription as Alert;
        match self {
            Self::RecordTooLong => Some(Alert::RecordOverflow),
            Self::MalformedKeyUpdate => Some(Alert::IllegalParameter),
            Self::MalformedAlert | Self::MessageTooLong | Self::HandshakeTooLong => {
                Some(Alert::DecodeError)
            }
            Self::ChainTooLong => Some(Alert::BadCertificate),
            Self::WrongRecordType
            | Self::DataInHandshake
            | Self::NoContentType
            | Self::EmptyMessage
            | Self::RecordsWithoutData
            | Self::MessageInterrupted
            | Self::UnexpectedMessage
            | Self::KeyUpdateNotAlone
            | Self::KeyNotRenewed => Some(Alert::UnexpectedMessage),
            Self::ClosedInHandshake | Self::AfterTheEnd => None,
        }
    }
}

impl From<Misbehaviour> for Error {
    fn from(how: Misbehaviour) -> Self {
        Self::PeerMisbehaved(how)
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::PeerAlert(alert),
            rustls::Error::InvalidCertificate(why) => Self::PeerUntrusted(why),
            rustls::Error::NoApplicationProtocol => Self::PeerWithoutHttp2,
            rustls::Error::DecryptError => Self::BadRecord,
            rustls::Error::PeerSentOversizedRecord => Misbehaviour::RecordTooLong.into(),
            other => Self::Handshake(other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(why) => write!(f, "own credentials cannot be used: {why}"),
            Self::Revocation(why) => write!(f, "revocation lists cannot be used: {why}"),
            Self::Handshake(error) => write!(f, "TLS handshake failed: {error}"),
            // What our own verifier says reads better without the library's wrapping.
            Self::PeerUntrusted(CertificateError::Other(OtherError(why))) => write!(f, "{why}"),
            Self::PeerUntrusted(why) => write!(f, "the peer's certificate is refused: {why}"),
            Self::PeerWithoutHttp2 => f.write_str("the peer does not speak h2 inside TLS (ALPN)"),
            Self::PeerAlert(alert) => write!(f, "the peer sent the alert {alert:?}"),
            Self::PeerMisbehaved(how) => write!(f, "the peer broke TLS: {how}"),
            Self::BadRecord => {
                f.write_str("a record did not open: altered, or sealed with another key")
            }
            Self::KeysExhausted => f.write_str("the traffic key is exhausted"),
            Self::Closed => f.write_str("the session is closed"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClosedInHandshake => "it closed during the handshake",
            Self::DataInHandshake => "data before the handshake was complete",
            Self::HandshakeTooLong => "a handshake of too many bytes",
            Self::ChainTooLong => "a certificate chain that is too long",
            Self::WrongRecordType => "a record of the wrong type",
            Self::RecordTooLong => "a record that is too long",
            Self::NoContentType => "a record without a content type",
            Self::EmptyMessage => "a message without a byte",
            Self::RecordsWithoutData => "too many records without data in a row",
            Self::MessageInterrupted => "a message interrupted by another record",
            Self::MessageTooLong => "a handshake message that is too long",
            Self::UnexpectedMessage => "an unexpected handshake message",
            Self::KeyUpdateNotAlone => "something behind a key update in its record",
            Self::MalformedKeyUpdate => "a malformed key update",
            Self::MalformedAlert => "a malformed alert",
            Self::KeyNotRenewed => "a key used for too many records",
            Self::AfterTheEnd => "something behind the end of the session",
        })
    }
}

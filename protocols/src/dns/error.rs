//! What can be wrong with a message.

use std::fmt;

use super::ResponseCode;

/// Why a message is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It ends too early.
    Short,
    /// It is longer than a query may be.
    Long,
    /// It is a response where a query is expected, or the other way round.
    Direction,
    /// It is about something else than asking: a notification, an update of a zone.
    Operation(u8),
    /// It has another number of questions than one.
    Questions(u16),
    /// A name in it is longer than names are, points forwards, or has a label of a kind that nobody uses.
    Name,
    /// Its OPT record is there twice, or is not where it belongs.
    Options,
    /// It is of a version of EDNS that is not spoken here.
    Version(u8),
    /// It answers another question than was asked.
    NotOurs,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Short => f.write_str("the message ends too early"),
            Error::Long => f.write_str("the message is longer than a query may be"),
            Error::Direction => f.write_str("the message goes the wrong way"),
            Error::Operation(code) => write!(f, "operation {code} is not a query"),
            Error::Questions(count) => {
                write!(f, "the message has {count} questions instead of one")
            }
            Error::Name => f.write_str("a name in the message is malformed"),
            Error::Options => f.write_str("the options of the message are malformed"),
            Error::Version(version) => write!(f, "EDNS version {version} is not spoken here"),
            Error::NotOurs => f.write_str("the message answers another question"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What a client is told.
    pub(super) fn code(self) -> ResponseCode {
        match self {
            Error::Operation(_) => ResponseCode::NotImplemented,
            Error::Version(_) => ResponseCode::BadVersion,
            _ => ResponseCode::FormatError,
        }
    }
}

/// A client's message that is no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong with it.
    pub error: Error,
    /// What the client is told. Nothing when the message has no header, or is itself a response: to answer those
    /// would let one forged packet keep two servers busy for ever.
    pub reply: Option<Vec<u8>>,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Malformed {}

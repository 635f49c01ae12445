//! The rules every header section of HTTP/2 has to keep (RFC 9113 §8.2 and §8.3), and what breaking
//! them means.

use std::fmt;

use super::AuthorityError;

/// Why a request was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedRequest {
    /// The method is not CONNECT. Answered 400.
    MethodNotConnect,
    /// There is no `:authority`. Answered 400.
    AuthorityMissing,
    /// The `:authority` is not one we accept. Answered 400.
    AuthorityInvalid(AuthorityError),
    /// The header list is longer than announced. Answered 431.
    HeaderListTooLarge,
    /// The header section is malformed. Answered with RST_STREAM(PROTOCOL_ERROR) (RFC 9113 §8.1.1).
    Field(FieldError),
}

impl MalformedRequest {
    /// The status of the answer, if it was one with a status.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::MethodNotConnect | Self::AuthorityMissing | Self::AuthorityInvalid(_) => {
                Some(400)
            }
            Self::HeaderListTooLarge => Some(431),
            Self::Field(_) => None,
        }
    }
}

impl fmt::Display for MalformedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MethodNotConnect => f.write_str("the method is not CONNECT"),
            Self::AuthorityMissing => f.write_str("the request has no authority"),
            Self::AuthorityInvalid(error) => error.fmt(f),
            Self::HeaderListTooLarge => f.write_str("the header list is too large"),
            Self::Field(error) => error.fmt(f),
        }
    }
}

/// The ways in which a header section is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// A name is empty or holds capitals, colons or other bytes that no name may hold (RFC 9113
    /// §8.2.1).
    NameInvalid,
    /// A value holds NUL, CR or LF, or has white space at an end (RFC 9113 §8.2.1).
    ValueInvalid,
    /// A field about the connection, which HTTP/2 does not have (RFC 9113 §8.2.2).
    ConnectionSpecific,
    /// A pseudo-header after a field (RFC 9113 §8.3).
    PseudoAfterField,
    /// A pseudo-header that does not exist, or not here (RFC 9113 §8.3).
    PseudoUnknown,
    /// A pseudo-header twice (RFC 9113 §8.3).
    PseudoRepeated,
    /// A pseudo-header that had to be there (RFC 9113 §8.3.1, §8.3.2).
    PseudoMissing,
    /// A pseudo-header with an impossible value, such as an empty `:path` or a `:status` of two
    /// digits.
    PseudoInvalid,
    /// `:scheme` or `:path` in a CONNECT (RFC 9113 §8.5).
    ConnectWithPath,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameInvalid => "a field name is invalid",
            Self::ValueInvalid => "a field value is invalid",
            Self::ConnectionSpecific => "a field is specific to a connection",
            Self::PseudoAfterField => "a pseudo-header comes after a field",
            Self::PseudoUnknown => "a pseudo-header is unknown",
            Self::PseudoRepeated => "a pseudo-header is repeated",
            Self::PseudoMissing => "a pseudo-header is missing",
            Self::PseudoInvalid => "a pseudo-header is invalid",
            Self::ConnectWithPath => "a CONNECT has a scheme or path",
        })
    }
}

/// Checks one field on its own. Pseudo-headers are checked like others, without their colon.
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<(), FieldError> {
    let bare_name = name.strip_prefix(b":").unwrap_or(name);
    if bare_name.is_empty() || !bare_name.iter().all(|&byte| NAME_BYTE[usize::from(byte)]) {
        return Err(FieldError::NameInvalid);
    }
    let ends = [value.first(), value.last()];
    if value.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'))
        || ends.into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t'))
    {
        return Err(FieldError::ValueInvalid);
    }
    let trailers_only = name == b"te" && value != b"trailers";
    if trailers_only || CONNECTION_SPECIFIC.contains(&name) {
        return Err(FieldError::ConnectionSpecific);
    }
    Ok(())
}

/// Fields that speak about a connection of HTTP/1 (RFC 9113 §8.2.2).
const CONNECTION_SPECIFIC: [&[u8]; 5] =
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];

/// Bytes of a name: visible ASCII, neither capitals nor a colon (RFC 9113 §8.2.1).
const NAME_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !(byte as u8).is_ascii_uppercase() && byte as u8 != b':';
        byte += 1;
    }
    table
};

//! Why a resource is refused, in the words that the control plane logs.

use std::fmt;

use ringway_engine::snapshot::WorkloadError;

/// Why a resource is refused.
#[derive(Debug, PartialEq)]
pub enum Rejection {
    /// It is no such message at all.
    Malformed(prost::DecodeError),
    /// It ends in the middle of a field, or has one of a form that nobody makes.
    Truncated,
    /// A message of this name has a field that we have no word for, and that may be a condition.
    UnknownField(&'static str, u64),
    /// It is larger than any resource may be.
    TooLarge(usize),
    /// Its type is not that of the response.
    WrongType(String),
    /// A field that everything depends on is not there.
    Missing(&'static str),
    /// A number that stands for nothing we know.
    UnknownValue(&'static str, i32),
    /// An address of a length that no family has.
    AddressLength(&'static str, usize),
    /// A range with more bits than its family has.
    RangeLength(&'static str, u32),
    /// A number that is no port.
    Port(&'static str, u32),
    /// What should be `namespace/hostname` is not.
    NotNamespacedHostname(String),
    /// It asks for what is not there; says what.
    Unsupported(String),
    /// No workload can be made of it.
    Workload(WorkloadError),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Malformed(error) => write!(f, "no such message: {error}"),
            Rejection::Truncated => f.write_str("no such message: a field of it has no end"),
            Rejection::UnknownField(message, number) => {
                write!(f, "{message} has the unknown field {number}, which may be a condition")
            }
            Rejection::TooLarge(bytes) => write!(f, "{bytes} bytes are too many for a resource"),
            Rejection::WrongType(url) => write!(f, "of another type than its response: {url:?}"),
            Rejection::Missing(field) => write!(f, "{field} is missing"),
            Rejection::UnknownValue(field, number) => write!(f, "{field} is unknown: {number}"),
            Rejection::AddressLength(field, bytes) => {
                write!(f, "{field} has an address of {bytes} bytes, not of 4 or 16")
            }
            Rejection::RangeLength(field, length) => {
                write!(f, "{field} has a range of {length} bits, more than its family has")
            }
            Rejection::Port(field, number) => write!(f, "{field} is no port: {number}"),
            Rejection::NotNamespacedHostname(text) => {
                write!(f, "expected namespace/hostname, found {text:?}")
            }
            Rejection::Unsupported(what) => f.write_str(what),
            Rejection::Workload(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Rejection {}

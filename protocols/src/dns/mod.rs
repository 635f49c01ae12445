//! DNS messages (RFC 1035, RFC 6891), as far as a proxy for a workload's name lookups needs them.
//!
//! ```text
//!   bytes of a client ─▶ Query::parse ─▶ Query ─▶ names_to_try ─▶ (somebody looks the names up)
//!                            │                                        │ known            │ not known
//!                            ▼ Malformed                              ▼                  ▼
//!                        its reply                             Query::answer      Query::forward ─▶ a server
//!                                                                                 Query::accept  ◀─ its bytes
//! ```
//!
//! What is forwarded is forwarded as it came, and so is what comes back: of a message that is not answered here, no more
//! is understood than is needed to tell that it belongs to a question. Records of types nobody knows yet pass.
//!
//! **Invariant:** a message that is read is never longer than [`bounds::QUERY_BYTES_MAX`] when a client sent it, and every
//! walk through one ends: names are followed backwards only.

mod alias;
mod answer;
pub mod bounds;
mod error;
mod name;
mod query;
mod reply;
#[cfg(test)]
mod tests;
mod wire;

pub use self::alias::{Candidate, names_to_try, wildcards_of};
pub use self::answer::Answer;
pub use self::error::{Error, Malformed};
pub use self::name::Name;
pub use self::query::{Edns, Query};
pub use self::reply::{Addresses, Reply};

/// The types of records that anything here depends on, and those that are counted by name.
pub mod record_type {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// Another name.
    pub const CNAME: u16 = 5;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// Not a record: what a message says about itself (RFC 6891 §6.1.1).
    pub const OPT: u16 = 41;

    /// The name of a type in small letters. Types few have heard of are `unknown`: a client must not be able to
    /// invent names.
    pub fn name(record_type: u16) -> &'static str {
        match record_type {
            A => "a",
            2 => "ns",
            CNAME => "cname",
            6 => "soa",
            12 => "ptr",
            13 => "hinfo",
            15 => "mx",
            16 => "txt",
            AAAA => "aaaa",
            33 => "srv",
            35 => "naptr",
            43 => "ds",
            46 => "rrsig",
            47 => "nsec",
            48 => "dnskey",
            52 => "tlsa",
            64 => "svcb",
            65 => "https",
            99 => "spf",
            252 => "axfr",
            255 => "any",
            257 => "caa",
            _ => "unknown",
        }
    }
}

/// The class of the internet, the only one in use.
pub const CLASS_IN: u16 = 1;

/// How a lookup went (RFC 1035 §4.1.1). Servers have more words; they pass as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCode {
    /// It went well, also when there is no such record.
    NoError,
    /// The message cannot be read.
    FormatError,
    /// The server could not find out.
    ServerFailure,
    /// There is no such name.
    NameError,
    /// The server does not do that.
    NotImplemented,
    /// The server does not want to.
    Refused,
    /// A version of EDNS that the server does not speak.
    BadVersion,
}

impl ResponseCode {
    /// The number on the wire; its upper bits stand in the OPT record.
    pub const fn number(self) -> u16 {
        match self {
            ResponseCode::NoError => 0,
            ResponseCode::FormatError => 1,
            ResponseCode::ServerFailure => 2,
            ResponseCode::NameError => 3,
            ResponseCode::NotImplemented => 4,
            ResponseCode::Refused => 5,
            ResponseCode::BadVersion => 16,
        }
    }
}

//! HPACK, the header compression of HTTP/2 (RFC 7541).
//!
//! The decoder is complete. It lends each field to a closure instead of allocating it, and bounds
//! everything a block can ask for: integers, strings, the table, and (by the caller's bound) what
//! is delivered of the list. The encoder writes what a tunnel needs: static entries, literals, and
//! a small dynamic table for the few fields that are the same on every stream of a connection. It
//! never uses Huffman codes: they would save a few bytes per *connection* of an application and
//! cost time there.

mod decoder;
mod encoder;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

pub use decoder::Decoder;
pub use encoder::{Encoder, Remember};

/// The size of a dynamic table before SETTINGS change it (RFC 9113 §6.5.2), and the most either of
/// ours ever holds.
pub const TABLE_BYTES_MAX: usize = 4096;

/// What a field costs beyond its name and value, in the table and in a header list (RFC 7541 §4.1).
pub const FIELD_OVERHEAD_BYTES: usize = 32;

/// Why a header block cannot be decoded. The connection is lost with it: the tables no longer
/// agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The block ends inside a field.
    Truncated,
    /// An integer beyond every size that makes sense.
    IntegerTooLarge,
    /// An index that is in neither table.
    IndexUnknown,
    /// A string that is not Huffman code, contains EOS, or is padded wrongly.
    HuffmanInvalid,
    /// A table size above the one we announced.
    TableSizeTooLarge,
    /// A table size update after a field.
    TableSizeMisplaced,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "it ends inside a field",
            Self::IntegerTooLarge => "an integer is too large",
            Self::IndexUnknown => "an index is in no table",
            Self::HuffmanInvalid => "a string is not valid Huffman code",
            Self::TableSizeTooLarge => "it sets a table size above the announced one",
            Self::TableSizeMisplaced => "it changes the table size after a field",
        })
    }
}

impl std::error::Error for Error {}

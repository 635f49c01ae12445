//! The header of a message, and the walk over its records.

use super::error::Error;
use super::name;

/// A header's length (RFC 1035 §4.1.1).
pub(super) const HEADER_BYTES: usize = 12;

/// Bits of the second word of the header.
pub(super) const RESPONSE: u16 = 1 << 15;
pub(super) const AUTHORITATIVE: u16 = 1 << 10;
pub(super) const TRUNCATED: u16 = 1 << 9;
pub(super) const RECURSION_DESIRED: u16 = 1 << 8;
pub(super) const RECURSION_AVAILABLE: u16 = 1 << 7;
pub(super) const CHECKING_DISABLED: u16 = 1 << 4;

pub(super) fn operation(flags: u16) -> u8 {
    (flags >> 11 & 0xf) as u8
}

/// The header, its six words named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additional: u16,
}

impl Header {
    pub(super) fn read(message: &[u8]) -> Result<Header, Error> {
        let word = |index: usize| word(message, index * 2);
        Ok(Header {
            id: word(0)?,
            flags: word(1)?,
            questions: word(2)?,
            answers: word(3)?,
            authorities: word(4)?,
            additional: word(5)?,
        })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let Header { id, flags, questions, answers, authorities, additional } = self;
        for word in [id, flags, questions, answers, authorities, additional] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// One record of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Where the name of its owner begins.
    pub(super) owner: usize,
    pub(super) record_type: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    /// Where its data begins and ends.
    pub(super) data: (usize, usize),
}

/// The record that begins at `start`.
pub(super) fn record(message: &[u8], start: usize) -> Result<Record, Error> {
    let at = name::skip(message, start)?;
    let ttl = u32::from(word(message, at + 4)?) << 16 | u32::from(word(message, at + 6)?);
    let (from, length) = (at + 10, usize::from(word(message, at + 8)?));
    if message.len() < from + length {
        return Err(Error::Short);
    }
    Ok(Record {
        owner: start,
        record_type: word(message, at)?,
        class: word(message, at + 2)?,
        ttl,
        data: (from, from + length),
    })
}

pub(super) fn word(message: &[u8], at: usize) -> Result<u16, Error> {
    match message.get(at..at + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(Error::Short),
    }
}

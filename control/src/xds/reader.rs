//! Takes a stream of responses apart as it arrives, so that one with 100,000 resources is never in memory as a whole.
//!
//! gRPC puts a flag and a length before each message; a message is a row of fields, each resource one of them. What is
//! read is handed on, field by field. The type of a response stands behind its resources, so a small message is read
//! whole and its type told first; of a large one the type is told at its end, when whoever applied it can still drop it.

use std::fmt;
use std::ops::Range;

use crate::grpc::MESSAGE_BYTES_MAX;

/// Messages up to this size are read whole.
const WHOLE_BYTES_MAX: usize = 1 << 20;

/// Bytes a resource may have; a larger one is skipped and refused. Kubernetes stores objects up to 1.5 MiB.
pub(super) const RESOURCE_BYTES_MAX: usize = 16 << 20;

/// Bytes a name, nonce or type may have.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// What is kept of the buffer once it is empty.
const IDLE_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(TEXT_BYTES_MAX < WHOLE_BYTES_MAX && WHOLE_BYTES_MAX < RESOURCE_BYTES_MAX);

const HEAD_BYTES: usize = 5;

/// Part of a response.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// A response begins; its type, if that is known already.
    Begin(Option<&'a str>),
    /// A resource, as a message of its own.
    Resource(&'a [u8]),
    /// A resource of so many bytes, which were skipped.
    TooLarge(usize),
    /// The name of what is removed, and the type of the response as far as it is known.
    Removed {
        /// Empty when it was not told yet.
        type_url: &'a str,
        name: &'a str,
    },
    /// The response is over.
    End(Trailer),
}

/// What stands in a response besides resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trailer {
    pub(super) type_url: String,
    pub(super) nonce: String,
}

/// Bytes that are no responses. The stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Compressed,
    MessageTooLarge(usize),
    TextTooLong(usize),
    Field,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Compressed => {
                f.write_str("the control plane compresses what we did not ask it to")
            }
            Unreadable::MessageTooLarge(bytes) => {
                write!(f, "a response of {bytes} bytes is larger than {MESSAGE_BYTES_MAX}")
            }
            Unreadable::TextTooLong(bytes) => write!(f, "a name of {bytes} bytes is too long"),
            Unreadable::Field => f.write_str("a response is no such message"),
        }
    }
}

/// What arrived and is not read yet.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// Where what is not read begins.
    start: usize,
    message: Option<Message>,
}

/// The message under way.
#[derive(Debug)]
struct Message {
    /// Bytes of it that were not taken from the buffer.
    left: usize,
    /// Bytes of a field that is skipped.
    skip: usize,
    has_begun: bool,
    trailer: Trailer,
}

/// What the next bytes are.
enum Step {
    /// More have to arrive first.
    Starved,
    /// Nothing for anybody: go on.
    Skipped,
    /// A message; its place, if it is there as a whole.
    Begin(Option<Range<usize>>),
    /// The content of a resource or of a removed name.
    Field(u32, Range<usize>),
    TooLarge(usize),
    End(Trailer),
}

/// A field at the beginning of some bytes.
struct Field {
    number: u32,
    /// Where its content begins.
    from: usize,
    /// The content's length, if it has one, which may be more than is there.
    length: usize,
    is_text: bool,
}

impl Reader {
    /// Takes what arrived.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BYTES_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next part, as far as it is there.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'_>>, Unreadable> {
        let step = loop {
            match self.step()? {
                Step::Skipped => {}
                step => break step,
            }
        };
        let content = |range: Range<usize>| &self.buffer[range];
        Ok(Some(match step {
            Step::Starved | Step::Skipped => return Ok(None),
            Step::Begin(whole) => {
                Piece::Begin(whole.map(|range| type_of(content(range))).transpose()?)
            }
            Step::Field(RESOURCES, range) => Piece::Resource(content(range)),
            Step::Field(_, range) => {
                let message = self.message.as_ref().expect("it is under way");
                Piece::Removed { type_url: &message.trailer.type_url, name: text(content(range))? }
            }
            Step::TooLarge(bytes) => Piece::TooLarge(bytes),
            Step::End(trailer) => Piece::End(trailer),
        }))
    }

    fn step(&mut self) -> Result<Step, Unreadable> {
        if self.message.is_none() && !self.begin()? {
            return Ok(Step::Starved);
        }
        let there = self.buffer.len() - self.start;
        let message = self.message.as_mut().expect("it has begun");
        if !message.has_begun {
            let is_small = message.left <= WHOLE_BYTES_MAX;
            if is_small && there < message.left {
                return Ok(Step::Starved);
            }
            message.has_begun = true;
            return Ok(Step::Begin(is_small.then_some(self.start..self.start + message.left)));
        }
        if message.skip > 0 {
            let skipped = message.skip.min(there);
            message.skip -= skipped;
            message.left -= skipped;
            self.start += skipped;
            return Ok(if skipped > 0 { Step::Skipped } else { Step::Starved });
        }
        match message.left {
            0 => Ok(Step::End(self.message.take().expect("it is under way").trailer)),
            _ => self.field(),
        }
    }

    fn field(&mut self) -> Result<Step, Unreadable> {
        let message = self.message.as_mut().expect("it is under way");
        let there = &self.buffer[self.start..];
        let there = &there[..there.len().min(message.left)];
        let Some(field) = Field::at(there)? else {
            let more_comes = there.len() < message.left;
            return if more_comes { Ok(Step::Starved) } else { Err(Unreadable::Field) };
        };
        let end = field.from.checked_add(field.length).ok_or(Unreadable::Field)?;
        if end > message.left {
            return Err(Unreadable::Field);
        }
        let is_too_long = field.length > field.bytes_max();
        if is_too_long || !field.is_wanted() {
            message.left -= field.from;
            message.skip = field.length;
            self.start += field.from;
            return match field.number {
                RESOURCES if is_too_long => Ok(Step::TooLarge(field.length)),
                _ if is_too_long => Err(Unreadable::TextTooLong(field.length)),
                _ => Ok(Step::Skipped),
            };
        }
        if end > there.len() {
            return Ok(Step::Starved);
        }
        let range = self.start + field.from..self.start + end;
        message.left -= end;
        self.start += end;
        match field.number {
            TYPE_URL => message.trailer.type_url = text(&self.buffer[range])?.to_owned(),
            NONCE => message.trailer.nonce = text(&self.buffer[range])?.to_owned(),
            number => return Ok(Step::Field(number, range)),
        }
        Ok(Step::Skipped)
    }

    /// Reads what stands before a message.
    fn begin(&mut self) -> Result<bool, Unreadable> {
        let Some(head) = self.buffer[self.start..].first_chunk::<HEAD_BYTES>() else {
            return Ok(false);
        };
        let [flag, length @ ..] = *head;
        if flag != 0 {
            return Err(Unreadable::Compressed);
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(Unreadable::MessageTooLarge(length));
        }
        self.start += HEAD_BYTES;
        self.message =
            Some(Message { left: length, skip: 0, has_begun: false, trailer: Trailer::default() });
        Ok(true)
    }
}

// The numbers of `DeltaDiscoveryResponse`.
const RESOURCES: u32 = 2;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;
const REMOVED_RESOURCES: u32 = 6;

/// The type of a response that is there as a whole.
fn type_of(mut message: &[u8]) -> Result<&str, Unreadable> {
    let mut type_url = "";
    while !message.is_empty() {
        let field = Field::at(message)?.ok_or(Unreadable::Field)?;
        let end = field.from.checked_add(field.length).ok_or(Unreadable::Field)?;
        let content = message.get(field.from..end).ok_or(Unreadable::Field)?;
        if field.is_text && field.number == TYPE_URL {
            type_url = text(content)?;
        }
        message = &message[end..];
    }
    Ok(type_url)
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    str::from_utf8(bytes).map_err(|_| Unreadable::Field)
}

impl Field {
    fn is_wanted(&self) -> bool {
        self.is_text && matches!(self.number, RESOURCES | TYPE_URL | NONCE | REMOVED_RESOURCES)
    }

    fn bytes_max(&self) -> usize {
        match self.number {
            RESOURCES => RESOURCE_BYTES_MAX,
            TYPE_URL | NONCE | REMOVED_RESOURCES => TEXT_BYTES_MAX,
            // It is skipped.
            _ => MESSAGE_BYTES_MAX,
        }
    }

    /// The field that begins here; nothing when more bytes are needed to say. A number is content of no
    /// length: nobody asks for one.
    fn at(bytes: &[u8]) -> Result<Option<Field>, Unreadable> {
        const NUMBER: u64 = 0;
        const EIGHT_BYTES: u64 = 1;
        const LENGTH: u64 = 2;
        const FOUR_BYTES: u64 = 5;
        let Some((tag, from)) = varint(bytes)? else { return Ok(None) };
        let number = u32::try_from(tag >> 3).map_err(|_| Unreadable::Field)?;
        let Some((value, after)) = (match tag & 7 {
            NUMBER => varint(&bytes[from..])?.map(|(_, bytes)| (0, bytes)),
            EIGHT_BYTES => Some((8, 0)),
            FOUR_BYTES => Some((4, 0)),
            LENGTH => varint(&bytes[from..])?,
            _ => return Err(Unreadable::Field),
        }) else {
            return Ok(None);
        };
        let length = usize::try_from(value).map_err(|_| Unreadable::Field)?;
        Ok(Some(Field { number, from: from + after, length, is_text: tag & 7 == LENGTH }))
    }
}

/// A number in groups of seven bits, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Unreadable> {
    const BYTES_MAX: usize = 10;
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index).min(63);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < BYTES_MAX { Ok(None) } else { Err(Unreadable::Field) }
}

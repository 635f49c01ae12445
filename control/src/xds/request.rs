//! The first request of each type in a stream: who we are, what we want, and what we have.
//!
//! With 100,000 resources this would be a message of several megabytes, so it is written some entries at a time, straight
//! from what is known, and ends where a control plane would not read it any more. What it has no room for is told to whoever
//! sends it: by name it can be asked for in more requests, and of all else `unnamed` finds out whether it is there still.

use prost::{Message, encode_length_delimiter, length_delimiter_len};
use ringway_engine::snapshot::Entry;

use super::told::Told;
use crate::proto::discovery::{DeltaDiscoveryRequest, Node};

/// Bytes a request may have. istiod reads no larger message unless it was told to (4 MiB, as gRPC servers everywhere), and
/// ends the stream: who went on sending one would never have a stream again.
pub(super) const REQUEST_BYTES_MAX: usize = 4 << 20;

/// A request that is being written.
#[derive(Debug)]
pub(super) struct FirstRequest {
    /// With the place for gRPC's head before it.
    bytes: Vec<u8>,
    bytes_max: usize,
    form: Form,
    told: Told,
    /// The key to go on from, until there is none.
    next: Option<u64>,
    /// Entries that are written.
    named: usize,
    /// The first key that had no room.
    rest: Option<u64>,
}

/// How entries are told.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// We have this, in this version.
    Version,
    /// We want this.
    Name,
}

/// A request that is written.
#[derive(Debug)]
pub(super) struct Written {
    /// As they go over the wire.
    pub(super) bytes: Vec<u8>,
    /// How many entries it has.
    pub(super) named: usize,
    /// From this key on, entries had no room.
    pub(super) rest: Option<u64>,
}

/// gRPC's head: a flag and the length of the message.
const HEAD_BYTES: usize = 5;

/// The tag of `initial_resource_versions`, an entry of it, and of its two parts.
const ENTRY: u8 = 5 << 3 | 2;
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

/// The tag of `resource_names_subscribe`.
const SUBSCRIBE: u8 = 3 << 3 | 2;

impl FirstRequest {
    /// Begins with everything but what is known already.
    pub(super) fn new(head: &DeltaDiscoveryRequest, told: Told, bytes_max: usize) -> FirstRequest {
        FirstRequest::of(head, told, 0, Form::Version, bytes_max)
    }

    /// Asks by name for what is known from a key on.
    pub(super) fn by_name(type_url: &str, told: Told, from: u64, bytes_max: usize) -> FirstRequest {
        let head = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        FirstRequest::of(&head, told, from, Form::Name, bytes_max)
    }

    fn of(
        head: &DeltaDiscoveryRequest,
        told: Told,
        from: u64,
        form: Form,
        bytes_max: usize,
    ) -> FirstRequest {
        let mut bytes = vec![0; HEAD_BYTES];
        head.encode(&mut bytes).expect("a vector has room");
        FirstRequest { bytes, bytes_max, form, told, next: Some(from), named: 0, rest: None }
    }

    /// Writes about so many entries. True when all are written that have room.
    pub(super) fn write(&mut self, entries: usize) -> bool {
        let Some(from) = self.next.take() else { return true };
        let mut name = String::new();
        let (mut written, mut last) = (0, from);
        // Where the entries of the last key begin, and how many were written before them.
        let mut whole = (self.bytes.len(), self.named);
        for known in self.told.from(from) {
            let key = known.key();
            if key != last {
                // Entries of one key are never parted.
                if written >= entries {
                    self.next = Some(key);
                    break;
                }
                whole = (self.bytes.len(), self.named);
            }
            name.clear();
            known.write_name(&mut name);
            match self.form {
                Form::Version => write_entry(&name, known.version(), &mut self.bytes),
                Form::Name => write_text(SUBSCRIBE, &name, &mut self.bytes),
            }
            self.named += 1;
            if self.bytes.len() - HEAD_BYTES > self.bytes_max {
                (_, self.named) = whole;
                self.bytes.truncate(whole.0);
                self.rest = Some(key);
                break;
            }
            (written, last) = (written + 1, key);
        }
        self.next.is_none()
    }

    /// The whole message.
    pub(super) fn finish(mut self) -> Written {
        debug_assert!(self.next.is_none(), "all entries are written");
        seal(&mut self.bytes);
        Written { bytes: self.bytes, named: self.named, rest: self.rest }
    }
}

/// A whole request, as it goes over the wire.
pub(super) fn frame(request: &DeltaDiscoveryRequest) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    request.encode(&mut bytes).expect("a vector has room");
    seal(&mut bytes);
    bytes
}

/// A request that begins a subscription.
pub(super) fn head(node: &Node, type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node.clone()),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn seal(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len() - HEAD_BYTES).expect("nobody knows 4 GiB of names");
    bytes[1..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn write_entry(name: &str, version: &str, bytes: &mut Vec<u8>) {
    bytes.push(ENTRY);
    write_length(text_bytes(name) + text_bytes(version), bytes);
    write_text(KEY, name, bytes);
    write_text(VALUE, version, bytes);
}

fn write_text(tag: u8, text: &str, bytes: &mut Vec<u8>) {
    bytes.push(tag);
    write_length(text.len(), bytes);
    bytes.extend_from_slice(text.as_bytes());
}

/// The bytes of a text with its tag and its length.
fn text_bytes(text: &str) -> usize {
    1 + length_delimiter_len(text.len()) + text.len()
}

fn write_length(length: usize, bytes: &mut Vec<u8>) {
    encode_length_delimiter(length, bytes).expect("a vector has room");
}

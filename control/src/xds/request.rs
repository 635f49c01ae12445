//! The first request of each type in a stream: who we are, what we want, and what we have.
//!
//! With 100,000 resources this is a message of several megabytes, so it is written some entries at a time, straight from
//! what is known.

use prost::{Message, encode_length_delimiter, length_delimiter_len};
use ringway_engine::snapshot::Entry;

use super::told::Told;
use crate::proto::discovery::{DeltaDiscoveryRequest, Node};

/// A request that is being written.
#[derive(Debug)]
pub(super) struct FirstRequest {
    /// With the place for gRPC's head before it.
    bytes: Vec<u8>,
    told: Told,
    /// The key to go on from, until there is none.
    next: Option<u64>,
}

/// gRPC's head: a flag and the length of the message.
const HEAD_BYTES: usize = 5;

/// The tag of `initial_resource_versions`, an entry of it, and of its two parts.
const ENTRY: u8 = 5 << 3 | 2;
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

impl FirstRequest {
    /// Begins with everything but what is known already.
    pub(super) fn new(head: &DeltaDiscoveryRequest, told: Told) -> FirstRequest {
        let mut bytes = vec![0; HEAD_BYTES];
        head.encode(&mut bytes).expect("a vector has room");
        FirstRequest { bytes, told, next: Some(0) }
    }

    /// Writes about so many entries. True when all are written.
    pub(super) fn write(&mut self, entries: usize) -> bool {
        let Some(from) = self.next else { return true };
        let mut name = String::new();
        let (mut written, mut last) = (0, from);
        self.next = None;
        for known in self.told.from(from) {
            let key = known.key();
            // Entries of one key are never parted.
            if written >= entries && key != last {
                self.next = Some(key);
                break;
            }
            name.clear();
            known.write_name(&mut name);
            write_entry(&name, known.version(), &mut self.bytes);
            (written, last) = (written + 1, key);
        }
        self.next.is_none()
    }

    /// The whole message, as it goes over the wire.
    pub(super) fn finish(mut self) -> Vec<u8> {
        debug_assert!(self.next.is_none(), "all entries are written");
        seal(&mut self.bytes);
        self.bytes
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
    for (tag, text) in [(KEY, name), (VALUE, version)] {
        bytes.push(tag);
        write_length(text.len(), bytes);
        bytes.extend_from_slice(text.as_bytes());
    }
}

/// The bytes of a text with its tag and its length.
fn text_bytes(text: &str) -> usize {
    1 + length_delimiter_len(text.len()) + text.len()
}

fn write_length(length: usize, bytes: &mut Vec<u8>) {
    encode_length_delimiter(length, bytes).expect("a vector has room");
}

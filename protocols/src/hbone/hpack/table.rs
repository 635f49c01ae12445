//! The static table and the dynamic table (RFC 7541 §2.3).

use std::collections::VecDeque;

use super::FIELD_OVERHEAD_BYTES;

/// The entries every HPACK endpoint knows (RFC 7541 Appendix A); index 1 is the first.
#[rustfmt::skip]
pub(super) static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"),
    (b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"),
    (b":status", b"204"), (b":status", b"206"), (b":status", b"304"), (b":status", b"400"),
    (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""), (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""), (b"accept-ranges", b""), (b"accept", b""), (b"access-control-allow-origin", b""),
    (b"age", b""), (b"allow", b""), (b"authorization", b""), (b"cache-control", b""),
    (b"content-disposition", b""), (b"content-encoding", b""), (b"content-language", b""), (b"content-length", b""),
    (b"content-location", b""), (b"content-range", b""), (b"content-type", b""), (b"cookie", b""),
    (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""),
    (b"from", b""), (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""),
    (b"if-none-match", b""), (b"if-range", b""), (b"if-unmodified-since", b""), (b"last-modified", b""),
    (b"link", b""), (b"location", b""), (b"max-forwards", b""), (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""), (b"range", b""), (b"referer", b""), (b"refresh", b""),
    (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""), (b"strict-transport-security", b""),
    (b"transfer-encoding", b""), (b"user-agent", b""), (b"vary", b""), (b"via", b""),
    (b"www-authenticate", b""),
];

/// The fields one side asked the other to remember, newest first.
///
/// Names and values lie back to back in one buffer, so an entry costs eight bytes of bookkeeping
/// and no allocation of its own: a peer that fills the table with one-byte fields gains nothing
/// (RFC 7541 counts 32 for each).
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// Oldest entry first. Bytes before `start` are evicted and wait for the next compaction.
    bytes: Vec<u8>,
    start: usize,
    /// Newest entry first.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

/// Where an entry lies: its name begins at `at` and its value follows.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u32,
    name_bytes: u16,
    value_bytes: u16,
}

impl Entry {
    fn bytes(self) -> usize {
        usize::from(self.name_bytes) + usize::from(self.value_bytes)
    }

    fn size(self) -> usize {
        self.bytes() + FIELD_OVERHEAD_BYTES
    }
}

impl DynamicTable {
    pub(super) fn new(size_max: usize) -> Self {
        debug_assert!(size_max <= usize::from(u16::MAX), "entries are measured in 16 bits");
        Self { bytes: Vec::new(), start: 0, entries: VecDeque::new(), size: 0, size_max }
    }

    /// The field with this index in the joint address space (RFC 7541 §2.3.3).
    pub(super) fn lookup(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        if let Some(&entry) = STATIC.get(index) {
            return Some(entry);
        }
        let entry = self.entries.get(index - STATIC.len())?;
        let at = entry.at as usize;
        Some(self.bytes[at..at + entry.bytes()].split_at(usize::from(entry.name_bytes)))
    }

    /// Adds a field, evicting what no longer fits; one that is too large just empties the table
    /// (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        if !self.make_room(name.len() + value.len()) {
            return;
        }
        self.compact();
        let at = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.push(at, name.len(), value.len());
    }

    /// Adds a field that takes its name from an entry, which the insertion itself may evict (RFC
    /// 7541 §4.4).
    pub(super) fn insert_with_name_of(&mut self, index: usize, value: &[u8]) {
        if let Some(&(name, _)) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            return self.insert(name, value);
        }
        let Some(&named) =
            index.checked_sub(STATIC.len() + 1).and_then(|index| self.entries.get(index))
        else {
            debug_assert!(false, "the caller has looked the index up");
            return;
        };
        let name_bytes = usize::from(named.name_bytes);
        if !self.make_room(name_bytes + value.len()) {
            return;
        }
        // An evicted name stays in place until the next compaction, which is why that comes last
        // here.
        let at = self.bytes.len();
        let name_at = named.at as usize;
        self.bytes.extend_from_within(name_at..name_at + name_bytes);
        self.bytes.extend_from_slice(value);
        self.push(at, name_bytes, value.len());
        self.compact();
    }

    /// Changes the bound, evicting what no longer fits (RFC 7541 §4.3).
    pub(super) fn set_size_max(&mut self, size_max: usize) {
        debug_assert!(size_max <= usize::from(u16::MAX), "entries are measured in 16 bits");
        self.size_max = size_max;
        self.evict_to(size_max);
        self.compact();
    }

    /// The index of this very field, if it is here.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        (STATIC.len() + 1..=STATIC.len() + self.entries.len())
            .find(|&index| self.lookup(index) == Some((name, value)))
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Evicts for a field of `bytes`; `false` when it cannot fit at all, and the table is then
    /// empty.
    fn make_room(&mut self, bytes: usize) -> bool {
        let size = bytes + FIELD_OVERHEAD_BYTES;
        self.evict_to(self.size_max.saturating_sub(size));
        size <= self.size_max
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let oldest = self.entries.pop_back().expect("a table with a size has entries");
            self.size -= oldest.size();
            self.start += oldest.bytes();
        }
    }

    fn push(&mut self, at: usize, name_bytes: usize, value_bytes: usize) {
        let entry =
            Entry { at: at as u32, name_bytes: name_bytes as u16, value_bytes: value_bytes as u16 };
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    /// Closes the gap at the front once it is as large as what lies behind it: each byte moves once
    /// for each byte evicted, and the buffer stays below twice the table.
    fn compact(&mut self) {
        if self.start == 0 || self.start < self.bytes.len() - self.start {
            return;
        }
        self.bytes.drain(..self.start);
        for entry in &mut self.entries {
            entry.at -= self.start as u32;
        }
        self.start = 0;
    }
}

//! The shard's scratch: one receive buffer and one row of record slots, shared by all connections.
//!
//! Between two awaits a task has the shard to itself, so it needs no buffers of its own: it reads
//! into the scratch, hands the bytes on, and copies out only what is left over. [`scratch`] lends it
//! to a closure, which cannot await.
//!
//! The borrow cannot fail: the box is taken out of its cell for the time of the closure. A use inside
//! a use finds the cell empty and gets a fresh box, which is dropped afterwards (counted, never an
//! error); a closure that panics takes its box with it, and the next use makes a new one.

use std::io::IoSliceMut;
use std::ops::{Deref, DerefMut};

use super::local;

/// Bytes of the receive buffer: as much as a read can bring while staying in the second-level cache.
pub const RECEIVE_BYTES: usize = 256 * 1024;
/// Slots of a [`RecordSlots`]: together about as large as the receive buffer.
pub const RECORD_SLOTS: usize = 16;

/// What the connections of a shard share.
#[derive(Debug)]
pub struct Scratch {
    /// For reading before it is known what the bytes are.
    pub receive: Box<[u8]>,
    /// For reading bytes where they will be sealed and sent.
    pub records: RecordSlots,
}

impl Scratch {
    fn new() -> Scratch {
        // Zeroed boxes are mapped, not touched: an idle shard pays for no page.
        Scratch {
            receive: vec![0; RECEIVE_BYTES].into(),
            records: RecordSlots::new(RecordLayout::default()),
        }
    }
}

/// Lends the shard's scratch to `work`.
///
/// # Panics
/// Outside of a runtime.
pub fn scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let local = local::expect_current("scratch");
    let mut lent = local.scratch.take().unwrap_or_else(|| {
        if local.scratch_made.replace(true) {
            local.count(|counters| counters.scratch_nested += 1);
        }
        Box::new(Scratch::new())
    });
    let result = work(&mut lent);
    local.scratch.set(Some(lent));
    result
}

/// The geometry of sealed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLayout {
    /// In front of each record's plaintext: the record header.
    pub header_bytes: usize,
    /// At the start of the first record's plaintext: the frame header, which is not payload.
    pub first_prefix_bytes: usize,
    /// The most plaintext a record may have, prefix included.
    pub plaintext_bytes_max: usize,
    /// Behind each record's plaintext: content type and tag.
    pub trailer_bytes: usize,
}

impl Default for RecordLayout {
    /// TLS 1.3 records (RFC 8446 §5.1–5.2) whose first carries an HTTP/2 frame header (RFC 9113 §4.1).
    fn default() -> Self {
        RecordLayout {
            header_bytes: 5,
            first_prefix_bytes: 9,
            plaintext_bytes_max: 16_384,
            trailer_bytes: 17,
        }
    }
}

impl RecordLayout {
    const fn slot_bytes(&self) -> usize {
        self.header_bytes + self.plaintext_bytes_max + self.trailer_bytes
    }
}

/// Records back to back, with room around each payload for what sealing adds:
///
/// ```text
/// ┌────────┬────────┬───────────────┬─────────┐┌────────┬──────────────────────┬─────────┐┌─ …
/// │ header │ prefix │    payload    │ trailer ││ header │       payload        │ trailer ││
/// │   5    │   9    │   ≤ 16375     │   17    ││   5    │       ≤ 16384        │   17    ││
/// └────────┴────────┴───────────────┴─────────┘└────────┴──────────────────────┴─────────┘└─ …
/// ```
///
/// A read fills the payloads ([`payloads`](RecordSlots::payloads)); then each record is sealed where
/// it lies ([`records`](RecordSlots::records)) and all are sent with one write
/// ([`bytes`](RecordSlots::bytes)).
#[derive(Debug)]
pub struct RecordSlots {
    layout: RecordLayout,
    slots: Box<[u8]>,
}

impl RecordSlots {
    /// Slots of the given geometry.
    ///
    /// # Panics
    /// When the prefix leaves no room for payload.
    pub fn new(layout: RecordLayout) -> RecordSlots {
        assert!(layout.first_prefix_bytes < layout.plaintext_bytes_max, "room for payload");
        RecordSlots { layout, slots: vec![0; RECORD_SLOTS * layout.slot_bytes()].into() }
    }

    /// The most payload that fits.
    pub fn payload_bytes_max(&self) -> usize {
        RECORD_SLOTS * self.layout.plaintext_bytes_max - self.layout.first_prefix_bytes
    }

    /// Where to read up to `limit` bytes of payload to.
    pub fn payloads(&mut self, limit: usize) -> Payloads<'_> {
        let RecordLayout { header_bytes, first_prefix_bytes, plaintext_bytes_max, .. } =
            self.layout;
        let mut left = limit.min(self.payload_bytes_max());
        let mut used = 0;
        let mut slots = self.slots.chunks_exact_mut(self.layout.slot_bytes()).enumerate();
        let slices = std::array::from_fn(|_| {
            let (index, slot) = slots.next().expect("as many slots as slices");
            let start = header_bytes + if index == 0 { first_prefix_bytes } else { 0 };
            let payload = &mut slot[start..header_bytes + plaintext_bytes_max];
            let take = payload.len().min(left);
            left -= take;
            used += usize::from(take > 0);
            IoSliceMut::new(&mut payload[..take])
        });
        Payloads { slices, used }
    }

    /// Where the first record's prefix goes.
    pub fn prefix_mut(&mut self) -> &mut [u8] {
        let RecordLayout { header_bytes, first_prefix_bytes, .. } = self.layout;
        &mut self.slots[header_bytes..header_bytes + first_prefix_bytes]
    }

    /// The records that `payload_bytes` of payload fill, each `[header][plaintext][trailer]`; the
    /// prefix is always part of the first.
    pub fn records(&mut self, payload_bytes: usize) -> impl Iterator<Item = &mut [u8]> {
        let around = self.layout.header_bytes + self.layout.trailer_bytes;
        let mut left = self.plaintext_bytes(payload_bytes);
        let (records, most) = (self.record_count(payload_bytes), self.layout.plaintext_bytes_max);
        self.slots.chunks_exact_mut(self.layout.slot_bytes()).take(records).map(move |slot| {
            let plaintext = left.min(most);
            left -= plaintext;
            &mut slot[..around + plaintext]
        })
    }

    /// The records that `payload_bytes` of payload fill, back to back, as they go on the wire.
    pub fn bytes(&self, payload_bytes: usize) -> &[u8] {
        let around = self.layout.header_bytes + self.layout.trailer_bytes;
        let records = self.record_count(payload_bytes);
        &self.slots[..self.plaintext_bytes(payload_bytes) + records * around]
    }

    fn plaintext_bytes(&self, payload_bytes: usize) -> usize {
        assert!(payload_bytes <= self.payload_bytes_max(), "no more than was read");
        self.layout.first_prefix_bytes + payload_bytes
    }

    fn record_count(&self, payload_bytes: usize) -> usize {
        self.plaintext_bytes(payload_bytes).div_ceil(self.layout.plaintext_bytes_max)
    }
}

/// The slices of [`RecordSlots::payloads`]: `try_readv(&mut payloads)`.
#[derive(Debug)]
pub struct Payloads<'a> {
    slices: [IoSliceMut<'a>; RECORD_SLOTS],
    used: usize,
}

impl<'a> Deref for Payloads<'a> {
    type Target = [IoSliceMut<'a>];

    fn deref(&self) -> &Self::Target {
        &self.slices[..self.used]
    }
}

impl DerefMut for Payloads<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.slices[..self.used]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fills the payload slices with consecutive bytes, as a readv would.
    fn fill(slots: &mut RecordSlots, payload_bytes: usize) {
        let mut next = (0..payload_bytes).map(|at| at as u8);
        for slice in slots.payloads(payload_bytes).iter_mut() {
            slice.iter_mut().for_each(|byte| *byte = next.next().expect("exactly enough room"));
        }
        assert_eq!(next.next(), None, "all payload has room");
    }

    #[test]
    fn the_first_slot_leaves_room_for_the_frame_header() {
        let mut slots = RecordSlots::new(RecordLayout::default());
        let sizes: Vec<usize> =
            slots.payloads(usize::MAX).iter().map(|slice| slice.len()).collect();
        assert_eq!(sizes.len(), 16);
        assert_eq!(sizes[0], 16_375);
        assert!(sizes[1..].iter().all(|size| *size == 16_384));
        assert_eq!(slots.payload_bytes_max(), 262_135);
    }

    #[test]
    fn an_empty_payload_is_one_record_with_the_prefix_alone() {
        let mut slots = RecordSlots::new(RecordLayout::default());
        assert_eq!(slots.payloads(0).len(), 0);
        assert_eq!(slots.records(0).map(|record| record.len()).collect::<Vec<_>>(), [5 + 9 + 17]);
    }

    proptest! {
        /// Whatever is read comes out once, in order, with only headers, prefix and trailers between.
        #[test]
        fn payload_lies_where_the_records_are(
            payload_bytes in 0..20_000_usize,
            header in 0..8_usize, prefix in 0..20_usize, trailer in 0..20_usize,
            plaintext in 1000..3000_usize,
        ) {
            let layout = RecordLayout {
                header_bytes: header,
                first_prefix_bytes: prefix,
                plaintext_bytes_max: plaintext,
                trailer_bytes: trailer,
            };
            let mut slots = RecordSlots::new(layout);
            let payload_bytes = payload_bytes.min(slots.payload_bytes_max());
            fill(&mut slots, payload_bytes);
            slots.prefix_mut().fill(0xff);
            let records: Vec<Vec<u8>> =
                slots.records(payload_bytes).map(|record| record.to_vec()).collect();
            prop_assert_eq!(records.concat(), slots.bytes(payload_bytes));
            let plain: Vec<u8> = records
                .iter()
                .flat_map(|record| record[header..record.len() - trailer].to_vec())
                .collect();
            prop_assert!(plain[..prefix].iter().all(|byte| *byte == 0xff));
            let payload: Vec<u8> = (0..payload_bytes).map(|at| at as u8).collect();
            prop_assert_eq!(&plain[prefix..], payload);
            let full = |record: &Vec<u8>| record.len() == header + plaintext + trailer;
            prop_assert!(records[..records.len().saturating_sub(1)].iter().all(full));
        }
    }
}

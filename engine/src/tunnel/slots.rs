//! Where bulk is read and sealed without a copy: record slots in the shard's scratch.
//!
//! ```text
//! │5 header│9 frame│ payload        │1 type│16 tag│5 header│ payload            │1 type│16 tag│ …
//! └─────────── slot 0: 16,406 bytes ─────────────┘└──────────── slot 1 ────────────────────┘
//! ```
//!
//! One `readv` from the application fills the payloads; then each slot is sealed in place, and as
//! full slots leave no gap between them, all of it goes out in one write. A peer that accepts large
//! frames gets one DATA frame for the whole read, its header in the first slot only; for one that
//! does not, every slot carries a frame of its own.

use std::io::{self, IoSliceMut};

use ringway_protocols::{
    hbone::FRAME_HEADER_BYTES,
    tls::{self, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_BYTES_MAX, RECORD_TRAILER_BYTES, Records},
};

use crate::{
    limits::COALESCE_BYTES_MAX,
    runtime::{SCRATCH_BYTES, TcpStream},
};

/// A full record.
const SLOT_BYTES: usize = RECORD_HEADER_BYTES + RECORD_PLAINTEXT_BYTES_MAX + RECORD_TRAILER_BYTES;
/// Payload of the first slot.
pub(super) const FIRST_PAYLOAD_BYTES: usize = RECORD_PLAINTEXT_BYTES_MAX - FRAME_HEADER_BYTES;
/// What fills it is the beginning of bulk.
const _: () = assert!(COALESCE_BYTES_MAX < FIRST_PAYLOAD_BYTES);
/// Slots of one read: as many as the scratch has room for.
const SLOTS: usize = SCRATCH_BYTES / SLOT_BYTES;

/// Record slots over the shard's scratch, for one read of one stream.
pub(super) struct Slots<'scratch> {
    scratch: &'scratch mut [u8],
    frame_in_each: bool,
    payload_bytes_max: usize,
}

impl<'scratch> Slots<'scratch> {
    /// Slots for at most `payload_bytes_max` bytes of payload, in frames of at most
    /// `frame_bytes_max`.
    pub(super) fn new(
        scratch: &'scratch mut [u8],
        payload_bytes_max: usize,
        frame_bytes_max: usize,
    ) -> Self {
        let frame_in_each = frame_bytes_max < 2 * RECORD_PLAINTEXT_BYTES_MAX;
        let payload_bytes_max =
            if frame_in_each { payload_bytes_max } else { payload_bytes_max.min(frame_bytes_max) };
        Self { scratch, frame_in_each, payload_bytes_max }
    }

    /// Reads what the application has into the payloads, in one call. 0 is its end of stream.
    ///
    /// # Errors
    /// Whatever the socket says; `WouldBlock` when it has nothing.
    pub(super) fn read_from(&mut self, application: &TcpStream) -> io::Result<usize> {
        let (mut slices, used) = self.payloads();
        application.try_readv(&mut slices[..used])
    }

    /// Where payload goes, and how many of the slices are in use.
    fn payloads(&mut self) -> ([IoSliceMut<'_>; SLOTS], usize) {
        let mut left = self.payload_bytes_max;
        let mut slices: [IoSliceMut<'_>; SLOTS] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut used = 0;
        for (index, slot) in self.scratch.chunks_exact_mut(SLOT_BYTES).enumerate() {
            if left == 0 {
                break;
            }
            let start = payload_start(index, self.frame_in_each);
            let end = RECORD_HEADER_BYTES + RECORD_PLAINTEXT_BYTES_MAX;
            let payload = &mut slot[start..end.min(start + left)];
            left -= payload.len();
            slices[used] = IoSliceMut::new(payload);
            used += 1;
        }
        (slices, used)
    }

    /// The first `payload_bytes` that were read, when they lie in the first slot.
    pub(super) fn first_payload(&self, payload_bytes: usize) -> &[u8] {
        &self.scratch[payload_start(0, self.frame_in_each)..][..payload_bytes]
    }

    /// Frames and seals `payload_bytes` that were read, and returns the records, ready to be sent.
    /// `frame_header` gives the header of the next DATA frame of so many bytes.
    ///
    /// # Errors
    /// When the record layer can seal no more.
    pub(super) fn seal(
        self,
        payload_bytes: usize,
        records: &mut Records,
        mut frame_header: impl FnMut(usize) -> [u8; FRAME_HEADER_BYTES],
    ) -> Result<&'scratch [u8], tls::Error> {
        let mut left = payload_bytes;
        let mut sealed_bytes = 0;
        for (index, slot) in self.scratch.chunks_exact_mut(SLOT_BYTES).enumerate() {
            if left == 0 {
                break;
            }
            let start = payload_start(index, self.frame_in_each);
            let payload = left.min(RECORD_HEADER_BYTES + RECORD_PLAINTEXT_BYTES_MAX - start);
            if start != RECORD_HEADER_BYTES {
                let frame = if self.frame_in_each { payload } else { payload_bytes };
                slot[RECORD_HEADER_BYTES..start].copy_from_slice(&frame_header(frame));
            }
            let record_bytes = start + payload + RECORD_TRAILER_BYTES;
            records.seal(&mut slot[..record_bytes])?;
            sealed_bytes += record_bytes;
            left -= payload;
        }
        Ok(&self.scratch[..sealed_bytes])
    }
}

/// Where the payload begins in a slot: behind a frame header, if this slot carries one.
fn payload_start(index: usize, frame_in_each: bool) -> usize {
    if index == 0 || frame_in_each {
        RECORD_HEADER_BYTES + FRAME_HEADER_BYTES
    } else {
        RECORD_HEADER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_slots_offer_exactly_what_may_be_sent(
            payload_bytes_max in 1..600_000usize,
            frame_bytes_max in 16_384..1_100_000usize,
        ) {
            let mut scratch = vec![0; SCRATCH_BYTES];
            let mut slots = Slots::new(&mut scratch, payload_bytes_max, frame_bytes_max);
            let (slices, used) = slots.payloads();
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let frames = if frame_bytes_max < 2 * RECORD_PLAINTEXT_BYTES_MAX { SLOTS } else { 1 };
            let room = SLOTS * RECORD_PLAINTEXT_BYTES_MAX - frames * FRAME_HEADER_BYTES;
            let frame_room = if frames == 1 { frame_bytes_max } else { usize::MAX };
            prop_assert_eq!(offered, payload_bytes_max.min(room).min(frame_room));
            prop_assert!(slices[..used].iter().all(|slice| !slice.is_empty()));
        }
    }
}

//! The hash for maps whose keys are ours: small integers and pointers a peer cannot choose freely.
//!
//! Deterministic, so that a simulated run replays; cheap, because it is paid for every frame.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`IntegerHasher`]s.
pub(crate) type FastHasher = BuildHasherDefault<IntegerHasher>;

/// Multiplies and folds each word (Fibonacci hashing).
#[derive(Default)]
pub(crate) struct IntegerHasher(u64);

impl IntegerHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for IntegerHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.add(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.add(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }
}

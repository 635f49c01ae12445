//! Bytes that can be checked on arrival: every offset has its own value, so loss, repetition and
//! exchange all show, and a running digest of what came.

/// The byte at `offset` of the stream with this `seed`.
pub fn byte_at(seed: u64, offset: u64) -> u8 {
    let word = mix(seed ^ (offset / 8));
    (word >> (8 * (offset % 8))) as u8
}

/// Fills `buffer` with the stream's bytes from `offset` on.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let mut at = 0;
    while at < buffer.len() {
        let position = offset + at as u64;
        let word = mix(seed ^ (position / 8)).to_le_bytes();
        let from = (position % 8) as usize;
        let count = (8 - from).min(buffer.len() - at);
        buffer[at..at + count].copy_from_slice(&word[from..from + count]);
        at += count;
    }
}

/// A digest of a byte stream that does not depend on how it was cut into pieces (FNV-1a, 64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// The digest of nothing.
    pub fn new() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    /// The digest of the first `bytes` bytes of the stream with this `seed`.
    pub fn of_stream(seed: u64, bytes: u64) -> Digest {
        let mut digest = Digest::new();
        let mut piece = [0; 4096];
        let mut offset = 0;
        while offset < bytes {
            let count = (bytes - offset).min(piece.len() as u64) as usize;
            fill(seed, offset, &mut piece[..count]);
            digest.update(&piece[..count]);
            offset += count as u64;
        }
        digest
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The digest so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

/// A bijective mixer (SplitMix64's finaliser): neighbouring inputs look unrelated.
fn mix(input: u64) -> u64 {
    let mut word = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_same_stream_and_the_same_digest() {
        let mut whole = [0; 1000];
        fill(7, 0, &mut whole);
        let mut digest = Digest::new();
        for (start, end) in [(0, 1), (1, 8), (8, 9), (9, 500), (500, 1000)] {
            let mut piece = vec![0; end - start];
            fill(7, start as u64, &mut piece);
            assert_eq!(piece, whole[start..end]);
            digest.update(&piece);
        }
        assert_eq!(digest, Digest::of_stream(7, 1000));
        assert!((0..1000).all(|at| byte_at(7, at) == whole[at as usize]));
    }

    #[test]
    fn a_swap_or_a_lost_byte_changes_the_digest() {
        let mut bytes = [0; 64];
        fill(1, 0, &mut bytes);
        let digest_of = |bytes: &[u8]| {
            let mut digest = Digest::new();
            digest.update(bytes);
            digest
        };
        let good = digest_of(&bytes);
        assert_ne!(digest_of(&bytes[..63]), good);
        bytes.swap(10, 11);
        assert_ne!(digest_of(&bytes), good);
    }
}

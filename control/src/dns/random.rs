//! Chance: unpredictable where somebody could profit from a guess, plain where not.

use std::net::IpAddr;

/// Random numbers for the order of addresses. Nothing depends on nobody guessing it.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Puts `addresses` into an order in which each is first as often as any other.
    pub fn shuffle(&mut self, addresses: &mut [IpAddr]) {
        for last in (1..addresses.len()).rev() {
            let other = (u128::from(self.next()) * (last as u128 + 1)) >> 64;
            addresses.swap(last, other as usize);
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The number of a query to a server: whoever would like to answer in its place has to guess it.
pub(super) fn query_id() -> u16 {
    let mut bytes = [0; 2];
    aws_lc_rs::rand::fill(&mut bytes)
        .expect("the system has random numbers, or nothing here is safe");
    u16::from_be_bytes(bytes)
}

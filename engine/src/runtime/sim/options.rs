//! What a world may do to its connections, and what it did.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::random::Random;

/// Chances are per million opportunities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldOptions {
    /// One-way delay of a connection; each segment adds up to a tenth.
    pub latency: RangeInclusive<Duration>,
    /// Capacity of each socket's send and receive buffer.
    pub buffer_bytes: RangeInclusive<u64>,
    /// Size of the segments in which bytes arrive.
    pub segment_bytes: RangeInclusive<u64>,
    /// A read that gives less than has arrived; the rest comes a little later.
    pub short_read: u32,
    /// A write that takes less than there is room for.
    pub short_write: u32,
    /// An arriving segment that finds its connection reset, at both ends.
    pub reset: u32,
    /// A dial that is refused though somebody listens.
    pub refuse: u32,
    /// A dial that is never answered.
    pub blackhole: u32,
    /// An arriving segment that never arrives, nor anything after it, in either direction.
    pub lose: u32,
    /// An accept, or a dial, for which the process has no descriptor left.
    pub shortage: u32,
    /// Tasks of a turn are polled in any order.
    pub shuffle_tasks: bool,
    /// The mark that redirection lets pass, and the bits of it that count.
    pub mark: u32,
}

/// The bits of a mark that redirection looks at.
pub(super) const MARK_MASK: u32 = 0xfff;

impl WorldOptions {
    /// No faults: delays, segments and nothing else.
    pub fn calm() -> WorldOptions {
        WorldOptions {
            latency: Duration::from_micros(50)..=Duration::from_millis(2),
            buffer_bytes: 16 * 1024..=256 * 1024,
            segment_bytes: 1..=64 * 1024,
            short_read: 0,
            short_write: 0,
            reset: 0,
            refuse: 0,
            blackhole: 0,
            lose: 0,
            shortage: 0,
            shuffle_tasks: true,
            mark: 0x539,
        }
    }

    /// A mix of faults drawn from the seed: every kind is absent, rare or frequent.
    pub fn drawn_from(seed: u64) -> WorldOptions {
        // Another sequence than the one the faults themselves are drawn from.
        let mut random = Random::new(!seed);
        let mut drawn = |rare: u32, frequent: u32| match random.within(0..=2) {
            0 => 0,
            1 => rare,
            _ => frequent,
        };
        let calm = WorldOptions::calm();
        let faulty = WorldOptions {
            short_read: drawn(10_000, 300_000),
            short_write: drawn(10_000, 300_000),
            reset: drawn(100, 5_000),
            refuse: drawn(1_000, 50_000),
            blackhole: drawn(1_000, 20_000),
            lose: drawn(100, 5_000),
            shortage: drawn(1_000, 30_000),
            ..calm
        };
        let tiny = random.within(0..=3) == 0;
        let buffer_bytes = if tiny { 512..=4096 } else { faulty.buffer_bytes.clone() };
        WorldOptions { buffer_bytes, ..faulty }
    }
}

/// How often each kind of thing really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultsMet {
    /// Reads that gave less than had arrived.
    pub short_reads: u64,
    /// Writes that took less than there was room for.
    pub short_writes: u64,
    /// Connections reset by the network.
    pub resets: u64,
    /// Dials refused though somebody listened.
    pub refused: u64,
    /// Dials that were never answered.
    pub blackholed: u64,
    /// Connections that died without a word, by chance or because a namespace was unplugged.
    pub lost: u64,
    /// Accepts that found no descriptor left.
    pub accepts_short: u64,
    /// Dials that found no descriptor left.
    pub dials_short: u64,
    /// Dials that a full accept queue turned away for a while.
    pub queue_full: u64,
    /// Dials captured on their way out of a pod.
    pub redirected_outbound: u64,
    /// Dials captured on their way into a pod.
    pub redirected_inbound: u64,
    /// Dials from an address of somebody else.
    pub foreign_sources: u64,
    /// Connections accepted.
    pub accepted: u64,
}

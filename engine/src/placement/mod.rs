//! Which shard serves a fresh connection: decided once, before its first byte.
//!
//! * A destination that is cold has one home shard, so that one tunnel carries what little goes there.
//!   One that is busy is served where its connections are accepted. How many connections make it busy
//!   depends on how much its home shard has to do.
//! * A shard that has much more to do than the others gives fresh connections to the least loaded.
//!
//! An established connection never moves.

mod count;

use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use self::count::StreamCount;
use crate::limits::{BUSY_STREAMS, BUSY_STREAMS_WHEN_QUIET};

/// A shard's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ShardId(pub(crate) u16);

/// Slots of the table of busy destinations. Two destinations in one slot only share a hint.
const DESTINATION_SLOTS: usize = 4096;
/// The least time over which loads are compared.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// A shard gives connections away when its load is above this share of the mean, in percent.
const OVERLOAD_PERCENT: u64 = 150;
/// Below this many bytes a second a shard has little to do, and nothing worth giving away.
const LOAD_BYTES_MIN: u64 = 64 << 20;

/// What all shards know of each other.
pub(crate) struct PlacementTable {
    /// What each shard has done so far.
    loads: Box<[Arc<Load>]>,
    /// Streams each destination has on its home shard, at most 255.
    destinations: Box<[StreamCount]>,
}

impl PlacementTable {
    pub(crate) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            loads: (0..shards).map(|_| Arc::default()).collect(),
            destinations: (0..DESTINATION_SLOTS).map(|_| StreamCount::default()).collect(),
        })
    }
}

/// The bytes one shard has moved since it started. It has one writer.
#[derive(Default)]
pub(crate) struct Load(AtomicU64);

impl Load {
    /// Counts bytes this shard has moved.
    pub(crate) fn moved(&self, bytes: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(bytes), Relaxed);
    }
}

/// One shard's part in the placement.
pub(crate) struct Placement {
    id: ShardId,
    table: Arc<PlacementTable>,
    sampled: RefCell<Sample>,
}

/// What the shards had done at some moment, and what they did per second before it.
struct Sample {
    at: Instant,
    totals: Box<[u64]>,
    bytes_per_second: Box<[u64]>,
}

impl Placement {
    pub(crate) fn new(id: ShardId, table: Arc<PlacementTable>, now: Instant) -> Self {
        let shards = table.loads.len();
        let nothing = || vec![0; shards].into_boxed_slice();
        let sampled = Sample { at: now, totals: nothing(), bytes_per_second: nothing() };
        Self { id, table, sampled: RefCell::new(sampled) }
    }

    /// Where this shard counts the bytes it moves.
    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.table.loads[usize::from(self.id.0)]
    }

    /// The shard that is to serve a connection of the workload `source` to `destination`.
    pub(crate) fn place(&self, source: &str, destination: SocketAddr, now: Instant) -> ShardId {
        if self.table.loads.len() < 2 {
            return self.id;
        }
        if let Some(idle) = self.relief(now) {
            return idle;
        }
        let key = key(source, destination);
        let streams = usize::from(self.slot(key).get());
        let home = self.home(key);
        let rate = self.sampled.borrow().bytes_per_second[usize::from(home.0)];
        let busy = if rate < LOAD_BYTES_MIN { BUSY_STREAMS_WHEN_QUIET } else { BUSY_STREAMS };
        if streams >= busy { self.id } else { home }
    }

    /// The shard that listens for a workload, where only one does. Every shard names the same.
    pub(crate) fn listener_of(&self, workload: &str) -> ShardId {
        self.home(key(workload, SocketAddr::from(([0, 0, 0, 0], 0))))
    }

    /// Counts a connection from `source` to `destination` for as long as the guard lives.
    pub(crate) fn count(&self, source: &str, destination: SocketAddr) -> Placed {
        let key = key(source, destination);
        let counted = self.slot(key).add();
        Placed { table: self.table.clone(), slot: counted.then(|| slot_of(key)) }
    }

    /// The least loaded shard, when this one carries far more than its share.
    fn relief(&self, now: Instant) -> Option<ShardId> {
        let mut sampled = self.sampled.borrow_mut();
        sampled.refresh(&self.table, now);
        let rates = &sampled.bytes_per_second;
        let own = rates[usize::from(self.id.0)];
        let mean = rates.iter().sum::<u64>() / rates.len() as u64;
        if own < LOAD_BYTES_MIN || own * 100 <= mean * OVERLOAD_PERCENT {
            return None;
        }
        let (least, _) = rates.iter().enumerate().min_by_key(|(_, rate)| **rate)?;
        Some(ShardId(u16::try_from(least).ok()?))
    }

    /// Rendezvous hashing: the shard with the highest score for the key.
    fn home(&self, key: u64) -> ShardId {
        let shards = u16::try_from(self.table.loads.len()).unwrap_or(u16::MAX);
        let score = |shard: &u16| mix(key ^ mix(u64::from(*shard) + 1));
        ShardId((0..shards).max_by_key(score).unwrap_or(self.id.0))
    }

    fn slot(&self, key: u64) -> &StreamCount {
        &self.table.destinations[slot_of(key)]
    }
}

impl Sample {
    fn refresh(&mut self, table: &PlacementTable, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        if elapsed < LOAD_INTERVAL {
            return;
        }
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        for (index, load) in table.loads.iter().enumerate() {
            let total = load.0.load(Relaxed);
            let moved = total.wrapping_sub(self.totals[index]);
            self.bytes_per_second[index] = moved.saturating_mul(1000) / milliseconds;
            self.totals[index] = total;
        }
        self.at = now;
    }
}

/// One counted connection.
pub(crate) struct Placed {
    table: Arc<PlacementTable>,
    slot: Option<usize>,
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.table.destinations[slot].remove();
        }
    }
}

fn slot_of(key: u64) -> usize {
    key as usize % DESTINATION_SLOTS
}

fn key(source: &str, destination: SocketAddr) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = crate::hash::IntegerHasher::default();
    source.hash(&mut hasher);
    destination.hash(&mut hasher);
    mix(hasher.finish())
}

/// Spreads every bit over the whole word (the finaliser of splitmix64).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u16) -> Vec<Placement> {
        let table = PlacementTable::new(count.into());
        let now = Instant::now();
        (0..count).map(|id| Placement::new(ShardId(id), table.clone(), now)).collect()
    }

    fn destination(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn one_shard_listens_for_a_workload_and_they_share_the_workloads() {
        let shards = shards(4);
        let mut listening = [0; 4];
        for number in 0..256 {
            let uid = format!("pod-{number}");
            let of: Vec<_> = shards.iter().map(|shard| shard.listener_of(&uid)).collect();
            assert!(of.iter().all(|one| *one == of[0]), "{of:?}");
            listening[usize::from(of[0].0)] += 1;
        }
        assert!(listening.iter().all(|&share| share > 32), "{listening:?}");
    }

    #[test]
    fn every_shard_names_the_same_home_for_a_cold_destination() {
        let shards = shards(4);
        for last in 0..100 {
            let homes: Vec<_> = shards
                .iter()
                .map(|shard| shard.place("pod", destination(last), Instant::now()))
                .collect();
            assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
        }
    }

    #[test]
    fn homes_are_spread_over_the_shards() {
        let shards = shards(4);
        let mut homes = [0; 4];
        for last in 0..=255 {
            homes[usize::from(shards[0].place("pod", destination(last), Instant::now()).0)] += 1;
        }
        assert!(homes.iter().all(|&share| share > 32), "{homes:?}");
    }

    #[test]
    fn a_busy_destination_is_served_where_it_is_accepted_until_it_is_cold_again() {
        let shards = shards(4);
        let counted: Vec<_> =
            (0..BUSY_STREAMS_WHEN_QUIET).map(|_| shards[0].count("pod", destination(1))).collect();
        for shard in &shards {
            assert_eq!(shard.place("pod", destination(1), Instant::now()), shard.id);
        }
        drop(counted);
        let home = shards[0].place("pod", destination(1), Instant::now());
        assert!(
            shards.iter().all(|shard| shard.place("pod", destination(1), Instant::now()) == home)
        );
    }

    #[test]
    fn fewer_connections_make_a_destination_busy_while_its_home_has_much_to_do() {
        let shards = shards(2);
        let now = Instant::now();
        let home = shards[0].place("pod", destination(1), now);
        let (other, home) = match home {
            ShardId(0) => (&shards[1], &shards[0]),
            _ => (&shards[0], &shards[1]),
        };
        let _counted: Vec<_> =
            (0..BUSY_STREAMS).map(|_| home.count("pod", destination(1))).collect();
        assert_eq!(other.place("pod", destination(1), now), home.id);
        home.load().moved(2 * LOAD_BYTES_MIN);
        assert_eq!(other.place("pod", destination(1), now + LOAD_INTERVAL), other.id);
        let later = now + 2 * LOAD_INTERVAL;
        assert_eq!(other.place("pod", destination(1), later), home.id, "nothing moved since");
    }

    #[test]
    fn an_overloaded_shard_gives_fresh_connections_to_the_least_loaded() {
        let shards = shards(3);
        for (shard, bytes) in shards.iter().zip([10u64 << 30, 2 << 30, 1 << 30]) {
            shard.load().moved(bytes);
        }
        let later = Instant::now() + LOAD_INTERVAL;
        assert_eq!(shards[0].relief(later), Some(ShardId(2)));
        assert_eq!(shards[1].relief(later), None);
        assert_eq!(shards[0].relief(later + LOAD_INTERVAL), None, "nothing moved since");
    }
}

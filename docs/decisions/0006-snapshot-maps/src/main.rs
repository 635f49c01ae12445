//! Weighs persistent maps: bytes held per entry, and what one change allocates while a clone is kept.
//!
//! Each map holds `Arc`s by a 64-bit hash, as the snapshot's indexes do; the values themselves are not counted.

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[path = "../../../../engine/src/snapshot/tree/mod.rs"]
#[allow(dead_code)]
mod tree;

/// What the tree reports about itself elsewhere.
mod footprint {
    #[derive(Clone, Copy, Default)]
    pub struct Footprint {
        pub nodes: usize,
        pub bytes: usize,
    }

    impl std::ops::AddAssign for Footprint {
        fn add_assign(&mut self, other: Footprint) {
            self.nodes += other.nodes;
            self.bytes += other.bytes;
        }
    }
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Value = Arc<[u8; 64]>;

trait Map: Clone + Default {
    const NAME: &'static str;
    fn set(&mut self, key: u64, value: Value);
    fn has(&self, key: u64) -> bool;
}

#[derive(Clone, Default)]
struct BTree(tree::Tree<Slot>);

#[derive(Clone)]
struct Slot {
    key: u64,
    _value: Value,
}

impl tree::Entry for Slot {
    fn key(&self) -> u64 {
        self.key
    }
}

impl Map for BTree {
    const NAME: &'static str = "own B+ tree";

    fn set(&mut self, key: u64, value: Value) {
        self.0.remove(key, |_| true);
        self.0.insert(Slot { key, _value: value });
    }

    fn has(&self, key: u64) -> bool {
        self.0.find(key, |_| true).is_some()
    }
}

/// Two levels of pointers by the first bits of the key, then a sorted bucket.
#[derive(Clone)]
struct Radix(Arc<Vec<Arc<Vec<Bucket>>>>);

type Bucket = Arc<Vec<(u64, Value)>>;

const RADIX_BITS: u32 = 6;

impl Default for Radix {
    fn default() -> Radix {
        let empty = Arc::new(vec![Arc::default(); 1 << RADIX_BITS]);
        Radix(Arc::new(vec![empty; 1 << RADIX_BITS]))
    }
}

impl Map for Radix {
    const NAME: &'static str = "two-level radix of sorted buckets";

    fn set(&mut self, key: u64, value: Value) {
        let (high, low) = digits(key);
        let middle = Arc::make_mut(&mut Arc::make_mut(&mut self.0)[high]);
        let bucket = Arc::make_mut(&mut middle[low]);
        match bucket.binary_search_by_key(&key, |entry| entry.0) {
            Ok(index) => bucket[index].1 = value,
            Err(index) => {
                if bucket.len() == bucket.capacity() {
                    bucket.reserve_exact(4);
                }
                bucket.insert(index, (key, value));
            }
        }
    }

    fn has(&self, key: u64) -> bool {
        let (high, low) = digits(key);
        self.0[high][low].binary_search_by_key(&key, |entry| entry.0).is_ok()
    }
}

fn digits(key: u64) -> (usize, usize) {
    let high = key >> (64 - RADIX_BITS);
    let low = key >> (64 - 2 * RADIX_BITS) & ((1 << RADIX_BITS) - 1);
    (high as usize, low as usize)
}

macro_rules! foreign {
    ($name:ident, $label:literal, $map:ty, $set:ident) => {
        #[derive(Clone, Default)]
        struct $name($map);

        impl Map for $name {
            const NAME: &'static str = $label;

            fn set(&mut self, key: u64, value: Value) {
                self.0.$set(key, value);
            }

            fn has(&self, key: u64) -> bool {
                self.0.get(&key).is_some()
            }
        }
    };
}

foreign!(ImblHash, "imbl::HashMap", imbl::HashMap<u64, Value>, insert);
foreign!(ImblOrd, "imbl::OrdMap", imbl::OrdMap<u64, Value>, insert);
foreign!(RpdsHash, "rpds::HashTrieMapSync", rpds::HashTrieMapSync<u64, Value>, insert_mut);
foreign!(RpdsTree, "rpds::RedBlackTreeMapSync", rpds::RedBlackTreeMapSync<u64, Value>, insert_mut);

fn main() {
    println!(
        "| map | bytes per entry, one of 150,000 | bytes per entry, 6,000 of 25 | allocations per change | bytes per change | ns per lookup |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    weigh::<BTree>();
    weigh::<Radix>();
    weigh::<ImblHash>();
    weigh::<ImblOrd>();
    weigh::<RpdsHash>();
    weigh::<RpdsTree>();
}

fn weigh<M: Map>() {
    let value: Value = Arc::new([0; 64]);
    let mut keys = Keys(1);

    let all: Vec<u64> = (0..150_000).map(|_| keys.next()).collect();
    let region = Region::new(ALLOCATOR);
    let mut map = M::default();
    for &key in &all {
        map.set(key, value.clone());
    }
    let large = held(&region) as f64 / all.len() as f64;

    let mut small = Vec::with_capacity(6_000);
    let region = Region::new(ALLOCATOR);
    for _ in 0..6_000 {
        let mut map = M::default();
        for _ in 0..25 {
            map.set(keys.next(), value.clone());
        }
        small.push(map);
    }
    let small = held(&region) as f64 / (25 * small.len()) as f64;

    let changed: Vec<u64> = all.iter().copied().step_by(150).collect();
    let region = Region::new(ALLOCATOR);
    for &key in &changed {
        let mut next = map.clone();
        next.set(key, value.clone());
        black_box(next);
    }
    let change = region.change();
    let per = |count: usize| count as f64 / changed.len() as f64;

    let started = Instant::now();
    let found = (0..10).flat_map(|_| &all).filter(|&&key| map.has(key)).count();
    let lookup = started.elapsed().as_nanos() as f64 / found as f64;
    println!(
        "| {} | {large:.1} | {small:.1} | {:.1} | {:.0} | {lookup:.0} |",
        M::NAME,
        per(change.allocations + change.reallocations),
        per(change.bytes_allocated),
    );
}

fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

/// SplitMix64: keys as uniform as hashes are.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

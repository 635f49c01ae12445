//! Rate limits that are kept here: token buckets, one for each value of a key.
//!
//! A bucket is one number, the moment at which it is full again (the generic cell rate algorithm); a request moves it by
//! the time it stands for, and is refused when that would be further ahead than the burst allows. A bucket whose moment has
//! passed is a full one, so it can be forgotten: its place is taken by the next key that needs one.
//!
//! **Invariant:** all shards share a limiter, without locks. Two that take a place at the same time may charge one
//! request to the wrong key; the rate of a key that stays is exact.

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::policy::LocalRateLimit;

/// Keys of one limit that are not full at the same time. Those that find no place share one bucket.
pub const KEYS_MAX: usize = 4096;

/// Places where a key may be.
const PROBES: usize = 8;

/// A limit and the buckets of all its keys.
#[derive(Debug)]
pub struct Limiter {
    /// Nanoseconds for one request.
    cost: u64,
    /// How far ahead a bucket may be.
    tolerance: u64,
    seed: u64,
    places: Box<[Place]>,
    /// Of all keys that find no other.
    overflow: Place,
}

#[derive(Debug, Default)]
struct Place {
    /// The hash of whose bucket this is.
    key: AtomicU64,
    /// Nanoseconds since the epoch of the caller's clock.
    full_at: AtomicU64,
}

/// What a limit says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It passes, and so many more would at once.
    Passes {
        /// So many more.
        remaining: u32,
    },
    /// It does not; after this long one would.
    Limited {
        /// So long.
        retry_after: Duration,
    },
}

impl Limiter {
    /// The buckets of a limit, all full. The seed keeps clients from choosing keys that share a place.
    pub fn new(limit: &LocalRateLimit, seed: u64) -> Limiter {
        let places = if limit.key.is_empty() { 1 } else { KEYS_MAX };
        let nanoseconds = u64::try_from(limit.interval.as_nanos()).unwrap_or(u64::MAX);
        let cost = (nanoseconds / u64::from(limit.requests.max(1))).max(1);
        Limiter {
            cost,
            tolerance: cost.saturating_mul(u64::from(limit.burst.max(1))),
            seed,
            places: (0..places).map(|_| Place::default()).collect(),
            overflow: Place::default(),
        }
    }

    /// Takes one request of a key, at `now` since an epoch of the caller's.
    pub fn take(&self, key: &[&str], now: Duration) -> Ruling {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let place = self.place(self.hash(key), now);
        self.take_from(place.unwrap_or(&self.overflow), now)
    }

    fn take_from(&self, place: &Place, now: u64) -> Ruling {
        let latest = now.saturating_add(self.tolerance);
        let moved = |full_at: u64| {
            let moved = full_at.max(now).saturating_add(self.cost);
            (moved <= latest).then_some(moved)
        };
        match place.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved) {
            Ok(before) => {
                let left = latest - (before.max(now) + self.cost);
                Ruling::Passes { remaining: u32::try_from(left / self.cost).unwrap_or(u32::MAX) }
            }
            Err(full_at) => {
                let wait = full_at.saturating_add(self.cost).saturating_sub(latest);
                Ruling::Limited { retry_after: Duration::from_nanos(wait) }
            }
        }
    }

    /// Where the bucket of a key is; one that is full is taken over.
    fn place(&self, hash: u64, now: u64) -> Option<&Place> {
        let count = self.places.len();
        if count == 1 {
            return self.places.first();
        }
        let probes = (0..PROBES).map(|probe| &self.places[(hash as usize + probe) % count]);
        let own = |place: &&Place| place.key.load(Ordering::Relaxed) == hash;
        let is_full = |place: &&Place| place.full_at.load(Ordering::Relaxed) <= now;
        probes.clone().find(own).or_else(|| {
            let free = probes.clone().find(is_full)?;
            free.key.store(hash, Ordering::Relaxed);
            Some(free)
        })
    }

    fn hash(&self, key: &[&str]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        for part in key {
            hasher.write(part.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::policy::{Descriptor, DescriptorValue};

    fn limit(requests: u32, interval: Duration, burst: u32, keyed: bool) -> LocalRateLimit {
        let path = Descriptor { name: "path".into(), value: DescriptorValue::Path };
        let key = if keyed { vec![path] } else { Vec::new() };
        LocalRateLimit { key, burst, requests, interval }
    }

    fn passes(ruling: Ruling) -> bool {
        matches!(ruling, Ruling::Passes { .. })
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let limiter = Limiter::new(&limit(10, Duration::from_secs(1), 3, false), 0);
        let at = Duration::from_millis;
        #[rustfmt::skip]
        let rows = [
            (5_000, Ruling::Passes { remaining: 2 }),
            (5_000, Ruling::Passes { remaining: 1 }),
            (5_000, Ruling::Passes { remaining: 0 }),
            (5_000, Ruling::Limited { retry_after: at(100) }),
            (5_060, Ruling::Limited { retry_after: at(40) }),
            (5_100, Ruling::Passes { remaining: 0 }),
            (5_100, Ruling::Limited { retry_after: at(100) }),
            (9_000, Ruling::Passes { remaining: 2 }),
        ];
        for (row, (now, want)) in rows.into_iter().enumerate() {
            assert_eq!(limiter.take(&[], at(now)), want, "row {row}");
        }
    }

    #[test]
    fn keys_have_buckets_of_their_own() {
        let limiter = Limiter::new(&limit(1, Duration::from_secs(60), 1, true), 7);
        let now = Duration::from_secs(1);
        assert!(passes(limiter.take(&["/a"], now)));
        assert!(!passes(limiter.take(&["/a"], now)));
        assert!(passes(limiter.take(&["/b"], now)));
        // Parts do not run together.
        assert!(passes(limiter.take(&["a", "bc"], now)));
        assert!(passes(limiter.take(&["ab", "c"], now)));
    }

    /// A key that is limited stays so, however many others come.
    #[test]
    fn many_keys_do_not_push_out_one_that_is_limited() {
        let limiter = Limiter::new(&limit(1, Duration::from_secs(60), 1, true), 7);
        let now = Duration::from_secs(1);
        assert!(passes(limiter.take(&["one"], now)));
        for number in 0..KEYS_MAX * 4 {
            limiter.take(&[&number.to_string()], now);
        }
        assert!(!passes(limiter.take(&["one"], now)));
        assert!(passes(limiter.take(&["one"], now + Duration::from_secs(60))));
    }

    #[test]
    fn threads_share_a_bucket() {
        let limiter = Limiter::new(&limit(1, Duration::from_secs(3600), 1000, false), 0);
        let passed: usize = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| passes(limiter.take(&[], Duration::ZERO))).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1000);
    }

    proptest! {
        /// Whatever comes when, no more passes in any stretch of time than burst and rate allow.
        #[test]
        fn never_more_than_said(
            requests in 1u32..50,
            burst in 1u32..20,
            pauses in prop::collection::vec(0u64..80, 1..200),
        ) {
            let interval = Duration::from_secs(1);
            let limiter = Limiter::new(&limit(requests, interval, burst, false), 0);
            let mut now = Duration::from_secs(10);
            let mut passed = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                if passes(limiter.take(&[], now)) {
                    passed.push(now);
                }
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let allowed = f64::from(burst) + (*end - *start).as_secs_f64() * f64::from(requests);
                    prop_assert!((last - first + 1) as f64 <= allowed + 0.001);
                }
            }
        }
    }
}

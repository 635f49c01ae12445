//! How much may be tried again: a share of the requests of the last while, and a little in any case.
//!
//! The last interval is counted in slices; the oldest is dropped when a new one begins. All shards count into the same
//! slices, so the share is one of all requests, wherever they were served.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::model::traffic::RetryBudget;

/// Slices of an interval.
const SLICES: usize = 10;

/// Requests and retries of one service in the last interval.
#[derive(Debug, Default)]
pub struct Budget {
    slices: [Slice; SLICES],
}

#[derive(Debug, Default)]
struct Slice {
    /// Which slice of time this is, counted from the epoch of the caller's clock, and one more.
    number: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

impl Budget {
    /// Takes note of a request that is not a retry.
    pub fn request(&self, policy: &RetryBudget, now: Duration) {
        self.slice(policy, now).requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a request may be tried again now; if so it is taken note of.
    pub fn retry(&self, policy: &RetryBudget, now: Duration) -> bool {
        let current = self.slice(policy, now);
        let newest = number(policy, now);
        let recent = self.slices.iter().filter(|slice| {
            newest - slice.number.load(Ordering::Relaxed).min(newest) < SLICES as u64
        });
        let (requests, retries) = recent.fold((0_u64, 0_u64), |(requests, retries), slice| {
            let more = slice.requests.load(Ordering::Relaxed);
            let again = slice.retries.load(Ordering::Relaxed);
            (requests + u64::from(more), retries + u64::from(again))
        });
        let may = (retries as f64) < allowed(policy, requests);
        if may {
            current.retries.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    /// The slice that `now` falls into, emptied if it was another one's before.
    fn slice(&self, policy: &RetryBudget, now: Duration) -> &Slice {
        let number = number(policy, now);
        let slice = &self.slices[(number % SLICES as u64) as usize];
        let before = slice.number.load(Ordering::Relaxed);
        let order = (Ordering::Relaxed, Ordering::Relaxed);
        let is_new = before != number;
        if is_new && slice.number.compare_exchange(before, number, order.0, order.1).is_ok() {
            slice.requests.store(0, Ordering::Relaxed);
            slice.retries.store(0, Ordering::Relaxed);
        }
        slice
    }
}

/// Retries that so many requests allow.
fn allowed(policy: &RetryBudget, requests: u64) -> f64 {
    let floor_interval = policy.floor_interval.as_secs_f64().max(0.001);
    let floor = f64::from(policy.floor) * policy.interval.as_secs_f64() / floor_interval;
    (requests as f64 * policy.percent / 100.0).max(floor)
}

fn number(policy: &RetryBudget, now: Duration) -> u64 {
    let slice = (policy.interval.as_nanos() / SLICES as u128).max(1);
    // Never zero, which is that of a slice nobody has used.
    u64::try_from(now.as_nanos() / slice).unwrap_or(u64::MAX - 1) + SLICES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(percent: f64, floor: u32) -> RetryBudget {
        RetryBudget { percent, floor, ..RetryBudget::default() }
    }

    fn retries(budget: &Budget, policy: &RetryBudget, now: Duration) -> usize {
        (0..10_000).take_while(|_| budget.retry(policy, now)).count()
    }

    #[test]
    fn a_share_of_the_requests_or_the_floor() {
        let now = Duration::from_secs(100);
        #[rustfmt::skip]
        let rows = [
            ("the share",             1000, policy(20.0, 0),   200),
            ("nothing is a share",    1000, policy(0.0, 0),    0),
            ("all",                   1000, policy(100.0, 0),  1000),
            ("the floor",             10,   policy(20.0, 10),  100),
            ("share above the floor", 1000, policy(20.0, 1),   200),
            ("nothing to share",      0,    policy(20.0, 0),   0),
        ];
        for (name, requests, policy, want) in rows {
            let budget = Budget::default();
            (0..requests).for_each(|_| budget.request(&policy, now));
            assert_eq!(retries(&budget, &policy, now), want, "{name}");
        }
    }

    #[test]
    fn what_was_spent_comes_back_with_the_interval() {
        let (policy, budget) = (policy(10.0, 0), Budget::default());
        let start = Duration::from_secs(50);
        (0..100).for_each(|_| budget.request(&policy, start));
        assert_eq!(retries(&budget, &policy, start), 10);
        assert_eq!(retries(&budget, &policy, start + Duration::from_secs(9)), 0);
        // The requests are forgotten with the retries.
        let later = start + Duration::from_secs(11);
        assert_eq!(retries(&budget, &policy, later), 0);
        (0..50).for_each(|_| budget.request(&policy, later));
        assert_eq!(retries(&budget, &policy, later), 5);
    }

    /// In a storm in which everything fails, requests with their retries stay at the share.
    #[test]
    fn a_storm_stays_small() {
        let (policy, budget) = (policy(20.0, 0), Budget::default());
        let mut retried = 0;
        for millisecond in 0..60_000 {
            let now = Duration::from_millis(millisecond);
            budget.request(&policy, now);
            retried += usize::from(budget.retry(&policy, now));
        }
        assert!((11_000..=12_500).contains(&retried), "{retried}");
    }
}

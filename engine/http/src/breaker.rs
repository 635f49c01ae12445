//! How much may be under way to one service: connections, requests that wait, requests, retries.
//!
//! All shards share the counts; what holds a place gives it back when it ends, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::traffic::ConnectionLimits;

/// What is under way to one service.
#[derive(Debug, Default)]
pub struct Breaker {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Connections to endpoints.
    Connections,
    /// Requests that wait for one.
    Pending,
    /// Requests under way, those that wait included.
    Requests,
    /// Those of them that are retries.
    Retries,
}

/// A place among what may be under way.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    counted: Counted,
}

impl Breaker {
    /// Takes a place; none: there is none, and the request is refused with `UO`.
    pub fn enter(self: &Arc<Self>, counted: Counted, limits: &ConnectionLimits) -> Option<Permit> {
        let most = match counted {
            Counted::Connections => limits.connections,
            Counted::Pending => limits.pending,
            Counted::Requests => limits.requests,
            Counted::Retries => limits.retries,
        };
        let most = most.unwrap_or(u32::MAX);
        let one_more = |count: u32| (count < most).then(|| count + 1);
        self.count_of(counted).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Permit { breaker: self.clone(), counted })
    }

    /// How much is under way.
    pub fn count(&self, counted: Counted) -> u32 {
        self.count_of(counted).load(Ordering::Relaxed)
    }

    fn count_of(&self, counted: Counted) -> &AtomicU32 {
        match counted {
            Counted::Connections => &self.connections,
            Counted::Pending => &self.pending,
            Counted::Requests => &self.requests,
            Counted::Retries => &self.retries,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.breaker.count_of(self.counted).fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "every permit was counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let breaker = Arc::new(Breaker::default());
        let limits = ConnectionLimits { requests: Some(2), ..ConnectionLimits::default() };
        let enter = || breaker.enter(Counted::Requests, &limits);
        let (one, two) = (enter(), enter());
        assert!(one.is_some() && two.is_some() && enter().is_none());
        assert!(breaker.enter(Counted::Connections, &limits).is_some());
        drop(one);
        assert_eq!(breaker.count(Counted::Requests), 1);
        assert!(enter().is_some());
    }

    /// A limit that is lowered lets nobody in until enough have left; nobody is thrown out.
    #[test]
    fn limits_may_change() {
        let breaker = Arc::new(Breaker::default());
        let limits = |most| ConnectionLimits { pending: most, ..ConnectionLimits::default() };
        let held: Vec<_> =
            (0..5).map(|_| breaker.enter(Counted::Pending, &limits(None)).unwrap()).collect();
        assert!(breaker.enter(Counted::Pending, &limits(Some(3))).is_none());
        drop(held);
        assert!(breaker.enter(Counted::Pending, &limits(Some(3))).is_some());
        assert!(breaker.enter(Counted::Pending, &limits(Some(0))).is_none());
    }

    #[test]
    fn threads_share_the_places() {
        let breaker = Arc::new(Breaker::default());
        let limits = ConnectionLimits { connections: Some(100), ..ConnectionLimits::default() };
        let taken: usize = std::thread::scope(|scope| {
            let take = || {
                let taken = (0..100).filter_map(|_| breaker.enter(Counted::Connections, &limits));
                let taken: Vec<_> = taken.collect();
                let count = taken.len();
                // They stay taken until all threads have tried.
                std::mem::forget(taken);
                count
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, breaker.count(Counted::Connections)), (100, 100));
    }
}

//! A rate that is kept by waiting: so many a second, with a burst of one second's.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How far ahead of its pace a rate may get.
const BURST: Duration = Duration::from_secs(1);

/// One bucket, kept as the moment at which it would be full again (the generic cell rate algorithm).
pub(crate) struct Rate {
    interval: Option<Duration>,
    full_at: Cell<Instant>,
}

impl Rate {
    /// `per_second` shared by so many shards; zero: none.
    pub(crate) fn new(per_second: u64, shards: usize, now: Instant) -> Self {
        let share = per_second.div_ceil(shards as u64);
        let interval =
            (share > 0).then(|| Duration::from_secs(1) / u32::try_from(share).unwrap_or(u32::MAX));
        Self { interval, full_at: Cell::new(now) }
    }

    /// Takes one, or tells from when on there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Instant> {
        let Some(interval) = self.interval else { return Ok(()) };
        let full_at = self.full_at.get().max(now);
        let next = full_at + interval;
        if next > now + BURST {
            return Err(next - BURST);
        }
        self.full_at.set(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_at_once_and_then_the_pace_is_kept() {
        let start = Instant::now();
        let rate = Rate::new(100, 2, start);
        assert_eq!((0..1000).take_while(|_| rate.take(start).is_ok()).count(), 50);
        let next = rate.take(start).unwrap_err();
        assert_eq!(next, start + Duration::from_millis(20));
        assert!(rate.take(next).is_ok());
        assert!(rate.take(next).is_err());
        let rested = start + Duration::from_secs(60);
        assert_eq!((0..1000).take_while(|_| rate.take(rested).is_ok()).count(), 50);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let now = Instant::now();
        let rate = Rate::new(0, 2, now);
        assert!((0..10_000).all(|_| rate.take(now).is_ok()));
    }
}

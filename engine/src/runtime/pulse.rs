//! Whether a shard goes round: since when its turn lasts, for a watchdog on another thread.
//!
//! Two stores a turn, and no clock is read for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// See the module's text. In whole seconds: what is looked for lasts several.
#[derive(Debug)]
pub struct Pulse {
    base: Instant,
    /// Seconds from `base` to the begin of the turn, and one more; zero: it waits.
    began: AtomicU64,
}

impl Pulse {
    /// Of a shard that waits.
    pub(crate) fn new(now: Instant) -> Self {
        Self { base: now, began: AtomicU64::new(0) }
    }

    /// A turn begins.
    pub(crate) fn turn(&self, now: Instant) {
        self.began.store(now.saturating_duration_since(self.base).as_secs() + 1, Relaxed);
    }

    /// The shard waits, and is nobody's trouble.
    pub(crate) fn rest(&self) {
        self.began.store(0, Relaxed);
    }

    /// How long the turn under way has lasted, to a second; none while the shard waits.
    pub fn turn_lasts(&self, now: Instant) -> Option<Duration> {
        let began = self.began.load(Relaxed).checked_sub(1)?;
        let now = now.saturating_duration_since(self.base).as_secs();
        Some(Duration::from_secs(now.saturating_sub(began)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ReactorChoice, Runtime, sleep, spawn};

    #[test]
    fn a_turn_that_lasts_is_told_and_a_wait_is_not() {
        let start = Instant::now();
        let (pulse, after) = (Pulse::new(start), |seconds| start + Duration::from_secs(seconds));
        assert_eq!(pulse.turn_lasts(after(9)), None);
        pulse.turn(after(2));
        assert_eq!(pulse.turn_lasts(after(2)), Some(Duration::ZERO));
        assert_eq!(pulse.turn_lasts(after(9)), Some(Duration::from_secs(7)));
        pulse.turn(after(9));
        assert_eq!(pulse.turn_lasts(after(9)), Some(Duration::ZERO), "the next turn");
        pulse.rest();
        assert_eq!(pulse.turn_lasts(after(99)), None);
    }

    #[test]
    fn a_shard_that_spins_is_seen_from_another_thread_until_it_goes_on() {
        for reactor in [ReactorChoice::Auto, ReactorChoice::Epoll] {
            let (made, pulse) = std::sync::mpsc::channel();
            let (seen, go_on) = std::sync::mpsc::channel::<()>();
            let shard = std::thread::spawn(move || {
                let (runtime, _) = Runtime::new(reactor).unwrap();
                made.send(runtime.pulse()).unwrap();
                runtime.block_on(async move {
                    sleep(Duration::from_millis(1)).await;
                    // Never gives the turn back.
                    let spinning = spawn(async move { while go_on.try_recv().is_err() {} });
                    spinning.await;
                    sleep(Duration::from_millis(1)).await;
                });
                runtime.pulse()
            });
            let pulse = pulse.recv().unwrap();
            while pulse.turn_lasts(Instant::now()).is_none_or(|lasts| lasts.is_zero()) {
                std::thread::sleep(Duration::from_millis(5));
            }
            seen.send(()).unwrap();
            let pulse = shard.join().unwrap();
            assert!(
                pulse.turn_lasts(Instant::now()).is_none_or(|lasts| lasts < Duration::from_secs(2))
            );
        }
    }
}

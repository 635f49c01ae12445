//! When to connect to the agent again.

use std::time::{Duration, Instant};

/// The first pause; it doubles from there.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// The longest pause. A connection that lasted as long was a good one.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How the last attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody listens, or the greeting was not taken.
    NotConnected,
    /// The agent left, or its connection broke, before it had named its pods.
    Early,
    /// The agent left, or its connection broke.
    Left,
    /// We ended it, because the agent said what cannot be.
    Refused,
}

/// How often it did not work in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// For how long to wait after a connection that began `since` ended so.
    pub(super) fn pause(&mut self, ended: Ended, since: Instant, now: Instant) -> Duration {
        let was_good = now.duration_since(since) >= PAUSE_MAX;
        if ended == Ended::Left || was_good {
            self.failures = 0;
        }
        if ended == Ended::Left {
            return Duration::ZERO;
        }
        // Beyond eleven doublings the pause is the longest anyway.
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(11)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_an_agent_has_named_its_pods_and_left() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        let mut pause = |ended, lasted| backoff.pause(ended, start, start + lasted);
        let moment = Duration::from_millis(3);
        let pauses: Vec<u64> =
            (0..13).map(|_| pause(Ended::NotConnected, moment).as_millis() as u64).collect();
        let want = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15000, 15000];
        assert_eq!(pauses, want);
        assert_eq!(pause(Ended::Early, moment), PAUSE_MAX, "it goes on");
        assert_eq!(pause(Ended::Left, moment), Duration::ZERO, "at once");
        assert_eq!(pause(Ended::Refused, moment).as_millis(), 10, "from the beginning");
        assert_eq!(pause(Ended::Refused, moment).as_millis(), 20, "no loop at full speed");
        assert_eq!(pause(Ended::Refused, PAUSE_MAX).as_millis(), 10, "it was a good one");
    }
}

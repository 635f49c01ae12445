//! An authority that cannot be reached: it is tried with one request at a time, and never long after it may be back.
//!
//! While it is away, identities keep their place and their own pauses do not grow: nothing was said about them. With the
//! first answer of any kind the outage is over, and everybody is asked for at once.

use std::time::{Duration, SystemTime};

/// First pause of an outage; it doubles from there.
const PROBE_FIRST: Duration = Duration::from_millis(500);

/// Longest pause: with a connection made on top of it, certificates are there within five seconds of the authority's
/// return.
const PROBE_MAX: Duration = Duration::from_secs(3);

pub(super) struct Outage {
    pub(super) since: SystemTime,
    failures: u32,
    /// When the next request may be sent.
    pub(super) probe: SystemTime,
}

impl Outage {
    pub(super) fn begin(now: SystemTime) -> Self {
        Self { since: now, failures: 0, probe: now }
    }

    /// One more request was in vain. Those that were sent side by side count as one.
    pub(super) fn go_on(&mut self, spread: f64, now: SystemTime) {
        if now < self.probe {
            return;
        }
        let pause = PROBE_FIRST.saturating_mul(1 << self.failures.min(8)).min(PROBE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.probe = now + pause.mul_f64(spread).min(PROBE_MAX);
    }
}

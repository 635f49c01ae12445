//! One identity's place in the store: what it has, what is wrong, and when it is tried next.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_protocols::tls::Credentials;

use super::{Epoch, Priority};

/// First pause after a refusal; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest pause after refusals.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(150);

/// A refused identity is asked for again after this, whatever its pause was to be, when somebody waits for it or the
/// authority has come round.
const DEMAND_PAUSE: Duration = Duration::from_secs(2);

/// A certificate is never renewed sooner, however short its life.
const RENEWAL_PAUSE_MIN: Duration = Duration::from_millis(500);

pub(super) struct Entry {
    pub(super) credentials: Option<Available>,
    pub(super) error: Option<String>,
    pub(super) failures: u32,
    /// When to try next.
    pub(super) due: SystemTime,
    /// When it was last tried in vain.
    refused: Option<SystemTime>,
    /// How urgent it is as long as there are no credentials.
    priority: Priority,
}

pub(super) struct Available {
    pub(super) credentials: Arc<Credentials>,
    pub(super) epoch: Epoch,
}

impl Entry {
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            credentials: None,
            error: None,
            failures: 0,
            due: now,
            refused: None,
            priority: Priority::Warmup,
        }
    }

    /// How urgent the next attempt is: renewals can wait.
    pub(super) fn priority(&self) -> Priority {
        match self.credentials {
            Some(_) => Priority::Background,
            None => self.priority,
        }
    }

    /// Somebody waits for it. `true`: the next attempt was moved forward.
    pub(super) fn demand(&mut self, now: SystemTime) -> bool {
        if self.credentials.is_some() {
            return false;
        }
        self.priority = Priority::RealTime;
        self.retry_soon(now)
    }

    /// What was refused is tried again after a short pause. `true`: that is earlier than it was to be.
    pub(super) fn retry_soon(&mut self, now: SystemTime) -> bool {
        let Some(refused) = self.refused else { return false };
        let soonest = (refused + DEMAND_PAUSE).max(now);
        let pulled = soonest < self.due;
        self.due = self.due.min(soonest);
        pulled
    }

    pub(super) fn succeed(
        &mut self,
        credentials: Arc<Credentials>,
        epoch: Epoch,
        spread: f64,
        now: SystemTime,
    ) {
        // Counted from now and not from the backdated first moment: half of what is left of its life.
        let life = credentials.not_after().duration_since(now).unwrap_or_default();
        self.due = now + (life / 2).mul_f64(spread).max(RENEWAL_PAUSE_MIN);
        self.credentials = Some(Available { credentials, epoch });
        self.error = None;
        self.failures = 0;
        self.refused = None;
        self.priority = Priority::Warmup;
    }

    pub(super) fn fail(&mut self, error: String, spread: f64, now: SystemTime) {
        let pause = RETRY_FIRST.saturating_mul(1u32 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause.mul_f64(spread).min(RETRY_MAX);
        // Not later than the moment the valid one ends.
        if let Some(expires) = self.expires() {
            self.due = self.due.min(expires);
        }
        self.refused = Some(now);
        self.error = Some(error);
    }

    /// Whether what it has is no longer what the authority would issue, or lies in the future of a clock set back.
    pub(super) fn is_outdated(&self, epoch: &Epoch, now: SystemTime) -> bool {
        match &self.credentials {
            Some(held) => held.epoch != *epoch || held.credentials.not_before() > now,
            None => true,
        }
    }

    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.credentials.as_ref().map(|held| held.credentials.not_after())
    }
}

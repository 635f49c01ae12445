//! How often services outside were asked about requests, and how that ended.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What kind of service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutsideService {
    /// An external authorizer.
    Authorization,
    /// A rate limit service.
    RateLimit,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutsideOutcome {
    /// It said yes.
    Allowed,
    /// It said no.
    Denied,
    /// It did not answer, and the request passed.
    FailedOpen,
    /// It did not answer, and the request was refused.
    FailedClosed,
}

/// A service outside that did not answer about a request, which passed all the same: a policy says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedOpenRecord {
    /// What kind of service it is.
    pub service: OutsideService,
    /// The authorizer, as its provider is named; or the policy whose limits were to be counted.
    pub name: Box<str>,
    /// What the request was for: a port of a service or of a gateway, or a workload.
    pub called: Box<str>,
    /// Why there was no answer, in a sentence.
    pub why: Box<str>,
}

const SERVICES: [OutsideService; 2] = [OutsideService::Authorization, OutsideService::RateLimit];

const OUTCOMES: [OutsideOutcome; 4] = [
    OutsideOutcome::Allowed,
    OutsideOutcome::Denied,
    OutsideOutcome::FailedOpen,
    OutsideOutcome::FailedClosed,
];

impl OutsideService {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::RateLimit => "rate_limit",
        }
    }
}

impl OutsideOutcome {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::FailedOpen => "failed_open",
            Self::FailedClosed => "failed_closed",
        }
    }
}

/// Counters that the shards share: next to a call to another host they cost nothing.
#[derive(Default)]
pub(super) struct Counts([[AtomicU64; OUTCOMES.len()]; SERVICES.len()]);

impl Counts {
    pub(super) fn add(&self, service: OutsideService, outcome: OutsideOutcome) {
        self.0[service as usize][outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn all(&self) -> Vec<(OutsideService, OutsideOutcome, u64)> {
        let of = |service| OUTCOMES.map(|outcome| (service, outcome, self.of(service, outcome)));
        SERVICES.into_iter().flat_map(of).collect()
    }

    fn of(&self, service: OutsideService, outcome: OutsideOutcome) -> u64 {
        self.0[service as usize][outcome as usize].load(Relaxed)
    }
}

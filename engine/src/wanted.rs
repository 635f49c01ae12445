//! Hostnames that connections wait for: the engine asks, control resolves, the next snapshot tells.
//!
//! A shard never waits for control: a connection does, for a while, and only if control has said that it resolves
//! ([`EngineConfig::resolver`](crate::EngineConfig::resolver)).

use crossbeam_queue::ArrayQueue;

use crate::limits::WANTED_HOSTNAMES_MAX;

/// See the module's text.
pub(crate) struct Wanted(ArrayQueue<Box<str>>);

impl Wanted {
    pub(crate) fn new() -> Self {
        Self(ArrayQueue::new(WANTED_HOSTNAMES_MAX))
    }

    /// Asks for `hostname`. Above the bound nobody hears of it; the next connection asks again.
    pub(crate) fn ask(&self, hostname: &str) {
        let _heard = self.0.push(hostname.into());
    }

    /// The oldest that nobody has taken yet; the same may come more than once.
    pub(crate) fn next(&self) -> Option<Box<str>> {
        self.0.pop()
    }
}

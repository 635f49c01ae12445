//! Names that connections wait for: the engine asks, control finds out, the next snapshot tells. Hostnames are resolved;
//! names of workloads and services are asked of the control plane.
//!
//! A shard never waits for control: a connection does, for a while, and only if control has said that it finds out
//! ([`EngineConfig::resolver`](crate::EngineConfig::resolver), [`EngineConfig::on_demand`](crate::EngineConfig::on_demand)).

use crossbeam_queue::ArrayQueue;

use crate::limits::WANTED_NAMES_MAX;

/// See the module's text.
pub(crate) struct Wanted(ArrayQueue<Box<str>>);

impl Wanted {
    pub(crate) fn new() -> Self {
        Self(ArrayQueue::new(WANTED_NAMES_MAX))
    }

    /// Asks for `name`. Above the bound nobody hears of it; the next connection asks again.
    pub(crate) fn ask(&self, name: &str) {
        let _heard = self.0.push(name.into());
    }

    /// The oldest that nobody has taken yet; the same may come more than once.
    pub(crate) fn next(&self) -> Option<Box<str>> {
        self.0.pop()
    }
}

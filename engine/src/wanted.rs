//! Names that connections wait for: the engine asks, control finds out, the next snapshot tells. Hostnames are resolved;
//! names of workloads and services are asked of the control plane.
//!
//! A shard never waits for control: a connection does, for a while, and only if control has said that it finds out
//! ([`EngineConfig::resolver`](crate::EngineConfig::resolver), [`EngineConfig::on_demand`](crate::EngineConfig::on_demand)).

use std::{cell::RefCell, collections::BTreeMap, time::Instant};

use crossbeam_queue::ArrayQueue;

use crate::limits::{WANTED_AGAIN_PAUSE, WANTED_NAMES_MAX};

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

/// What connections on one shard have asked for a moment ago. However many wait for the same, control hears of it once, and
/// the queue has room for what others wait for.
pub(crate) struct Recent<T>(RefCell<BTreeMap<T, Instant>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Ord + Clone> Recent<T> {
    /// Whether this is to be asked for now; if so, it counts as asked for.
    pub(crate) fn is_due(&self, wanted: &T, now: Instant) -> bool {
        let mut asked = self.0.borrow_mut();
        asked.retain(|_, at| now < *at + WANTED_AGAIN_PAUSE);
        let is_due = !asked.contains_key(wanted);
        if is_due {
            asked.insert(wanted.clone(), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_who_wait_for_the_same_ask_once_in_a_while() {
        let (recent, start) = (Recent::default(), Instant::now());
        let just_before = WANTED_AGAIN_PAUSE - Duration::from_nanos(1);
        for (wanted, after, is_due) in [
            ("one", Duration::ZERO, true),
            ("one", Duration::ZERO, false),
            ("other", Duration::ZERO, true),
            ("one", just_before, false),
            ("one", WANTED_AGAIN_PAUSE, true),
            ("one", WANTED_AGAIN_PAUSE, false),
        ] {
            assert_eq!(recent.is_due(&wanted, start + after), is_due, "{wanted} after {after:?}");
        }
        assert_eq!(recent.0.borrow().len(), 1, "what was long ago is forgotten");
    }
}

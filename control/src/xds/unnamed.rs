//! What a control plane was not told that we have, because the first request had no room for more names; and what becomes
//! of it.
//!
//! A control plane that is not told a name tells the resource again, if it is there still. If it is gone it says nothing:
//! it does not know that we have it. So whatever was not named and is not told again either, after a while, is gone.
//!
//! ```text
//!   left out ── a response that tells one of them ──▶ wait again
//!       │                                             │
//!       └── all of them were told: done ◀─────────────┴── nothing for SETTLING: what is left is removed
//! ```
//!
//! A response says not whether it is all there is. A control plane that splits what it tells has the time to do so,
//! because a workload that is taken for gone is one that connections would pass by.

use std::collections::HashSet;
use std::time::Duration;

use super::state::{Kind, State};
use super::told::hash;

/// How long nothing more of what is waited for may come until it is taken for gone. What was known is in force meanwhile.
pub(super) const SETTLING: Duration = Duration::from_secs(2);

/// Names of one type that were left out.
#[derive(Debug)]
pub(super) struct Unnamed {
    /// Those whose key is not below this.
    from: u64,
    /// How many of them were not told again.
    left: usize,
    /// Those that were, and what is new in their range.
    told: HashSet<u64>,
    has_answer: bool,
    /// Whether the response under way told any.
    has_told: bool,
}

impl Unnamed {
    /// So many, from a key on.
    pub(super) fn new(from: u64, left: usize) -> Unnamed {
        Unnamed { from, left, told: HashSet::new(), has_answer: false, has_told: false }
    }

    /// The control plane speaks of this name; `is_known` when we had it before.
    pub(super) fn tell(&mut self, name: &str, is_known: bool) {
        let key = hash(name);
        if key >= self.from && self.told.insert(key) && is_known {
            self.left = self.left.saturating_sub(1);
            self.has_told = true;
        }
    }

    /// A response is over. True when there is reason to wait for more: it was the first, or told of what is waited for.
    pub(super) fn answer(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.has_answer, true);
        let has_told = std::mem::take(&mut self.has_told);
        (is_first || has_told) && self.left > 0
    }

    /// Whether the control plane has told everything that it is to be asked about no more.
    pub(super) fn is_done(&self) -> bool {
        self.has_answer && self.left == 0
    }

    /// Whether there was a response, so that silence means something.
    pub(super) fn has_answer(&self) -> bool {
        self.has_answer
    }
}

/// The removal of what was not told again, under way.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) kind: Kind,
    pub(super) state: State,
    pub(super) gone: usize,
    unnamed: Unnamed,
    next: Option<u64>,
}

impl Sweep {
    pub(super) fn new(kind: Kind, state: State, unnamed: Unnamed) -> Sweep {
        let next = Some(unnamed.from);
        Sweep { kind, state, gone: 0, unnamed, next }
    }

    /// Looks at about so many names. True when it has looked at all.
    pub(super) fn step(&mut self, names: usize) -> bool {
        let Some(from) = self.next.take() else { return true };
        let (mut seen, mut last, mut gone) = (0, from, Vec::new());
        for known in self.state.told(self.kind).from(from) {
            let key = ringway_engine::snapshot::Entry::key(known);
            if seen >= names && key != last {
                self.next = Some(key);
                break;
            }
            if !self.unnamed.told.contains(&key) {
                let mut name = String::new();
                known.write_name(&mut name);
                gone.push(name);
            }
            (seen, last) = (seen + 1, key);
        }
        self.gone += gone.len();
        for name in gone {
            self.state.remove(self.kind, &name);
        }
        self.next.is_none()
    }
}

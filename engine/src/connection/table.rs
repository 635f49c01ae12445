//! The open connections of one shard, and what is done with many of them at once.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    ops::Range,
    rc::Rc,
    sync::Arc,
};

use slab::Slab;

use super::entry::{Entry, Movement, OpenConnection, Policed};
use crate::{
    close::CloseReason,
    decide::{self, Refusal},
    snapshot::{Snapshot, Workload},
};

/// The open connections of one shard.
#[derive(Default)]
pub(crate) struct ConnectionTable {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Those that were cut and have not ended yet.
    being_cut: Cell<usize>,
}

impl ConnectionTable {
    pub(super) fn add(&self, entry: Rc<Entry>) -> usize {
        self.entries.borrow_mut().insert(entry)
    }

    pub(super) fn remove(&self, slot: usize) {
        let entry = self.entries.borrow_mut().remove(slot);
        if entry.is_cut() {
            self.being_cut.set(self.being_cut.get() - 1);
        }
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// How many were cut and are still about to end.
    pub(crate) fn being_cut(&self) -> usize {
        self.being_cut.get()
    }

    fn cut_one(&self, entry: &Entry, reason: CloseReason) {
        if entry.cut(reason) {
            self.being_cut.set(self.being_cut.get() + 1);
        }
    }

    /// Cuts every connection, or those of one workload.
    pub(crate) fn cut(&self, pod: Option<&str>, reason: &CloseReason) {
        for (_, entry) in self.entries.borrow().iter() {
            if pod.is_none_or(|pod| *pod == *entry.pod) {
                self.cut_one(entry, reason.clone());
            }
        }
    }

    /// Asks `judge` about the inbound connections in `slots` and cuts those for which it has a reason. False when there
    /// are no slots behind these.
    pub(crate) fn judge_again(
        &self,
        slots: Range<usize>,
        judge: impl Fn(&JudgedAgain<'_>) -> Option<CloseReason>,
    ) -> bool {
        let entries = self.entries.borrow();
        for entry in slots.clone().filter_map(|slot| entries.get(slot)) {
            let Some(policed) = entry.policed.get() else { continue };
            if let Some(reason) = judge(&JudgedAgain { entry, policed }) {
                self.cut_one(entry, reason);
            }
        }
        slots.end < entries.capacity()
    }

    /// Calls away at most `most` connections of these workloads that can go.
    pub(crate) fn call_away(&self, workloads: &BTreeSet<Arc<str>>, most: usize) -> Vec<Rc<Entry>> {
        let entries = self.entries.borrow();
        let movable = entries.iter().map(|(_, entry)| entry).filter(|entry| {
            entry.movement.get() == Movement::Movable && workloads.contains(&entry.pod)
        });
        let called: Vec<_> = movable.take(most).cloned().collect();
        called.iter().for_each(|entry| entry.call_away());
        called
    }

    /// Describes every open connection.
    pub(crate) fn describe(&self) -> Vec<OpenConnection> {
        self.entries.borrow().iter().map(|(_, entry)| entry.describe()).collect()
    }
}

/// An open inbound connection, to be judged again.
pub(crate) struct JudgedAgain<'a> {
    entry: &'a Entry,
    policed: &'a Policed,
}

impl JudgedAgain<'_> {
    /// The workload that was connected to.
    pub(crate) fn pod(&self) -> &Arc<str> {
        &self.entry.pod
    }

    /// Whether it would be let in.
    pub(crate) fn authorize(&self, snapshot: &Snapshot, local: &Workload) -> Result<(), Refusal> {
        let facts = self.entry.facts(self.policed);
        // What policies on dry run would have done was told when the connection was opened.
        decide::authorize(snapshot, local, &facts).outcome.map(|_allowed| ())
    }
}

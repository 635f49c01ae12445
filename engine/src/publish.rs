//! The lock-free hand-over of snapshots from control to the shards.
//!
//! Control stores the next snapshot and raises the generation. A shard compares one number when it is
//! about to decide, and follows. The publisher keeps every snapshot until all shards have left it, so
//! that freeing one is never a shard's work.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
};

use crate::{
    snapshot::Snapshot,
    sync::{
        Arc, ArcSwap, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The place where the current snapshot lies.
pub(crate) struct Published {
    current: ArcSwap<Snapshot>,
    /// Raised after each store; readers compare it instead of loading the pointer.
    version: AtomicU64,
    /// Snapshots that a shard may still hold. Only the publisher's side touches them.
    retired: Mutex<Vec<Arc<Snapshot>>>,
}

impl Published {
    pub(crate) fn new(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(snapshot),
            version: AtomicU64::new(1),
            retired: Mutex::default(),
        })
    }

    /// Publishes the next snapshot, and frees those that every shard has left.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let old = self.current.swap(Arc::new(snapshot));
        self.version.fetch_add(1, Ordering::Release);
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(old);
        self.free_left();
    }

    /// Frees the snapshots that every shard has left. Shards leave a moment after a publication, so the one before it is
    /// mostly freed here, and not by the publication itself. How many were.
    pub(crate) fn free_left(&self) -> usize {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let before = retired.len();
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        before - retired.len()
    }

    /// The current snapshot, for the publisher's side.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// A snapshot as a shard holds it: counted once between the threads, and from then on within the shard,
/// where counting is plain arithmetic.
pub(crate) struct HeldSnapshot(Arc<Snapshot>);

impl Deref for HeldSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// One shard's view of what is published.
pub(crate) struct SnapshotReader {
    published: Arc<Published>,
    seen: Cell<u64>,
    held: RefCell<Rc<HeldSnapshot>>,
}

impl SnapshotReader {
    pub(crate) fn new(published: Arc<Published>) -> Self {
        let seen = published.version.load(Ordering::Acquire);
        let held = Rc::new(HeldSnapshot(published.current()));
        Self { published, seen: Cell::new(seen), held: RefCell::new(held) }
    }

    /// The current snapshot: one relaxed-cost comparison while nothing was published.
    pub(crate) fn current(&self) -> Rc<HeldSnapshot> {
        let version = self.published.version.load(Ordering::Acquire);
        if version != self.seen.get() {
            self.seen.set(version);
            *self.held.borrow_mut() = Rc::new(HeldSnapshot(self.published.current()));
        }
        self.held.borrow().clone()
    }
}

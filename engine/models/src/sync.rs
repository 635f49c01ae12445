//! What the engine's `sync` module names, made of loom's parts.
//!
//! The queues keep to the orders of the real ones: their indices are atomics of their own, so that looking
//! whether a queue is empty orders no more than it really does. What lies in a slot is handed over with the
//! slot's own turn.

pub(crate) use std::sync::PoisonError;

pub(crate) use loom::sync::{Arc, Mutex};

use atomic::{AtomicUsize, Ordering};

/// Loom's, but for flags that some store to and others swap: loom would let a swap read a store that has
/// been followed by another one already, which no machine does. A store that is a swap, too, has its
/// place in the order of all writes.
pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

    #[derive(Debug)]
    pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}

/// A bounded queue after Vyukov, as crossbeam's.
pub(crate) struct ArrayQueue<T> {
    slots: Box<[Slot<T>]>,
    head: AtomicUsize,
    tail: AtomicUsize,
}

struct Slot<T> {
    /// Whose turn it is: `at` to be filled for the place `at`, `at + 1` to be emptied.
    turn: AtomicUsize,
    /// Not loom's: only `turn` says when it may be touched.
    value: std::sync::Mutex<Option<T>>,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a queue has room");
        let slot = |at| Slot { turn: AtomicUsize::new(at), value: std::sync::Mutex::new(None) };
        Self {
            slots: (0..capacity).map(slot).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        loop {
            let tail = self.tail.load(Ordering::Relaxed);
            let slot = &self.slots[tail % self.slots.len()];
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == self.filled_at(tail) {
                let next =
                    self.tail.compare_exchange(tail, tail + 1, Ordering::SeqCst, Ordering::Relaxed);
                if next.is_ok() {
                    *slot.value.lock().unwrap() = Some(value);
                    slot.turn.store(self.filled_at(tail) + 1, Ordering::Release);
                    return Ok(());
                }
            } else {
                atomic::fence(Ordering::SeqCst);
                if self.head.load(Ordering::Relaxed) + self.slots.len() == tail {
                    return Err(value);
                }
                loom::thread::yield_now();
            }
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        loop {
            let head = self.head.load(Ordering::Relaxed);
            let slot = &self.slots[head % self.slots.len()];
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == self.filled_at(head) + 1 {
                let next =
                    self.head.compare_exchange(head, head + 1, Ordering::SeqCst, Ordering::Relaxed);
                if next.is_ok() {
                    let value = slot.value.lock().unwrap().take();
                    slot.turn.store(self.filled_at(head + self.slots.len()), Ordering::Release);
                    return value;
                }
            } else {
                atomic::fence(Ordering::SeqCst);
                if self.tail.load(Ordering::Relaxed) == head {
                    return None;
                }
                loom::thread::yield_now();
            }
        }
    }

    /// Pushes, and throws out the oldest for it when there is no room.
    pub(crate) fn force_push(&self, mut value: T) -> Option<T> {
        let mut out = None;
        while let Err(refused) = self.push(value) {
            value = refused;
            out = self.pop().or(out);
        }
        out
    }

    pub(crate) fn len(&self) -> usize {
        self.tail.load(Ordering::SeqCst).saturating_sub(self.head.load(Ordering::SeqCst))
    }

    /// The turn at which a place is to be filled: twice its round, so that it differs from being full.
    fn filled_at(&self, place: usize) -> usize {
        let (round, at) = (place / self.slots.len(), place % self.slots.len());
        at + 2 * round * self.slots.len().max(2)
    }
}

/// An unbounded queue; in a model it never has more than a few.
pub(crate) struct SegQueue<T>(ArrayQueue<T>);

impl<T> SegQueue<T> {
    const PLACES: usize = 4;

    pub(crate) fn new() -> Self {
        Self(ArrayQueue::new(Self::PLACES))
    }

    pub(crate) fn push(&self, value: T) {
        assert!(self.0.push(value).is_ok(), "the model has too few places");
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.pop()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.head.load(Ordering::SeqCst) == self.0.tail.load(Ordering::SeqCst)
    }
}

impl<T> std::fmt::Debug for SegQueue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SegQueue")
    }
}

/// A pointer that is swapped: its number is the atomic, what the numbers stand for is kept aside.
pub(crate) struct ArcSwap<T> {
    current: AtomicUsize,
    all: std::sync::Mutex<Vec<Option<Arc<T>>>>,
}

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self {
            current: AtomicUsize::new(0),
            all: std::sync::Mutex::new(vec![Some(Arc::new(value))]),
        }
    }

    pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
        let number = {
            let mut all = self.all.lock().unwrap();
            all.push(Some(next));
            all.len() - 1
        };
        let old = self.current.swap(number, Ordering::SeqCst);
        // Readers that saw the old number hold a count of their own: arc-swap settles with them first.
        self.all.lock().unwrap()[old].clone().expect("swapped out once")
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        let number = self.current.load(Ordering::Acquire);
        self.all.lock().unwrap()[number].clone().expect("kept to the end")
    }
}

//! The same stories with a mistake planted: the models must find it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::model;
use crate::runtime::wakeup::Wakeup;
use crate::snapshot::Snapshot;
use crate::sync::{ArcSwap, SegQueue};

/// `Remote` without the fence between "I am about to wait" and the last look.
struct RemoteWithoutFence {
    injector: SegQueue<u32>,
    waiting: AtomicBool,
    wakeup: Wakeup,
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_wake_up_without_its_fence_is_lost() {
    model(|| {
        let remote = Arc::new(RemoteWithoutFence {
            injector: SegQueue::new(),
            waiting: AtomicBool::new(false),
            wakeup: Wakeup::new(),
        });
        let other = remote.clone();
        let waking = thread::spawn(move || {
            other.injector.push(1);
            if other.waiting.load(Ordering::Relaxed) {
                other.wakeup.wake();
            }
        });
        remote.waiting.store(true, Ordering::Relaxed);
        if remote.injector.is_empty() {
            remote.wakeup.wait();
        }
        assert_eq!(remote.injector.pop(), Some(1));
        waking.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "the version was raised before its snapshot was there")]
fn a_version_that_is_raised_too_early_shows_the_old_snapshot() {
    model(|| {
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::new(1)));
        let version = Arc::new(AtomicUsize::new(1));
        let (reading, seen) = (current.clone(), version.clone());
        let shard = thread::spawn(move || {
            if seen.load(Ordering::Acquire) == 2 {
                let number = reading.load_full().number();
                assert_eq!(number, 2, "the version was raised before its snapshot was there");
            }
        });
        version.fetch_add(1, Ordering::Release);
        current.swap(Arc::new(Snapshot::new(2)));
        shard.join().unwrap();
    });
}

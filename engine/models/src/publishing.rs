//! Snapshots are whole, and in order, for every shard; and freed where they came from.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::model;
use crate::publish::{Published, SnapshotReader};
use crate::snapshot::Snapshot;

#[test]
fn a_shard_sees_whole_snapshots_in_order() {
    model(|| {
        let published = Published::new(Snapshot::new(1));
        let reading = published.clone();
        let shard = thread::spawn(move || {
            let reader = SnapshotReader::new(reading);
            let first = reader.current().number();
            let second = reader.current().number();
            assert!((1..=2).contains(&first), "{first}: not whole");
            assert!(second >= first, "{second} after {first}");
        });
        published.publish(Snapshot::new(2));
        shard.join().unwrap();
    });
}

#[test]
fn a_shard_that_was_told_decides_on_what_was_published() {
    model(|| {
        let published = Published::new(Snapshot::new(1));
        let told = Arc::new(AtomicBool::new(false));
        let (reading, hears) = (published.clone(), told.clone());
        let shard = thread::spawn(move || {
            let reader = SnapshotReader::new(reading);
            reader.current();
            // As by a mailbox.
            if hears.load(Ordering::Acquire) {
                assert_eq!(reader.current().number(), 2);
            }
        });
        published.publish(Snapshot::new(2));
        told.store(true, Ordering::Release);
        shard.join().unwrap();
    });
}

//! What shards count for a destination is right once all is over.

use loom::sync::Arc;
use loom::thread;

use crate::count::StreamCount;
use crate::model;

#[test]
fn what_was_counted_is_uncounted_and_nothing_wraps() {
    model(|| {
        let count = Arc::new(StreamCount::default());
        // One below the end of the scale.
        (0..254).for_each(|_| assert!(count.add()));
        let shards: Vec<_> = (0..2)
            .map(|_| {
                let count = count.clone();
                thread::spawn(move || {
                    let counted = count.add();
                    assert!(count.get() >= 254, "it wrapped");
                    if counted {
                        count.remove();
                    }
                })
            })
            .collect();
        for shard in shards {
            shard.join().unwrap();
        }
        assert_eq!(count.get(), 254);
    });
}

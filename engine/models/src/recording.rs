//! Every record is taken once, or counted as lost.

use loom::sync::Arc;
use loom::thread;

use crate::model;
use crate::records::Records;

#[test]
fn every_record_is_taken_or_counted_as_lost() {
    model(|| {
        let records = Arc::new(Records::new(1));
        let shards: Vec<_> = (1..=2)
            .map(|number| {
                let records = records.clone();
                thread::spawn(move || records.leave(number))
            })
            .collect();
        let mut taken: Vec<u64> = records.take().into_iter().collect();
        for shard in shards {
            shard.join().unwrap();
        }
        taken.extend(std::iter::from_fn(|| records.take()));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len() as u64 + records.lost(), 2, "{taken:?}");
    });
}

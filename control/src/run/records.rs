//! From the engine's queues of records to the log.
//!
//! A log whose reader is slow gets no more of them while half of its own queue is taken. They wait in the engine then,
//! where each workload has its places, and the process's own lines have the other half.

use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::telemetry::{Listening, Telemetry};

use crate::telemetry::log::Log;
use crate::telemetry::{access_log, decisions};

/// Records written before anything else on this thread gets its turn.
pub(super) const BATCH_MAX: usize = 256;

/// A quiet process is looked at less and less often, down to this.
const INTERVAL_MAX: Duration = Duration::from_millis(200);

/// Has `write_batch` write for ever. It writes at most [`BATCH_MAX`] and returns how many.
pub(super) async fn pump(mut write_batch: impl FnMut() -> usize) {
    let mut interval = Telemetry::RECORDS_INTERVAL;
    loop {
        match write_batch() {
            0 => {
                tokio::time::sleep(interval).await;
                interval = (interval * 2).min(INTERVAL_MAX);
            }
            BATCH_MAX.. => tokio::task::yield_now().await,
            _ => {
                interval = Telemetry::RECORDS_INTERVAL;
                tokio::time::sleep(interval).await;
            }
        }
    }
}

/// Writes what there is, at most one batch of each kind. Returns how many.
pub(super) fn write_batch(engine: &Engine, log: &Log) -> usize {
    let telemetry = engine.telemetry();
    // Levels change while we run.
    let (opened, judged) = (access_log::wants_opened(log), decisions::are_wanted(log));
    telemetry.listen(Listening { opened, judged });
    let opened = batch(log, || telemetry.next_opened());
    let mut written = opened.map(|record| access_log::write_opened(log, &record)).count();
    let judged = batch(log, || telemetry.next_judged());
    written += judged.map(|record| decisions::write(log, &record)).count();
    let dry_runs = batch(log, || telemetry.next_dry_run());
    written += dry_runs.map(|record| decisions::write_dry_run(log, &record)).count();
    let records = batch(log, || telemetry.next_record());
    written + records.map(|record| access_log::write(log, &record)).count()
}

/// As many as there are, as the log has room for, and as make a batch.
fn batch<T>(log: &Log, mut next: impl FnMut() -> Option<T>) -> impl Iterator<Item = T> {
    let next = move || if log.has_room() { next() } else { None };
    std::iter::from_fn(next).take(BATCH_MAX)
}

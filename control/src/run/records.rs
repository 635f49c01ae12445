//! From the engine's queues of records to the log.

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
    let opened = std::iter::from_fn(|| telemetry.next_opened()).take(BATCH_MAX);
    let mut written = opened.map(|record| access_log::write_opened(log, &record)).count();
    let judged = std::iter::from_fn(|| telemetry.next_judged()).take(BATCH_MAX);
    written += judged.map(|record| decisions::write(log, &record)).count();
    let dry_runs = std::iter::from_fn(|| telemetry.next_dry_run()).take(BATCH_MAX);
    written += dry_runs.map(|record| decisions::write_dry_run(log, &record)).count();
    let records = std::iter::from_fn(|| telemetry.next_record()).take(BATCH_MAX);
    written + records.map(|record| access_log::write(log, &record)).count()
}

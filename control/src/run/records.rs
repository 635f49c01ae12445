//! From the engine's queues of records to the log.

use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::telemetry::Telemetry;

use crate::telemetry::log::Log;
use crate::telemetry::{access_log, dry_run};

/// Records written before anything else on this thread gets its turn.
const BATCH_MAX: usize = 256;

/// A quiet mesh is looked at less and less often, down to this.
const INTERVAL_MAX: Duration = Duration::from_millis(200);

/// Writes records for ever.
pub(super) async fn pump(engine: Arc<Engine>, log: Log) {
    let mut interval = Telemetry::RECORDS_INTERVAL;
    loop {
        match write_batch(&engine, &log) {
            0 => {
                tokio::time::sleep(interval).await;
                interval = (interval * 2).min(INTERVAL_MAX);
            }
            BATCH_MAX => tokio::task::yield_now().await,
            _ => {
                interval = Telemetry::RECORDS_INTERVAL;
                tokio::time::sleep(interval).await;
            }
        }
    }
}

/// Writes what there is, at most one batch. Returns how many.
pub(super) fn write_batch(engine: &Engine, log: &Log) -> usize {
    let telemetry = engine.telemetry();
    let dry_runs = std::iter::from_fn(|| telemetry.next_dry_run()).take(BATCH_MAX);
    dry_runs.for_each(|told| dry_run::write(log, &told));
    let records = std::iter::from_fn(|| telemetry.next_record()).take(BATCH_MAX);
    records.map(|record| access_log::write(log, &record)).count()
}

//! What the end of every kind of node has in common: how its drain went is told, and its last records are written.

use std::sync::Arc;
use std::time::Duration;

use ringway_engine::{DrainReport, Engine};
use tokio::time::timeout;

use super::Ending;
use super::records;
use super::systemd::ServiceManager;
use crate::admin::readiness::Readiness;
use crate::telemetry::log::Log;

/// What the shards may take to cut what is open when the end is to come at once; and captures that are under way then.
pub(super) const CUT_PATIENCE: Duration = Duration::from_secs(1);

/// Tells that a drain begins: the log, the service manager, and whoever asks whether the node is ready.
pub(super) fn begin(
    who: &str,
    deadline: Duration,
    service_manager: &ServiceManager,
    readiness: &Readiness,
) {
    tracing::info!(
        asked_by = who,
        ?deadline,
        "draining: nothing new is taken, what is open may end"
    );
    service_manager.stopping();
    readiness.start_draining();
}

/// Tells how a drain went that nobody hurried.
pub(super) fn in_time(report: &DrainReport) -> Ending {
    let DrainReport { open, cut } = *report;
    if cut > 0 {
        tracing::warn!(open, cut, "the drain deadline passed: connections were cut");
    } else {
        tracing::info!(open, cut, "drained");
    }
    Ending::Drained
}

/// Cuts what is open, and tells why: it did not end in order, and must not look as if it had. `drain` is the engine's.
pub(super) async fn cut_at_once(
    engine: &Arc<Engine>,
    drain: fn(&Engine, Duration) -> DrainReport,
    who: &str,
) -> Ending {
    tracing::warn!(asked_by = who, "asked again: ending at once");
    let cutting = Arc::clone(engine);
    let cutting = tokio::task::spawn_blocking(move || drain(&cutting, Duration::ZERO));
    match timeout(CUT_PATIENCE, cutting).await {
        Ok(Ok(DrainReport { open, cut })) if cut > 0 => {
            tracing::warn!(open, cut, "the end was asked for again: connections were cut");
        }
        // Nothing was open, or a panic has been told.
        Ok(_) => {}
        Err(_) => tracing::warn!("what is open is cut with the process: a shard does not answer"),
    }
    Ending::Forced
}

/// Writes every record there is, unless nobody takes the lines.
pub(super) fn write_records(engine: &Engine, log: &Log) {
    loop {
        while records::write_batch(engine, log) > 0 {}
        if log.has_room() || !log.flush() {
            return;
        }
    }
}

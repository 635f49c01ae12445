//! What waypoints and gateways tell about HTTP: one record for each request, and counters of requests by who asked
//! whom, how it went and how long it took.

mod flags;
mod record;
mod series;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crossbeam_queue::SegQueue;

pub(crate) use self::series::{Measured, Outcome, RequestSeries, RequestSeriesTable};
pub use self::{
    flags::{ResponseFlag, ResponseFlags},
    record::{RequestRecord, TraceContext, UpstreamRecord},
    series::{BUCKETS, HistogramTotals, RequestLabels, RequestProtocol, RequestTotals},
};
use super::records::Records;
use crate::limits::REQUEST_RECORDS_MAX;

/// Everything that is told about HTTP, shared between the shards and whoever reads.
pub struct HttpTelemetry {
    /// Every series any shard ever opened.
    series: SegQueue<Arc<RequestSeries>>,
    known: Mutex<Vec<Arc<RequestSeries>>>,
    records: Records<RequestRecord>,
    recording: AtomicBool,
}

impl HttpTelemetry {
    pub(super) fn new() -> Self {
        Self {
            series: SegQueue::new(),
            known: Mutex::default(),
            records: Records::new(REQUEST_RECORDS_MAX),
            recording: AtomicBool::new(true),
        }
    }

    /// Every label set that was ever seen with its totals, summed over the shards.
    pub fn requests(&self) -> Vec<(Arc<RequestLabels>, RequestTotals)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(series) = self.series.pop() {
            known.push(series);
        }
        series::sum(&known)
    }

    /// The oldest record of a request that nobody has taken yet.
    pub fn next_record(&self) -> Option<RequestRecord> {
        self.records.take()
    }

    /// Records that were lost because nobody took them in time.
    pub fn records_lost(&self) -> u64 {
        self.records.lost()
    }

    /// Whether records are wanted: they are, unless told otherwise. Counters are kept in any case.
    pub fn set_recording(&self, recording: bool) {
        self.recording.store(recording, Relaxed);
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.recording.load(Relaxed)
    }

    pub(crate) fn record(&self, record: RequestRecord) {
        self.records.leave(record);
    }

    fn announce(&self, series: Arc<RequestSeries>) {
        self.series.push(series);
    }
}

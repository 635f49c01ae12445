//! What waypoints and gateways tell about HTTP: one record for each request, and counters of requests by who asked
//! whom, how it went and how long it took.

mod flags;
mod mirrored;
mod outside;
mod record;
mod series;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use crossbeam_queue::SegQueue;
use ringway_http::trace::{Tracing, WHOLE};

pub(crate) use self::mirrored::Digest;
pub(crate) use self::series::{Measured, Outcome, RequestSeries, RequestSeriesTable, SourceMemo};
pub use self::{
    flags::{ResponseFlag, ResponseFlags},
    mirrored::{Answer, Difference, MirrorOutcome, MirrorRecord},
    outside::{FailedOpenRecord, OutsideOutcome, OutsideService},
    record::{RequestRecord, TraceContext, UpstreamRecord},
    series::{BUCKETS, HistogramTotals, RequestLabels, RequestProtocol, RequestTotals},
};
use super::records::Records;
use crate::close::BackendTls;
use crate::limits::{FAILED_OPEN_RECORDS_MAX, MIRROR_RECORDS_MAX, REQUEST_RECORDS_MAX};

/// Everything that is told about HTTP, shared between the shards and whoever reads.
pub struct HttpTelemetry {
    /// Every series any shard ever opened.
    series: SegQueue<Arc<RequestSeries>>,
    known: Mutex<Vec<Arc<RequestSeries>>>,
    records: Records<RequestRecord>,
    mirrored: Records<MirrorRecord>,
    recording: AtomicBool,
    outside: outside::Counts,
    failed_open: Records<FailedOpenRecord>,
    /// TLS to backends that did not come about, by reason.
    backend_tls: [AtomicU64; BackendTls::NAMES.len()],
    /// Of requests whose traces begin here, those that are exported; more than [`WHOLE`]: traces pass.
    traced: AtomicU32,
}

impl HttpTelemetry {
    pub(super) fn new() -> Self {
        Self {
            series: SegQueue::new(),
            known: Mutex::default(),
            records: Records::new(REQUEST_RECORDS_MAX),
            mirrored: Records::new(MIRROR_RECORDS_MAX),
            recording: AtomicBool::new(true),
            outside: outside::Counts::default(),
            failed_open: Records::new(FAILED_OPEN_RECORDS_MAX),
            backend_tls: Default::default(),
            traced: AtomicU32::new(u32::MAX),
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

    /// What became of the oldest copy of a request that nobody has taken yet.
    pub fn next_mirrored(&self) -> Option<MirrorRecord> {
        self.mirrored.take()
    }

    /// Copies whose outcome was lost because nobody took it in time.
    pub fn mirrored_lost(&self) -> u64 {
        self.mirrored.lost()
    }

    /// Whether records are wanted: they are, unless told otherwise. Counters are kept in any case.
    pub fn set_recording(&self, recording: bool) {
        self.recording.store(recording, Relaxed);
    }

    /// What is done about traces: they pass, unless told otherwise.
    pub fn set_tracing(&self, tracing: Tracing) {
        let traced = match tracing {
            Tracing::Pass => u32::MAX,
            Tracing::Spans { share } => share.min(WHOLE),
        };
        self.traced.store(traced, Relaxed);
    }

    pub(crate) fn tracing(&self) -> Tracing {
        match self.traced.load(Relaxed) {
            share if share <= WHOLE => Tracing::Spans { share },
            _ => Tracing::Pass,
        }
    }

    /// How often services outside were asked about requests, and how that ended.
    pub fn outside_calls(&self) -> Vec<(OutsideService, OutsideOutcome, u64)> {
        self.outside.all()
    }

    pub(crate) fn asked_outside(&self, service: OutsideService, outcome: OutsideOutcome) {
        self.outside.add(service, outcome);
    }

    /// The oldest request that passed without the answer that was asked for and that nobody has taken yet. What finds no
    /// room is counted only.
    pub fn next_failed_open(&self) -> Option<FailedOpenRecord> {
        self.failed_open.take()
    }

    pub(crate) fn failed_open(&self, record: FailedOpenRecord) {
        self.asked_outside(record.service, OutsideOutcome::FailedOpen);
        self.failed_open.leave(record);
    }

    /// How often TLS to a backend did not come about, by reason.
    pub fn backend_tls_failures(&self) -> Vec<(&'static str, u64)> {
        let counts = self.backend_tls.iter().map(|count| count.load(Relaxed));
        BackendTls::NAMES.into_iter().zip(counts).collect()
    }

    pub(crate) fn backend_tls_failed(&self, why: &BackendTls) {
        let at = BackendTls::NAMES.iter().position(|name| *name == why.name());
        self.backend_tls[at.expect("every reason has a name")].fetch_add(1, Relaxed);
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.recording.load(Relaxed)
    }

    pub(crate) fn record(&self, record: RequestRecord) {
        self.records.leave(record);
    }

    pub(crate) fn mirrored(&self, record: MirrorRecord) {
        self.mirrored.leave(record);
    }

    fn announce(&self, series: Arc<RequestSeries>) {
        self.series.push(series);
    }
}

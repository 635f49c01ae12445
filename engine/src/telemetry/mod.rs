//! What the engine tells about connections: counters that are read at scrape, and one record for each
//! connection that ended.
//!
//! A shard writes its own cells with plain loads and stores and never waits; whoever scrapes sums the
//! cells of all shards. Labels are looked up when a connection opens and when it ends, never per byte.

mod dry_run;
mod early;
#[cfg(feature = "waypoint")]
pub mod http;
mod labels;
mod record;
mod records;
mod resolutions;
mod series;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crossbeam_queue::{ArrayQueue, SegQueue};
use ringway_protocols::identity::Identity;

pub use self::{
    dry_run::DryRunRecord,
    early::{JudgedRecord, Listening, OpenedRecord},
    labels::{PeerLabels, Reporter, SecurityPolicy, ServiceLabels, TrafficLabels},
    record::{AccessRecord, Direction, RecordParty},
    resolutions::ResolutionLabels,
    series::TrafficTotals,
};
use self::{early::Early, records::Records, resolutions::AllResolutions};
pub(crate) use self::{
    labels::{FarEnd, Parties},
    resolutions::ResolutionTable,
    series::{ByteCounters, Series, SeriesTable},
};
use crate::{
    accounts::{Account, AdmittedRecord},
    limits::{ACCESS_RECORDS_MAX, DRY_RUN_RECORDS_MAX, WANTED_IDENTITIES_MAX},
};

/// Everything the engine tells, shared between the shards and whoever reads.
pub struct Telemetry {
    /// Every series any shard ever opened.
    series: SegQueue<Arc<Series>>,
    known: std::sync::Mutex<Vec<Arc<Series>>>,
    resolutions: AllResolutions,
    early: Early,
    /// With what counts each of them for its workload.
    records: Records<(AccessRecord, Option<AdmittedRecord>)>,
    #[cfg(feature = "waypoint")]
    http: http::HttpTelemetry,
    sockets_open: [AtomicI64; 3],
    /// Connections that were handed to another shard before their first byte.
    pub(crate) handed_over: AtomicU64,
    at_another_endpoint: AtomicU64,
    in_another_tunnel: AtomicU64,
    dry_run_denied: AtomicU64,
    dry_run_allowed: AtomicU64,
    dry_run_records: ArrayQueue<DryRunRecord>,
    wanted_identities: ArrayQueue<Identity>,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        Self {
            series: SegQueue::new(),
            known: std::sync::Mutex::default(),
            resolutions: AllResolutions::new(),
            early: Early::new(),
            records: Records::new(ACCESS_RECORDS_MAX),
            #[cfg(feature = "waypoint")]
            http: http::HttpTelemetry::new(),
            sockets_open: Default::default(),
            handed_over: AtomicU64::new(0),
            at_another_endpoint: AtomicU64::new(0),
            in_another_tunnel: AtomicU64::new(0),
            dry_run_denied: AtomicU64::new(0),
            dry_run_allowed: AtomicU64::new(0),
            dry_run_records: ArrayQueue::new(DRY_RUN_RECORDS_MAX),
            wanted_identities: ArrayQueue::new(WANTED_IDENTITIES_MAX),
        }
    }

    /// Every label set that was ever seen with its totals, summed over the shards. Series of one label
    /// set are one row.
    pub fn series(&self) -> Vec<(Arc<TrafficLabels>, TrafficTotals)> {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while let Some(series) = self.series.pop() {
            known.push(series);
        }
        series::sum(&known)
    }

    /// Sockets accepted for this side that are open now.
    pub fn sockets_open(&self, reporter: Reporter) -> i64 {
        self.sockets_open[reporter as usize].load(Relaxed)
    }

    /// What is told about HTTP.
    #[cfg(feature = "waypoint")]
    pub fn http(&self) -> &http::HttpTelemetry {
        &self.http
    }

    /// The oldest record nobody has taken yet.
    pub fn next_record(&self) -> Option<AccessRecord> {
        self.records.take().map(|(record, _counted)| record)
    }

    /// An identity whose certificate a connection waits for; the same may come more than once.
    pub fn next_wanted_identity(&self) -> Option<Identity> {
        self.wanted_identities.pop()
    }

    pub(crate) fn want_identity(&self, identity: &Identity) {
        // What finds no room is not lost: its connection waits on.
        let _ = self.wanted_identities.push(identity.clone());
    }

    /// Records that were lost because nobody took them in time.
    pub fn records_lost(&self) -> u64 {
        self.records.lost() + self.early.lost()
    }

    /// Connections that were handed to another shard before their first byte.
    pub fn connections_handed_over(&self) -> u64 {
        self.handed_over.load(Relaxed)
    }

    /// Connections that were tried once more at another endpoint.
    pub fn retries_at_another_endpoint(&self) -> u64 {
        self.at_another_endpoint.load(Relaxed)
    }

    /// Streams that were tried once more in another tunnel to the same endpoint.
    pub fn retries_in_another_tunnel(&self) -> u64 {
        self.in_another_tunnel.load(Relaxed)
    }

    /// How long whoever writes the records may sleep between two looks: short enough for a log that
    /// people follow, long enough to cost nothing.
    pub const RECORDS_INTERVAL: Duration = Duration::from_millis(20);

    pub(crate) fn retried_at_another_endpoint(&self) {
        self.at_another_endpoint.fetch_add(1, Relaxed);
    }

    pub(crate) fn retried_in_another_tunnel(&self) {
        self.in_another_tunnel.fetch_add(1, Relaxed);
    }

    pub(crate) fn announce(&self, series: Arc<Series>) {
        self.series.push(series);
    }

    /// Leaves the record of a connection of `account`; there is none for a workload that was withdrawn.
    pub(crate) fn record(&self, record: AccessRecord, account: Option<&Arc<Account>>) {
        match account.map(Account::admit_record).transpose() {
            Ok(admitted) => self.records.leave((record, admitted)),
            Err(_counted) => self.records.lose(),
        }
    }

    pub(crate) fn socket_opened(&self, reporter: Reporter) {
        self.sockets_open[reporter as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn socket_closed(&self, reporter: Reporter) {
        self.sockets_open[reporter as usize].fetch_sub(1, Relaxed);
    }
}

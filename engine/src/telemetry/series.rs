//! Counters of one label set on one shard, and the table that finds them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    Telemetry,
    labels::{Parties, PartiesKey, TrafficLabels},
};
use crate::{hash::FastHasher, limits::SERIES_MAX, placement::Load};

/// Counters of one label set, written by one shard.
pub(crate) struct Series {
    labels: Arc<TrafficLabels>,
    /// The shard's own count of what it moves.
    load: Arc<Load>,
    opened: Cell64,
    closed: Cell64,
    failed: Cell64,
    received_bytes: Cell64,
    sent_bytes: Cell64,
}

/// A counter with one writer: readers on other threads see a value that was true a moment ago.
#[derive(Default)]
pub(in crate::telemetry) struct Cell64(AtomicU64);

impl Cell64 {
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The totals of one label set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficTotals {
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that have ended.
    pub closed: u64,
    /// Connections that have ended with a response flag.
    pub failed: u64,
    /// Bytes from client to server.
    pub received_bytes: u64,
    /// Bytes from server to client.
    pub sent_bytes: u64,
}

impl Series {
    fn new(labels: TrafficLabels, load: Arc<Load>) -> Arc<Self> {
        Arc::new(Self {
            labels: Arc::new(labels),
            load,
            opened: Cell64::default(),
            closed: Cell64::default(),
            failed: Cell64::default(),
            received_bytes: Cell64::default(),
            sent_bytes: Cell64::default(),
        })
    }

    pub(crate) fn connection_opened(&self) {
        self.opened.add(1);
    }

    pub(crate) fn connection_closed(&self, failed: bool) {
        self.closed.add(1);
        self.failed.add(failed.into());
    }

    fn totals(&self) -> TrafficTotals {
        TrafficTotals {
            opened: self.opened.get(),
            closed: self.closed.get(),
            failed: self.failed.get(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
        }
    }
}

/// Sums series of equal labels.
pub(super) fn sum(known: &[Arc<Series>]) -> Vec<(Arc<TrafficLabels>, TrafficTotals)> {
    let mut rows: HashMap<&TrafficLabels, (Arc<TrafficLabels>, TrafficTotals)> = HashMap::new();
    for series in known {
        let (_, row) = rows
            .entry(&series.labels)
            .or_insert_with(|| (series.labels.clone(), TrafficTotals::default()));
        let totals = series.totals();
        row.opened += totals.opened;
        row.closed += totals.closed;
        row.failed += totals.failed;
        row.received_bytes += totals.received_bytes;
        row.sent_bytes += totals.sent_bytes;
    }
    rows.into_values().collect()
}

/// The bytes of one connection, which also count for its series.
pub(crate) struct ByteCounters {
    series: Arc<Series>,
    peer_is_client: bool,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl ByteCounters {
    /// `peer_is_client`: the far end of the tunnel is the client, that is, the connection is inbound.
    /// What moved before, in another process, counts for the connection only.
    pub(crate) fn after(
        series: Arc<Series>,
        peer_is_client: bool,
        received_bytes: u64,
        sent_bytes: u64,
    ) -> Rc<Self> {
        let (received, sent) = (Cell::new(received_bytes), Cell::new(sent_bytes));
        Rc::new(Self { series, peer_is_client, received, sent })
    }

    /// Counts bytes from client to server.
    pub(crate) fn client_to_server(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        self.series.received_bytes.add(bytes as u64);
        self.series.load.moved(bytes as u64);
    }

    /// Counts bytes from server to client.
    pub(crate) fn server_to_client(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        self.series.sent_bytes.add(bytes as u64);
        self.series.load.moved(bytes as u64);
    }

    /// Counts bytes that came out of the tunnel.
    pub(crate) fn out_of_tunnel(&self, bytes: usize) {
        if self.peer_is_client {
            self.client_to_server(bytes)
        } else {
            self.server_to_client(bytes)
        }
    }

    /// Counts bytes that went into the tunnel.
    pub(crate) fn sent_into_tunnel(&self, bytes: usize) {
        if self.peer_is_client {
            self.server_to_client(bytes)
        } else {
            self.client_to_server(bytes)
        }
    }

    /// Bytes from client to server so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes from server to client so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }
}

/// One shard's series, found by who talks to whom.
pub(crate) struct SeriesTable {
    telemetry: Arc<Telemetry>,
    load: Arc<Load>,
    /// By the parties themselves: no label is built, no string compared. Forgotten when the snapshot
    /// changes, so that it keeps no workload alive that the mesh no longer has.
    by_parties: RefCell<HashMap<PartiesKey, Arc<Series>, FastHasher>>,
    by_labels: RefCell<HashMap<TrafficLabels, Arc<Series>>>,
}

impl SeriesTable {
    pub(crate) fn new(telemetry: Arc<Telemetry>, load: Arc<Load>) -> Self {
        Self { telemetry, load, by_parties: RefCell::default(), by_labels: RefCell::default() }
    }

    /// The series of these parties under this response flag.
    pub(crate) fn find(&self, parties: &Parties, response_flag: &'static str) -> Arc<Series> {
        let key = parties.key(response_flag);
        if let Some(series) = self.by_parties.borrow().get(&key) {
            return series.clone();
        }
        let series = self.find_by_labels(TrafficLabels::of(parties, response_flag));
        self.by_parties.borrow_mut().insert(key, series.clone());
        series
    }

    /// Forgets who the parties were; their counts stay.
    pub(crate) fn snapshot_changed(&self) {
        self.by_parties.borrow_mut().clear();
    }

    fn find_by_labels(&self, labels: TrafficLabels) -> Arc<Series> {
        let mut by_labels = self.by_labels.borrow_mut();
        let labels = if by_labels.len() >= SERIES_MAX && !by_labels.contains_key(&labels) {
            labels.without_names()
        } else {
            labels
        };
        by_labels
            .entry(labels)
            .or_insert_with_key(|labels| {
                let series = Series::new(labels.clone(), self.load.clone());
                self.telemetry.announce(series.clone());
                series
            })
            .clone()
    }
}

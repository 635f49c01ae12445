//! Counters of requests of one label set on one shard, and the table that finds them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
    time::Duration,
};

use super::{super::Telemetry, ResponseFlags};
use crate::{
    hash::FastHasher,
    limits::SERIES_MAX,
    snapshot::{Service, Workload},
    telemetry::{
        TrafficLabels,
        labels::{DestinationKey, Parties, PartiesKey},
        series::Cell64,
    },
};

/// Upper bounds of the buckets of every histogram, in milliseconds or bytes; above the last there is one more bucket.
/// They are Istio's.
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// `request_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestProtocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl RequestProtocol {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// How a request went, as far as labels tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Outcome {
    pub(crate) protocol: RequestProtocol,
    pub(crate) code: u16,
    pub(crate) grpc_status: Option<u8>,
    pub(crate) flags: ResponseFlags,
}

/// What was measured of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) duration: Duration,
    /// Head and body.
    pub(crate) request_bytes: u64,
    /// Head and body.
    pub(crate) response_bytes: u64,
    pub(crate) request_messages: u64,
    pub(crate) response_messages: u64,
}

/// One label set of the `istio_request*` metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestLabels {
    /// Who asked whom. Its `response_flags` say nothing of requests.
    pub traffic: TrafficLabels,
    /// `request_protocol`
    pub protocol: RequestProtocol,
    /// `response_code`; 0 when the client had no answer.
    pub code: u16,
    /// `grpc_response_status`
    pub grpc_status: Option<u8>,
    /// `response_flags`
    pub flags: ResponseFlags,
}

/// The totals of one label set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestTotals {
    /// Requests that have ended.
    pub requests: u64,
    /// In milliseconds.
    pub duration: HistogramTotals,
    /// Of heads and bodies.
    pub request_bytes: HistogramTotals,
    /// Of heads and bodies.
    pub response_bytes: HistogramTotals,
    /// gRPC messages from clients.
    pub request_messages: u64,
    /// gRPC messages to clients.
    pub response_messages: u64,
}

/// A histogram's totals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramTotals {
    /// How many fell into each bucket, and into none but the last.
    pub counts: [u64; BUCKETS.len() + 1],
    /// Of all values.
    pub sum: f64,
}

impl HistogramTotals {
    fn add(&mut self, other: &Histogram) {
        for (total, cell) in self.counts.iter_mut().zip(&other.cells) {
            *total += cell.get();
        }
        self.sum += other.thousandths.get() as f64 / 1000.0;
    }
}

#[derive(Default)]
struct Histogram {
    cells: [Cell64; BUCKETS.len() + 1],
    thousandths: Cell64,
}

impl Histogram {
    fn observe(&self, thousandths: u64) {
        let value = thousandths as f64 / 1000.0;
        self.cells[BUCKETS.partition_point(|bound| *bound < value)].add(1);
        self.thousandths.add(thousandths);
    }
}

/// Counters of one label set, written by one shard.
pub(crate) struct RequestSeries {
    labels: Arc<RequestLabels>,
    requests: Cell64,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    request_messages: Cell64,
    response_messages: Cell64,
}

impl RequestSeries {
    fn new(labels: RequestLabels) -> Arc<Self> {
        Arc::new(Self {
            labels: Arc::new(labels),
            requests: Cell64::default(),
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
            request_messages: Cell64::default(),
            response_messages: Cell64::default(),
        })
    }

    pub(crate) fn ended(&self, measured: &Measured) {
        self.requests.add(1);
        self.duration.observe(measured.duration.as_micros().try_into().unwrap_or(u64::MAX));
        self.request_bytes.observe(measured.request_bytes.saturating_mul(1000));
        self.response_bytes.observe(measured.response_bytes.saturating_mul(1000));
        self.request_messages.add(measured.request_messages);
        self.response_messages.add(measured.response_messages);
    }
}

/// Sums series of equal labels.
pub(super) fn sum(known: &[Arc<RequestSeries>]) -> Vec<(Arc<RequestLabels>, RequestTotals)> {
    let mut rows: HashMap<&RequestLabels, (Arc<RequestLabels>, RequestTotals)> = HashMap::new();
    for series in known {
        let (_, row) = rows
            .entry(&series.labels)
            .or_insert_with(|| (series.labels.clone(), RequestTotals::default()));
        row.requests += series.requests.get();
        row.duration.add(&series.duration);
        row.request_bytes.add(&series.request_bytes);
        row.response_bytes.add(&series.response_bytes);
        row.request_messages += series.request_messages.get();
        row.response_messages += series.response_messages.get();
    }
    rows.into_values().collect()
}

/// What a connection knows of where its client's requests are counted, so that not each of them says again who asks.
#[derive(Default)]
pub(crate) struct SourceMemo(Cell<Option<SourceNumber>>);

#[derive(Clone, Copy, PartialEq, Eq)]
struct SourceNumber {
    number: u32,
    /// Since when it is given.
    epoch: u64,
}

/// One shard's series, found by who asked whom and how it went.
pub(crate) struct RequestSeriesTable {
    telemetry: Arc<Telemetry>,
    by_parties: RefCell<ByParties>,
    by_labels: RefCell<HashMap<RequestLabels, Arc<RequestSeries>>>,
}

/// By the parties themselves; forgotten when the snapshot changes.
#[derive(Default)]
struct ByParties {
    /// How often it was forgotten.
    epoch: u64,
    /// Those who ask.
    sources: HashMap<PartiesKey, u32, FastHasher>,
    series: HashMap<(u32, DestinationKey, Outcome), Arc<RequestSeries>, FastHasher>,
}

impl ByParties {
    fn forget(&mut self) {
        self.epoch += 1;
        self.sources.clear();
        self.series.clear();
    }

    /// The number of who asks, until all are forgotten.
    fn number(&mut self, source: &SourceMemo, key: impl FnOnce() -> PartiesKey) -> u32 {
        if let Some(known) = source.0.get().filter(|known| known.epoch == self.epoch) {
            return known.number;
        }
        let next = self.sources.len() as u32;
        let number = *self.sources.entry(key()).or_insert(next);
        source.0.set(Some(SourceNumber { number, epoch: self.epoch }));
        number
    }
}

impl RequestSeriesTable {
    pub(crate) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, by_parties: RefCell::default(), by_labels: RefCell::default() }
    }

    /// The series of what `source` asks of a workload behind a service, and this outcome. `parties`: the two together, or
    /// the source alone.
    pub(crate) fn find(
        &self,
        source: &SourceMemo,
        (workload, service): (Option<&Arc<Workload>>, Option<&Arc<Service>>),
        outcome: Outcome,
        parties: impl Fn(Option<Arc<Workload>>, Option<Arc<Service>>) -> Parties,
    ) -> Arc<RequestSeries> {
        let mut known = self.by_parties.borrow_mut();
        let source_key = || parties(None, None).key("-");
        let number = known.number(source, source_key);
        let key = (number, DestinationKey::of(workload, service), outcome);
        if let Some(series) = known.series.get(&key) {
            return series.clone();
        }
        if known.series.len().max(known.sources.len()) >= SERIES_MAX {
            known.forget();
        }
        let key = (known.number(source, source_key), key.1, outcome);
        let both = parties(workload.cloned(), service.cloned());
        let series = self.find_by_labels(TrafficLabels::of(&both, "-"), outcome);
        known.series.insert(key, series.clone());
        series
    }

    /// Forgets who the parties were; their counts stay.
    pub(crate) fn snapshot_changed(&self) {
        self.by_parties.borrow_mut().forget();
    }

    fn find_by_labels(&self, traffic: TrafficLabels, outcome: Outcome) -> Arc<RequestSeries> {
        let Outcome { protocol, code, grpc_status, flags } = outcome;
        let mut labels = RequestLabels { traffic, protocol, code, grpc_status, flags };
        let mut by_labels = self.by_labels.borrow_mut();
        if by_labels.len() >= SERIES_MAX && !by_labels.contains_key(&labels) {
            labels = RequestLabels {
                traffic: labels.traffic.without_names(),
                code: code / 100 * 100,
                grpc_status: None,
                ..labels
            };
        }
        by_labels
            .entry(labels)
            .or_insert_with_key(|labels| {
                let series = RequestSeries::new(labels.clone());
                self.telemetry.http().announce(series.clone());
                series
            })
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use ringway_protocols::identity::Identity;

    use super::*;
    use crate::telemetry::{Reporter, SecurityPolicy};

    fn asked_by(account: &str) -> Parties {
        let identity = format!("spiffe://cluster.local/ns/shop/sa/{account}");
        Parties {
            reporter: Reporter::Waypoint,
            security_policy: SecurityPolicy::MutualTls,
            source: None,
            source_identity: Some(identity.parse::<Identity>().expect("an identity")),
            destination: None,
            destination_identity: None,
            service: None,
            baggage: None,
            far_end: None,
        }
    }

    #[test]
    fn who_asks_is_known_again_and_never_taken_for_another() {
        let table = RequestSeriesTable::new(Arc::new(Telemetry::new()));
        let outcome = Outcome {
            protocol: RequestProtocol::Http,
            code: 200,
            grpc_status: None,
            flags: ResponseFlags::default(),
        };
        let (web, cart) = (SourceMemo::default(), SourceMemo::default());
        let find = |source: &SourceMemo, account| {
            table.find(source, (None, None), outcome, |_, _| asked_by(account))
        };
        let of_web = find(&web, "web");
        assert!(Arc::ptr_eq(&of_web, &find(&web, "web")));
        assert!(
            Arc::ptr_eq(&of_web, &find(&SourceMemo::default(), "web")),
            "of another connection"
        );
        let of_cart = find(&cart, "cart");
        assert!(!Arc::ptr_eq(&of_web, &of_cart));
        // Numbers are given anew, to others.
        table.snapshot_changed();
        assert!(Arc::ptr_eq(&of_cart, &find(&SourceMemo::default(), "cart")));
        assert!(Arc::ptr_eq(&of_web, &find(&web, "web")));
        assert!(Arc::ptr_eq(&of_cart, &find(&cart, "cart")));
    }

    #[test]
    fn who_asks_is_never_taken_for_another_when_there_are_too_many() {
        let table = RequestSeriesTable::new(Arc::new(Telemetry::new()));
        let outcome = |code| Outcome {
            protocol: RequestProtocol::Http,
            code,
            grpc_status: None,
            flags: ResponseFlags::default(),
        };
        let find = |source: &SourceMemo, account, code| {
            table.find(source, (None, None), outcome(code), |_, _| asked_by(account))
        };
        // Their counts are there before it gets too much.
        let known = ["web", "cart", "db"].map(|account| find(&SourceMemo::default(), account, 200));
        table.snapshot_changed();
        let (web, cart) = (SourceMemo::default(), SourceMemo::default());
        find(&web, "web", 1000);
        find(&cart, "cart", 1000);
        (1002..1000 + SERIES_MAX as u16).for_each(|code| drop(find(&web, "web", code)));
        assert_eq!(table.by_parties.borrow().epoch, 1, "there is still room");
        // There is none for this one.
        let of_cart = find(&cart, "cart", 200);
        assert_eq!(table.by_parties.borrow().epoch, 2);
        assert!(Arc::ptr_eq(&of_cart, &known[1]));
        for account in ["web", "db"] {
            let others = find(&SourceMemo::default(), account, 200);
            assert!(!Arc::ptr_eq(&of_cart, &others), "{account}");
        }
        assert!(Arc::ptr_eq(&of_cart, &find(&SourceMemo::default(), "cart", 200)));
    }

    #[test]
    fn a_value_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for milliseconds in [0.4, 0.5, 0.6, 3_600_000.0, 3_600_001.0] {
            histogram.observe((milliseconds * 1000.0) as u64);
        }
        let mut totals = HistogramTotals::default();
        totals.add(&histogram);
        assert_eq!((totals.counts[0], totals.counts[1]), (2, 1));
        assert_eq!(totals.counts[BUCKETS.len() - 1..], [1, 1]);
        assert!((totals.sum - 7_200_002.5).abs() < 0.01, "{}", totals.sum);
    }
}

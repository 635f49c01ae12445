//! Connections to workloads that have a hostname and no address, counted by who dials and by the hostname.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam_queue::SegQueue;

use super::{
    PeerLabels, Telemetry,
    labels::{Parties, TrafficLabels},
    series::Cell64,
};
use crate::limits::HOSTNAME_SERIES_MAX;

/// One label set of `istio_on_demand_dns_total`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResolutionLabels {
    /// The `source_*` labels.
    pub source: PeerLabels,
    /// The hostname; empty for all that were too many.
    pub hostname: Arc<str>,
}

/// A counter of one shard.
struct Resolutions {
    labels: ResolutionLabels,
    times: Cell64,
}

/// What all shards have counted.
pub(super) struct AllResolutions {
    announced: SegQueue<Arc<Resolutions>>,
    known: Mutex<Vec<Arc<Resolutions>>>,
}

impl AllResolutions {
    pub(super) fn new() -> Self {
        Self { announced: SegQueue::new(), known: Mutex::default() }
    }
}

impl Telemetry {
    /// How often connections went to a workload by its hostname; counters of one label set are one row.
    pub fn resolutions(&self) -> Vec<(ResolutionLabels, u64)> {
        let mut known = self.resolutions.known.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(counter) = self.resolutions.announced.pop() {
            known.push(counter);
        }
        let mut rows: HashMap<&ResolutionLabels, u64> = HashMap::new();
        for counter in known.iter() {
            *rows.entry(&counter.labels).or_default() += counter.times.get();
        }
        rows.into_iter().map(|(labels, times)| (labels.clone(), times)).collect()
    }
}

/// One shard's counters.
#[derive(Default)]
pub(crate) struct ResolutionTable(RefCell<HashMap<ResolutionLabels, Arc<Resolutions>>>);

impl ResolutionTable {
    /// Counts an outbound connection, if its destination was found by a hostname.
    pub(crate) fn count(&self, parties: &Parties, telemetry: &Telemetry) {
        let Some(destination) = &parties.destination else { return };
        if !destination.addresses().is_empty() || destination.hostname().is_empty() {
            return;
        }
        let source = TrafficLabels::of(parties, "-").source;
        let mut labels = ResolutionLabels { source, hostname: destination.hostname().into() };
        let mut table = self.0.borrow_mut();
        if table.len() >= HOSTNAME_SERIES_MAX && !table.contains_key(&labels) {
            labels = ResolutionLabels::default();
        }
        let counter = table.entry(labels).or_insert_with_key(|labels| {
            let counter =
                Arc::new(Resolutions { labels: labels.clone(), times: Cell64::default() });
            telemetry.resolutions.announced.push(counter.clone());
            counter
        });
        counter.times.add(1);
    }
}

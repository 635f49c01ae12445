//! What is counted: queries by type, transport and who asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_engine::snapshot::Workload;
use ringway_protocols::dns::record_type;

use super::bounds::SERIES_MAX;
use crate::telemetry::exposition::Histogram;
use crate::telemetry::metrics::DnsFacts;

/// Upper ends of the classes of `istio_dns_upstream_request_duration_seconds`, in seconds.
pub const DURATION_BUCKETS: [f64; 6] = [0.0005, 0.001, 0.01, 0.1, 1.0, 5.0];

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

impl Transport {
    /// The value of its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
}

/// What a count is told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsLabels {
    /// `request_query_type`, in small letters.
    pub query_type: &'static str,
    /// `request_protocol`.
    pub transport: Transport,
    /// `source_canonical_service`; empty when it is not known.
    pub canonical_service: Arc<str>,
    /// `source_canonical_revision`; empty when it is not known.
    pub canonical_revision: Arc<str>,
}

impl DnsLabels {
    /// Of a query that this workload asks, if it is known who it is.
    pub(super) fn of(
        record_type: u16,
        transport: Transport,
        client: Option<&Workload>,
    ) -> DnsLabels {
        DnsLabels {
            query_type: record_type::name(record_type),
            transport,
            canonical_service: client.map(Workload::shared_canonical_name).unwrap_or_default(),
            canonical_revision: client
                .map(|one| one.canonical_revision().clone())
                .unwrap_or_default(),
        }
    }
}

/// What is counted under one set of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DnsTotals {
    /// `istio_dns_requests_total`.
    pub requests: u64,
    /// `istio_dns_upstream_requests_total`.
    pub upstream_requests: u64,
    /// `istio_dns_upstream_failures_total`.
    pub upstream_failures: u64,
    /// `istio_dns_upstream_request_duration_seconds`: how many took no longer than each of [`DURATION_BUCKETS`] and longer
    /// than the one before, and in the end those that took longer than all.
    pub durations: [u64; DURATION_BUCKETS.len() + 1],
    /// The same: the sum, in seconds.
    pub duration_seconds: f64,
}

/// The counters of the DNS proxy.
#[derive(Debug, Default)]
pub struct DnsMetrics {
    series: Mutex<HashMap<DnsLabels, DnsTotals>>,
    malformed: AtomicU64,
    refused: AtomicU64,
    mismatched: AtomicU64,
}

/// Counts without labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsOddities {
    /// Messages of clients that are no queries.
    pub malformed: u64,
    /// Queries and connections that were refused because a bound was reached.
    pub refused: u64,
    /// Messages of name servers that answer another question than was asked.
    pub mismatched: u64,
}

impl DnsMetrics {
    /// Everything that was counted by labels, in their order.
    pub fn totals(&self) -> Vec<(DnsLabels, DnsTotals)> {
        let mut totals: Vec<_> =
            self.series().iter().map(|(labels, totals)| (labels.clone(), *totals)).collect();
        totals.sort_by(|(one, _), (other, _)| one.cmp(other));
        totals
    }

    /// The same, as it is exposed.
    pub fn facts(&self) -> Vec<DnsFacts> {
        let facts = |(labels, totals): (DnsLabels, DnsTotals)| {
            let [classes @ .., larger] = totals.durations;
            let ends = DURATION_BUCKETS.into_iter();
            DnsFacts {
                query_type: labels.query_type.to_owned(),
                protocol: labels.transport.as_str(),
                canonical_service: labels.canonical_service,
                canonical_revision: labels.canonical_revision,
                requests: totals.requests,
                upstream_requests: totals.upstream_requests,
                upstream_failures: totals.upstream_failures,
                upstream_seconds: Histogram {
                    classes: ends.zip(classes).collect(),
                    larger,
                    sum: totals.duration_seconds,
                },
            }
        };
        self.totals().into_iter().map(facts).collect()
    }

    /// Everything else.
    pub fn oddities(&self) -> DnsOddities {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DnsOddities {
            malformed: load(&self.malformed),
            refused: load(&self.refused),
            mismatched: load(&self.mismatched),
        }
    }

    pub(super) fn request(&self, labels: &DnsLabels) {
        self.count(labels, |totals| totals.requests += 1);
    }

    /// A query was forwarded; this is how it went.
    pub(super) fn upstream(&self, labels: &DnsLabels, took: Duration, failed: bool) {
        let seconds = took.as_secs_f64();
        let class = DURATION_BUCKETS.iter().position(|end| seconds <= *end);
        self.count(labels, |totals| {
            totals.upstream_requests += 1;
            totals.upstream_failures += u64::from(failed);
            totals.durations[class.unwrap_or(DURATION_BUCKETS.len())] += 1;
            totals.duration_seconds += seconds;
        });
    }

    pub(super) fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn mismatched(&self) {
        self.mismatched.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, labels: &DnsLabels, count: impl FnOnce(&mut DnsTotals)) {
        let mut series = self.series();
        if let Some(totals) = series.get_mut(labels) {
            return count(totals);
        }
        let labels = if series.len() < SERIES_MAX {
            labels.clone()
        } else {
            DnsLabels {
                canonical_service: Arc::default(),
                canonical_revision: Arc::default(),
                ..labels.clone()
            }
        };
        count(series.entry(labels).or_default());
    }

    fn series(&self) -> MutexGuard<'_, HashMap<DnsLabels, DnsTotals>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(service: usize) -> DnsLabels {
        DnsLabels {
            query_type: "a",
            transport: Transport::Udp,
            canonical_service: format!("service-{service}").into(),
            canonical_revision: "v1".into(),
        }
    }

    #[test]
    fn durations_fall_into_classes() {
        let metrics = DnsMetrics::default();
        let labels = labels(0);
        metrics.request(&labels);
        for micros in [500, 501, 9_000, 10_000_000] {
            metrics.upstream(&labels, Duration::from_micros(micros), micros > 1_000_000);
        }
        let [(_, totals)] = metrics.totals()[..] else { panic!("one set of labels") };
        assert_eq!(
            (totals.requests, totals.upstream_requests, totals.upstream_failures),
            (1, 4, 1)
        );
        assert_eq!(totals.durations, [1, 1, 1, 0, 0, 0, 1]);
        assert!((totals.duration_seconds - 10.010_001).abs() < 1e-9);
    }

    #[test]
    fn there_are_only_so_many_sets_of_labels() {
        let metrics = DnsMetrics::default();
        for service in 0..SERIES_MAX + 10 {
            metrics.request(&labels(service));
        }
        let totals = metrics.totals();
        assert_eq!(totals.len(), SERIES_MAX + 1);
        assert_eq!((&*totals[0].0.canonical_service, totals[0].1.requests), ("", 10));
    }
}

//! The metrics of requests, which only waypoints and gateways tell.
//!
//! Names, labels, their order and the bounds of the buckets are those of Istio's proxies: their boards and Kiali group by
//! all of these, and leave out what lacks one.

use crate::telemetry::exposition::{Kind, Metric};

/// Makes one row; all have the labels of requests.
const fn row(
    name: &'static str,
    kind: Kind,
    unit: Option<&'static str>,
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, help, labels: REQUEST_LABELS }
}

/// The rows of requests, told after all others.
pub(super) const REQUEST_METRICS: &[Metric] = &[
    row("istio_requests", Kind::Counter, None, "Requests that ended."),
    row(
        "istio_request_duration_milliseconds",
        Kind::Histogram,
        Some("milliseconds"),
        "From a request's head to the last byte of its answer.",
    ),
    row("istio_request_bytes", Kind::Histogram, Some("bytes"), "Heads and bodies of requests."),
    row("istio_response_bytes", Kind::Histogram, Some("bytes"), "Heads and bodies of answers."),
    row("istio_request_messages", Kind::Counter, None, "gRPC messages from clients."),
    row("istio_response_messages", Kind::Counter, None, "gRPC messages to clients."),
    Metric {
        name: "ringway_request_records_lost",
        kind: Kind::Counter,
        unit: None,
        help: "Records of requests that were lost because log and traces could not keep up.",
        labels: &[],
    },
    Metric {
        name: "ringway_outside_calls",
        kind: Kind::Counter,
        unit: None,
        help: "Questions about requests to an external authorizer (`authorization`) or a rate limit service (`rate_limit`): `allowed`, `denied`, and without an answer `failed_open` or `failed_closed`.",
        labels: &["service", "outcome"],
    },
    Metric {
        name: "ringway_backend_tls_failures",
        kind: Kind::Counter,
        unit: None,
        help: "TLS to a backend that did not come about: its certificate is not believed (`untrusted`), the `handshake` failed otherwise, was not complete in time (`timed_out`), was `cut`, or the policy is `unusable`.",
        labels: &["reason"],
    },
    Metric {
        name: "ringway_spans",
        kind: Kind::Counter,
        unit: None,
        help: "Spans of traces: `exported`, `refused` by the collector, or `lost` because it could not be reached or kept up with.",
        labels: &["outcome"],
    },
    Metric {
        name: "ringway_mirrored_requests",
        kind: Kind::Counter,
        unit: None,
        help: "Copies for a mirror: answered `equal` to what the client got, `different`, `unanswered`, with nothing whole to compare with (`incomplete`), or `skipped` and not sent.",
        labels: &["route", "mirror", "outcome"],
    },
    Metric {
        name: "ringway_mirror_differences",
        kind: Kind::Counter,
        unit: None,
        help: "In what answers of a mirror differed: `status_class`, `status`, `length`, `content_type`, `body`; one answer counts in each.",
        labels: &["route", "mirror", "in"],
    },
    Metric {
        name: "ringway_mirror_duration_milliseconds",
        kind: Kind::Histogram,
        unit: Some("milliseconds"),
        help: "How long the head of an answer took, of requests that were copied: by who answered, `original` or `copy`.",
        labels: &["route", "mirror", "answered_by"],
    },
    Metric {
        name: "ringway_mirror_records_lost",
        kind: Kind::Counter,
        unit: None,
        help: "Copies whose outcome was not counted because nobody could keep up.",
        labels: &[],
    },
];

/// The labels of requests, in Istio's order.
pub(super) const REQUEST_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

#[cfg(feature = "waypoint")]
pub use self::rendering::RequestFacts;
#[cfg(feature = "waypoint")]
pub(super) use self::rendering::render;

#[cfg(feature = "waypoint")]
mod rendering {
    //! Their values.

    use std::sync::Arc;

    use ringway_engine::telemetry::http::{
        BUCKETS, Difference, HistogramTotals, OutsideOutcome, OutsideService, RequestLabels,
        RequestTotals,
    };

    use super::super::known;
    use super::REQUEST_METRICS;
    use crate::telemetry::exposition::{Exposition, Histogram};
    use crate::telemetry::mirrors::{Pair, Summary};
    use crate::telemetry::traces::SpanCounts;

    /// What a waypoint or gateway tells beside what every process does.
    #[derive(Debug, Clone, Default)]
    pub struct RequestFacts {
        /// Requests by labels.
        pub requests: Vec<(Arc<RequestLabels>, RequestTotals)>,
        /// Records lost.
        pub records_lost: u64,
        /// How often services outside were asked, and how that ended.
        pub outside_calls: Vec<(OutsideService, OutsideOutcome, u64)>,
        /// How often TLS to a backend did not come about, by reason.
        pub backend_tls_failures: Vec<(&'static str, u64)>,
        /// What became of spans.
        pub spans: SpanCounts,
        /// What became of copies, by route and mirror.
        pub mirrors: Vec<(Pair, Summary)>,
        /// Copies whose outcome was lost.
        pub mirrors_lost: u64,
    }

    /// Writes the families of requests.
    pub(in crate::telemetry::metrics) fn render(exposition: &mut Exposition, facts: &RequestFacts) {
        let mut requests: Vec<_> = facts.requests.iter().collect();
        requests.sort_by(|(one, _), (other, _)| one.cmp(other));
        let told: Vec<_> =
            requests.iter().map(|(labels, totals)| (Told::of(labels), totals)).collect();
        for metric in REQUEST_METRICS {
            let mut family = exposition.family(metric);
            match metric.name {
                "istio_requests" => {
                    for (labels, totals) in &told {
                        family.sample(labels.values(), totals.requests);
                    }
                }
                "istio_request_duration_milliseconds" => {
                    for (labels, totals) in &told {
                        family.histogram(&labels.values(), &histogram(&totals.duration));
                    }
                }
                "istio_request_bytes" => {
                    for (labels, totals) in &told {
                        family.histogram(&labels.values(), &histogram(&totals.request_bytes));
                    }
                }
                "istio_response_bytes" => {
                    for (labels, totals) in &told {
                        family.histogram(&labels.values(), &histogram(&totals.response_bytes));
                    }
                }
                "istio_request_messages" => {
                    for (labels, totals) in told.iter().filter(|(labels, _)| labels.is_grpc()) {
                        family.sample(labels.values(), totals.request_messages);
                    }
                }
                "istio_response_messages" => {
                    for (labels, totals) in told.iter().filter(|(labels, _)| labels.is_grpc()) {
                        family.sample(labels.values(), totals.response_messages);
                    }
                }
                "ringway_request_records_lost" => family.sample([], facts.records_lost),
                "ringway_outside_calls" => {
                    for (service, outcome, count) in &facts.outside_calls {
                        family.sample([service.as_str(), outcome.as_str()], *count);
                    }
                }
                "ringway_backend_tls_failures" => {
                    for (reason, count) in &facts.backend_tls_failures {
                        family.sample([*reason], *count);
                    }
                }
                "ringway_spans" => {
                    family.sample(["exported"], facts.spans.exported);
                    family.sample(["refused"], facts.spans.refused);
                    family.sample(["lost"], facts.spans.lost);
                }
                "ringway_mirrored_requests" => {
                    for ((route, mirror), summary) in &facts.mirrors {
                        for (outcome, count) in summary.outcomes() {
                            family.sample([&**route, &**mirror, outcome], count);
                        }
                    }
                }
                "ringway_mirror_differences" => {
                    for ((route, mirror), summary) in &facts.mirrors {
                        for (difference, count) in Difference::ALL.iter().zip(summary.differences) {
                            family.sample([&**route, &**mirror, difference.as_str()], count);
                        }
                    }
                }
                "ringway_mirror_duration_milliseconds" => {
                    for ((route, mirror), summary) in &facts.mirrors {
                        let both = [("original", &summary.original), ("copy", &summary.copy)];
                        for (answered_by, times) in both {
                            family
                                .histogram(&[&**route, &**mirror, answered_by], &times.histogram());
                        }
                    }
                }
                "ringway_mirror_records_lost" => family.sample([], facts.mirrors_lost),
                other => unreachable!("the row {other} has no value; a test renders every row"),
            }
        }
    }

    fn histogram(totals: &HistogramTotals) -> Histogram {
        let (within, larger) = totals.counts.split_at(BUCKETS.len());
        Histogram {
            classes: BUCKETS.into_iter().zip(within.iter().copied()).collect(),
            larger: larger[0],
            sum: totals.sum,
        }
    }

    /// One label set with its numbers as text.
    struct Told<'a> {
        labels: &'a RequestLabels,
        code: String,
        grpc_status: String,
        flags: String,
    }

    impl<'a> Told<'a> {
        fn of(labels: &'a RequestLabels) -> Self {
            Self {
                labels,
                code: labels.code.to_string(),
                grpc_status: labels
                    .grpc_status
                    .map(|status| status.to_string())
                    .unwrap_or_default(),
                flags: labels.flags.to_string(),
            }
        }

        fn is_grpc(&self) -> bool {
            self.labels.protocol.as_str() == "grpc"
        }

        fn values(&self) -> [&str; super::REQUEST_LABELS.len()] {
            let traffic = &self.labels.traffic;
            let (source, destination, service) =
                (&traffic.source, &traffic.destination, &traffic.service);
            [
                traffic.reporter.as_str(),
                known(&source.workload),
                known(&source.canonical_service),
                known(&source.canonical_revision),
                known(&source.namespace),
                known(&source.principal),
                known(&source.app),
                known(&source.canonical_revision),
                known(&source.cluster),
                known(&destination.workload),
                known(&destination.namespace),
                known(&destination.principal),
                known(&destination.app),
                known(&destination.canonical_revision),
                known(&service.hostname),
                known(&destination.canonical_service),
                known(&destination.canonical_revision),
                known(&service.name),
                known(&service.namespace),
                known(&destination.cluster),
                self.labels.protocol.as_str(),
                &self.code,
                // Empty where there is none, as Istio's proxies have it.
                &self.grpc_status,
                &self.flags,
                traffic.security_policy.as_str(),
            ]
        }
    }
}

//! The table of all metrics, and the page in `docs/` that is made from it.

use std::fmt::Write as _;

use super::requests::{REQUEST_LABELS, REQUEST_METRICS};
use crate::telemetry::exposition::{Kind, Metric};

/// Makes one row.
const fn row(
    name: &'static str,
    kind: Kind,
    unit: Option<&'static str>,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, help, labels }
}

use Kind::{Counter, Gauge, Histogram};

/// The table. The answer to a scrape has its order.
pub const METRICS: &[Metric] = &[
    row(
        "istio_tcp_connections_opened",
        Counter,
        None,
        TRAFFIC_LABELS,
        "Connections whose destination was decided.",
    ),
    row(
        "istio_tcp_connections_closed",
        Counter,
        None,
        TRAFFIC_LABELS,
        "Connections that ended, by how they ended (`response_flags`).",
    ),
    row(
        "istio_tcp_received_bytes",
        Counter,
        Some("bytes"),
        TRAFFIC_LABELS,
        "Bytes from client to server, on both reporters.",
    ),
    row(
        "istio_tcp_sent_bytes",
        Counter,
        Some("bytes"),
        TRAFFIC_LABELS,
        "Bytes from server to client, on both reporters.",
    ),
    row(
        "istio_tcp_connections_failed",
        Counter,
        None,
        TRAFFIC_LABELS,
        "Connections that ended with a response flag.",
    ),
    row(
        "istio_tcp_sockets_open",
        Gauge,
        None,
        &["reporter"],
        "Accepted sockets that are open now.",
    ),
    row(
        "istio_build",
        Gauge,
        None,
        &["component", "tag"],
        "1; Istio's version as its tools ask for it.",
    ),
    row(
        "istio_crl_policy_rejections",
        Counter,
        None,
        &["reporter"],
        "Open connections that were cut because a certificate of their peer was revoked; handshakes that are refused for it are not among them.",
    ),
    row(
        "istio_crl_untracked_connections",
        Counter,
        None,
        &["reporter"],
        "0: every open tunnel is held against the lists again.",
    ),
    row(
        "istio_on_demand_dns",
        Counter,
        None,
        HOSTNAME_LABELS,
        "Connections to workloads that have a hostname and no address.",
    ),
    row("istio_dns_requests", Counter, None, DNS_LABELS, "Questions to the DNS proxy."),
    row(
        "istio_dns_upstream_requests",
        Counter,
        None,
        DNS_LABELS,
        "Of those, questions that were asked further.",
    ),
    row(
        "istio_dns_upstream_failures",
        Counter,
        None,
        DNS_LABELS,
        "Of those, questions that got no answer.",
    ),
    row(
        "istio_dns_upstream_request_duration_seconds",
        Histogram,
        Some("seconds"),
        DNS_LABELS,
        "How long asking further took.",
    ),
    row(
        "istio_xds_connection_terminations",
        Counter,
        None,
        &["reason"],
        "Streams from the control plane that ended: `ConnectionError`, `Error`, `Reconnect`, `Complete`.",
    ),
    row("istio_xds_message", Counter, None, &["url"], "Messages of the control plane, by type."),
    row(
        "istio_xds_message_bytes",
        Counter,
        Some("bytes"),
        &["url"],
        "What these messages carried, by type.",
    ),
    row("workload_manager_active_proxy_count", Gauge, None, &[], "Workloads that are captured."),
    row(
        "workload_manager_pending_proxy_count",
        Gauge,
        None,
        &[],
        "Workloads that could not be captured yet.",
    ),
    row(
        "workload_manager_proxies_started",
        Counter,
        None,
        &[],
        "Captures of a workload that began.",
    ),
    row(
        "workload_manager_proxies_stopped",
        Counter,
        None,
        &[],
        "Captures of a workload that ended.",
    ),
    row("tokio_num_workers", Gauge, None, &[], "Threads that carry connections: shards."),
    row(
        "tokio_worker_park_count",
        Counter,
        None,
        &["worker"],
        "Waits of a shard, the same as `ringway_shard_waits_total`.",
    ),
    row(
        "tokio_worker_park_unpark_count",
        Counter,
        None,
        &["worker"],
        "Waits of a shard and their ends: twice the number before.",
    ),
    row(
        "tokio_worker_total_busy_duration_seconds",
        Counter,
        Some("seconds"),
        &["worker"],
        "Processor time of a shard's thread.",
    ),
    row(
        "tokio_num_alive_tasks",
        Gauge,
        None,
        &[],
        "Tasks of shards: connections, tunnels, listeners and what they wait for.",
    ),
    row("tokio_global_queue_depth", Gauge, None, &[], "0: shards share no queue."),
    row("process_open_fds", Gauge, None, &[], "Descriptors that are open."),
    row("process_max_fds", Gauge, None, &[], "Descriptors that may be open."),
    row("process_resident_memory_bytes", Gauge, Some("bytes"), &[], "Memory in use."),
    row("process_cpu_seconds", Counter, Some("seconds"), &[], "Processor time used."),
    row(
        "process_start_time_seconds",
        Gauge,
        Some("seconds"),
        &[],
        "When the process started, in Unix time.",
    ),
    row("ringway_build", Gauge, None, &["version", "revision"], "1; what runs."),
    row(
        "ringway_reactor",
        Gauge,
        None,
        &["shard", "reactor", "reason"],
        "1 for each shard; what it waits on, and why.",
    ),
    row(
        "ringway_snapshot_generation",
        Gauge,
        None,
        &[],
        "The generation that decisions are made on.",
    ),
    row("ringway_workloads", Gauge, None, &[], "Workloads the process knows."),
    row("ringway_services", Gauge, None, &[], "Services the process knows."),
    row(
        "ringway_config_reloads",
        Counter,
        None,
        &["result"],
        "Reloads of the configuration: `ok`, or `refused` and the old one stays.",
    ),
    row(
        "ringway_certificate_expiry_timestamp_seconds",
        Gauge,
        Some("seconds"),
        &["identity"],
        "When the certificate of an identity of this host expires, in Unix time.",
    ),
    row(
        "ringway_authority_expiry_timestamp_seconds",
        Gauge,
        Some("seconds"),
        &["role"],
        "When the embedded authority's certificates expire, in Unix time.",
    ),
    row(
        "ringway_certificates_issued",
        Counter,
        None,
        &["result"],
        "Certificates asked for: `ok`, or `failed` and tried again.",
    ),
    row(
        "ringway_connections_handed_over",
        Counter,
        None,
        &[],
        "Connections that moved to another shard before their first byte.",
    ),
    row(
        "ringway_connection_retries",
        Counter,
        None,
        &["at"],
        "Connections that were tried again before their first byte: at another `endpoint`, because one could not be reached, or in another `tunnel`, because the peer refused the stream or the tunnel broke.",
    ),
    row(
        "ringway_policy_dry_runs",
        Counter,
        None,
        &["outcome"],
        "What policies on dry run would have done to connections: `denied` or `allowed`.",
    ),
    row(
        "ringway_policies_unenforced",
        Gauge,
        None,
        &[],
        "AuthorizationPolicies and RequestAuthentications of the files that are attached to a service without a waypoint: nobody enforces them there. `ringway validate` names them.",
    ),
    row("ringway_shard_turns", Counter, None, &["shard"], "Turns of a shard's loop."),
    row(
        "ringway_shard_waits",
        Counter,
        None,
        &["shard"],
        "Turns that ended in a wait: a shard that never waits is saturated.",
    ),
    row(
        "ringway_shard_connections_accepted",
        Counter,
        None,
        &["shard"],
        "Connections a shard accepted.",
    ),
    row(
        "ringway_shard_accept_pauses",
        Counter,
        None,
        &["shard"],
        "Pauses of accepting because descriptors or memory ran out.",
    ),
    row(
        "ringway_shard_panics",
        Counter,
        None,
        &["shard"],
        "Tasks that panicked: each is a defect of Ringway.",
    ),
    row(
        "ringway_shard_completion_overflows",
        Counter,
        None,
        &["shard"],
        "Completions the kernel kept aside because a shard's ring was full.",
    ),
    row(
        "ringway_shard_wrong_namespace",
        Counter,
        None,
        &["shard"],
        "Sockets refused because they were in another network namespace than asked for.",
    ),
    row(
        "ringway_limit_reached",
        Counter,
        None,
        &["limit", "workload"],
        "How often traffic of a workload met a bound; `docs/limits.md` says what happened then.",
    ),
    row(
        "ringway_access_records_lost",
        Counter,
        None,
        &[],
        "Access records that were lost because the log could not keep up.",
    ),
    row(
        "ringway_log_lines_lost",
        Counter,
        None,
        &[],
        "Log lines that were lost because nobody took them in time.",
    ),
];

/// The labels of `istio_on_demand_dns`.
const HOSTNAME_LABELS: &[&str] = &[
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "hostname",
];

/// The labels of the `istio_dns_*` families.
const DNS_LABELS: &[&str] = &[
    "request_query_type",
    "request_protocol",
    "source_canonical_service",
    "source_canonical_revision",
];

/// The labels of the `istio_tcp_*` family; the last four only where a side's workload is known.
pub(super) const TRAFFIC_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
];

/// `docs/metrics.md`.
pub fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Scraped at `:15020/metrics` (also `/stats/prometheus`): OpenMetrics 1.0 to who asks for it, else the\n\
         Prometheus text format; gzip or deflate to who asks for it. This page is made from the table in `control/src/telemetry/metrics/table.rs`.\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    METRICS.iter().for_each(|metric| describe(&mut text, metric));
    text.push_str("\n## Requests\n\nTold by `ringway waypoint` and `ringway gateway` only, with `reporter=\"waypoint\"`. They tell the `istio_tcp_*` family\nof connections that are no HTTP, and `istio_build` says `component=\"proxy\"` there.\n\n| name | type | labels | meaning |\n|---|---|---|---|\n");
    REQUEST_METRICS.iter().for_each(|metric| describe(&mut text, metric));
    text.push_str("\n## Request labels\n\nIn Istio's order; `unknown` where nothing is known, and `grpc_response_status` is empty where there is none. A shard keeps 20,000 sets of\nthem; what is beyond is counted without names.\n\n");
    for label in REQUEST_LABELS {
        let _ = writeln!(text, "* `{label}`");
    }
    text.push_str("\nThe buckets of all three histograms end at 0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1,000, 2,500, 5,000, 10,000, 30,000,\n60,000, 300,000, 600,000, 1,800,000 and 3,600,000.\n");
    text.push_str("\n## Traffic labels\n\nIn their order; `unknown` where nothing is known. The last four are there only where the workload of\nat least one side is known.\n\n");
    for label in TRAFFIC_LABELS {
        let _ = writeln!(text, "* `{label}`");
    }
    text
}

fn describe(text: &mut String, metric: &Metric) {
    let labels = match metric.labels {
        TRAFFIC_LABELS => "traffic labels".to_owned(),
        REQUEST_LABELS => "request labels".to_owned(),
        labels => labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", "),
    };
    let kind = metric.kind.as_str();
    let (name, help) = (metric.sample_name(), metric.help);
    let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
}

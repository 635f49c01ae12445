//! The table and the answer made from it, against files that are reviewed rather than asserted.

use std::time::Duration;

use ringway_engine::telemetry::{SecurityPolicy, ServiceLabels};

use super::*;

fn labels(response_flags: &'static str) -> Arc<TrafficLabels> {
    let peer = |name: &str| PeerLabels {
        workload: name.into(),
        canonical_service: format!("{name}-service").into(),
        canonical_revision: "v1".into(),
        namespace: "shop".into(),
        principal: format!("spiffe://cluster.local/ns/shop/sa/{name}").into(),
        app: format!("{name}-app").into(),
        cluster: "c1".into(),
        region: "r".into(),
        zone: "z".into(),
    };
    Arc::new(TrafficLabels {
        reporter: Reporter::Source,
        source: peer("client"),
        destination: peer("web"),
        service: ServiceLabels {
            hostname: "web.shop.svc".into(),
            name: "web".into(),
            namespace: "shop".into(),
        },
        security_policy: SecurityPolicy::MutualTls,
        response_flags,
        has_locality: true,
    })
}

fn unknown() -> Arc<TrafficLabels> {
    Arc::new(TrafficLabels {
        reporter: Reporter::Destination,
        source: PeerLabels::default(),
        destination: PeerLabels::default(),
        service: ServiceLabels::default(),
        security_policy: SecurityPolicy::Unknown,
        response_flags: "-",
        has_locality: false,
    })
}

pub(super) fn facts() -> Facts {
    let opened =
        TrafficTotals { opened: 3, closed: 1, failed: 0, received_bytes: 84, sent_bytes: 358 };
    let denied = TrafficTotals { closed: 2, failed: 2, ..TrafficTotals::default() };
    let revoked = TrafficTotals { closed: 1, failed: 1, ..TrafficTotals::default() };
    Facts {
        traffic: vec![
            (unknown(), TrafficTotals { opened: 1, ..TrafficTotals::default() }),
            (labels("DENY"), denied),
            (labels("CERT_REVOKED"), revoked),
            (labels("-"), opened),
        ],
        sockets_open: [2, 1],
        discovery: DiscoveryFacts {
            terminations: vec![("ConnectionError", 2), ("Reconnect", 1)],
            messages: vec![("type.googleapis.com/istio.workload.Address".to_owned(), 3, 1200)],
        },
        dns: vec![DnsFacts {
            query_type: "a".to_owned(),
            protocol: "udp",
            canonical_service: "client-service".into(),
            canonical_revision: Arc::default(),
            requests: 5,
            upstream_requests: 3,
            upstream_failures: 1,
            upstream_seconds: Histogram {
                classes: vec![(0.0005, 1), (0.001, 0), (0.01, 1), (0.1, 0), (1.0, 0), (5.0, 0)],
                larger: 1,
                sum: 5.503,
            },
        }],
        workloads_active: 1,
        captures_started: 1,
        limits_reached: vec![LimitReached {
            limit: ringway_engine::Limit::ConnectionsPerWorkload,
            workload: "c1//Pod/shop/web".into(),
            times: 12,
        }],
        process: ProcessFacts {
            open_descriptors: 40,
            descriptors_max: 1024,
            resident_bytes: 8 << 20,
            cpu_seconds: 1.5,
            start_time_seconds: 1_700_000_000.25,
        },
        version: "0.1.0".to_owned(),
        revision: "abc".to_owned(),
        reactors: vec![
            ("ring".to_owned(), "deferred task run".to_owned()),
            ("epoll".to_owned(), "as configured".to_owned()),
        ],
        snapshot_generation: 7,
        workloads: 2,
        services: 1,
        reloads: Outcomes { ok: 4, failed: 1 },
        certificates: vec![(
            "spiffe://cluster.local/ns/shop/sa/web".to_owned(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        )],
        authorities: vec![(
            "current".to_owned(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
        )],
        issued: Outcomes { ok: 1, failed: 0 },
        shards: vec![ShardFacts { turns: 9, waits: 8, accepted: 7, ..ShardFacts::default() }],
        ..Facts::default()
    }
}

#[test]
fn the_whole_answer() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/telemetry/metrics/golden.txt");
    assert_file(path, &render(&facts(), TextFormat::OpenMetrics));
}

#[test]
fn the_older_format_differs_in_family_names_units_and_end_only() {
    let open_metrics = render(&facts(), TextFormat::OpenMetrics);
    let prometheus = render(&facts(), TextFormat::Prometheus);
    let samples = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(samples(&open_metrics), samples(&prometheus));
    assert!(prometheus.contains("# TYPE istio_tcp_connections_opened_total counter\n"));
    assert!(!prometheus.contains("# UNIT") && !prometheus.contains("# EOF"));
}

#[test]
fn every_row_is_rendered_once_and_in_order() {
    let text = render(&Facts::default(), TextFormat::OpenMetrics);
    let told: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let rows: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(told, rows);
}

#[test]
fn names_follow_the_rules_of_openmetrics() {
    for metric in METRICS {
        assert!(!metric.name.ends_with("_total"), "{}: the suffix is added", metric.name);
        if let Some(unit) = metric.unit {
            assert!(
                metric.name.ends_with(&format!("_{unit}")),
                "{}: ends with its unit",
                metric.name
            );
        }
        assert!(!metric.help.contains(['\n', '\\']), "{}: nothing to escape", metric.name);
    }
}

#[test]
fn the_page_in_docs_is_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    assert_file(path, &documentation());
}

/// That a file is as it should be; `UPDATE=1` makes it so.
fn assert_file(path: &str, want: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, want).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let first = found.lines().zip(want.lines()).find(|(found, want)| found != want);
    assert!(
        found == want,
        "{path} is not up to date, first at {first:?}; run UPDATE=1 cargo test -p ringway-control metrics"
    );
}

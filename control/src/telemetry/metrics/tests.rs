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
        resolutions: vec![
            (ResolutionLabels::default(), 1),
            (
                ResolutionLabels {
                    source: labels("-").source.clone(),
                    hostname: "db.example".into(),
                },
                2,
            ),
        ],
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
        unenforced: 3,
        certificates: vec![(
            "spiffe://cluster.local/ns/shop/sa/web".to_owned(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        )],
        authorities: vec![(
            "current".to_owned(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
        )],
        issued: Outcomes { ok: 1, failed: 0 },
        shard_seconds: vec![0.25],
        shards: vec![ShardFacts {
            tasks: 3,
            turns: 9,
            waits: 8,
            accepted: 7,
            ..ShardFacts::default()
        }],
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

/// What ztunnel tells, as Istio's boards and whoever watches node proxies ask for it: name, type, labels.
#[test]
fn all_that_ztunnel_tells_is_told() {
    const SOURCE: &str = "source_workload,source_canonical_service,source_canonical_revision,\
        source_workload_namespace,source_principal,source_app,source_version,source_cluster";
    const DESTINATION: &str = "destination_service,destination_service_namespace,\
        destination_service_name,destination_workload,destination_canonical_service,\
        destination_canonical_revision,destination_workload_namespace,destination_principal,\
        destination_app,destination_version,destination_cluster";
    const LAST: &str = "request_protocol,response_flags,connection_security_policy,source_region,\
        source_zone,destination_region,destination_zone";
    const DNS: &str = "request_query_type,request_protocol,source_canonical_service,\
        source_canonical_revision";
    let common = format!("reporter,{SOURCE},{DESTINATION},{LAST}");
    let on_demand = format!("{SOURCE},hostname");
    let rows = [
        ("istio_tcp_connections_opened_total", "counter", &*common),
        ("istio_tcp_connections_closed_total", "counter", &*common),
        ("istio_tcp_received_bytes_total", "counter", &*common),
        ("istio_tcp_sent_bytes_total", "counter", &*common),
        ("istio_tcp_connections_failed_total", "counter", &*common),
        ("istio_tcp_sockets_open", "gauge", "reporter"),
        ("istio_on_demand_dns_total", "counter", &*on_demand),
        ("istio_crl_policy_rejections_total", "counter", "reporter"),
        ("istio_crl_untracked_connections_total", "counter", "reporter"),
        ("istio_build", "gauge", "component,tag"),
        ("istio_dns_requests_total", "counter", DNS),
        ("istio_dns_upstream_requests_total", "counter", DNS),
        ("istio_dns_upstream_failures_total", "counter", DNS),
        ("istio_dns_upstream_request_duration_seconds", "histogram", DNS),
        ("istio_xds_connection_terminations_total", "counter", "reason"),
        ("istio_xds_message_total", "counter", "url"),
        ("istio_xds_message_bytes_total", "counter", "url"),
        ("workload_manager_active_proxy_count", "gauge", ""),
        ("workload_manager_pending_proxy_count", "gauge", ""),
        ("workload_manager_proxies_started_total", "counter", ""),
        ("workload_manager_proxies_stopped_total", "counter", ""),
        ("process_open_fds", "gauge", ""),
        ("process_max_fds", "gauge", ""),
        ("tokio_num_workers", "gauge", ""),
        ("tokio_global_queue_depth", "gauge", ""),
        ("tokio_num_alive_tasks", "gauge", ""),
        ("tokio_worker_total_busy_duration_seconds_total", "counter", "worker"),
        ("tokio_worker_park_count_total", "counter", "worker"),
        ("tokio_worker_park_unpark_count_total", "counter", "worker"),
    ];
    let text = render(&facts(), TextFormat::OpenMetrics);
    for (name, kind, labels) in rows {
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {family} {kind}\n")), "{family} is a {kind}");
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let told: Vec<_> = text.lines().filter_map(|line| names_of(line, &sample)).collect();
        assert!(!told.is_empty(), "{sample} is told");
        // The locality labels are left out where nobody is known.
        let longest = told.iter().max_by_key(|names| names.len()).unwrap();
        assert_eq!(longest.join(","), labels, "{name}");
    }
}

/// The names of the labels of a sample, if the line is one of this name.
fn names_of<'a>(line: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let rest = line.strip_prefix(name)?;
    if rest.starts_with(' ') {
        return Some(Vec::new());
    }
    let labels = rest.strip_prefix('{')?.rsplit_once('}')?.0;
    // No value of these facts has such a sequence in it.
    Some(labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0)).collect())
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

#[cfg(feature = "waypoint")]
mod requests {
    //! What a waypoint tells beside all that.

    use ringway_engine::telemetry::http::{
        BUCKETS, HistogramTotals, OutsideOutcome, OutsideService, RequestLabels, RequestProtocol,
        RequestTotals, ResponseFlag,
    };

    use super::*;
    use crate::telemetry::metrics::RequestFacts;
    use crate::telemetry::mirrors::Mirrors;
    use crate::telemetry::mirrors::tests::{compared, record};
    use crate::telemetry::traces::SpanCounts;

    fn told(protocol: RequestProtocol, code: u16, grpc_status: Option<u8>) -> RequestLabels {
        let mut traffic = TrafficLabels::clone(&labels("-"));
        traffic.reporter = Reporter::Waypoint;
        let flags = match code {
            504 => ResponseFlag::UpstreamRequestTimeout.into(),
            _ => Default::default(),
        };
        RequestLabels { traffic, protocol, code, grpc_status, flags }
    }

    fn facts() -> Facts {
        let mut duration = HistogramTotals::default();
        duration.counts[2] = 3;
        duration.counts[BUCKETS.len()] = 1;
        duration.sum = 3_700_007.5;
        let http = RequestTotals { requests: 4, duration, ..RequestTotals::default() };
        let grpc = RequestTotals {
            requests: 1,
            request_messages: 7,
            response_messages: 8,
            ..RequestTotals::default()
        };
        let mirrors = Mirrors::default();
        mirrors.count(record("shop/web.0", compared(503)));
        let requests = RequestFacts {
            requests: vec![
                (Arc::new(told(RequestProtocol::Grpc, 200, Some(14))), grpc),
                (Arc::new(told(RequestProtocol::Http, 504, None)), http),
            ],
            records_lost: 2,
            outside_calls: vec![(OutsideService::RateLimit, OutsideOutcome::FailedOpen, 4)],
            backend_tls_failures: vec![("untrusted", 3)],
            spans: SpanCounts { exported: 5, refused: 1, lost: 9 },
            mirrors: mirrors.all(),
            mirrors_lost: 3,
        };
        Facts { requests: Some(requests), ..super::facts() }
    }

    #[test]
    fn requests_are_told_as_istios_proxies_do() {
        let text = render(&facts(), TextFormat::Prometheus);
        let sample = |name: &str| {
            let mut found = text.lines().filter(|line| line.starts_with(name));
            found.next().unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
        };
        assert_eq!(
            sample("istio_requests_total{"),
            "istio_requests_total{reporter=\"waypoint\",source_workload=\"client\",\
             source_canonical_service=\"client-service\",source_canonical_revision=\"v1\",\
             source_workload_namespace=\"shop\",source_principal=\"spiffe://cluster.local/ns/shop/sa/client\",\
             source_app=\"client-app\",source_version=\"v1\",source_cluster=\"c1\",destination_workload=\"web\",\
             destination_workload_namespace=\"shop\",destination_principal=\"spiffe://cluster.local/ns/shop/sa/web\",\
             destination_app=\"web-app\",destination_version=\"v1\",destination_service=\"web.shop.svc\",\
             destination_canonical_service=\"web-service\",destination_canonical_revision=\"v1\",\
             destination_service_name=\"web\",destination_service_namespace=\"shop\",destination_cluster=\"c1\",\
             request_protocol=\"http\",response_code=\"504\",grpc_response_status=\"\",response_flags=\"UT\",\
             connection_security_policy=\"mutual_tls\"} 4"
        );
        let bucket = |end: &str| {
            let of = format!("le=\"{end}\"}}");
            let of = |line: &&str| {
                line.starts_with("istio_request_duration_milliseconds_bucket{")
                    && line.contains("response_code=\"504\"")
                    && line.contains(&of)
            };
            text.lines().find(of).unwrap().rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(
            [bucket("0.5"), bucket("5.0"), bucket("3600000.0"), bucket("+Inf")],
            ["0", "3", "3", "4"]
        );
        assert!(sample("istio_request_messages_total{").ends_with("} 7"));
        assert!(!text.contains(
            "istio_request_messages_total{reporter=\"waypoint\",request_protocol=\"http\""
        ));
        assert!(text.contains("grpc_response_status=\"14\""));
        assert!(text.contains("istio_build{component=\"proxy\""));
        assert!(text.contains("ringway_spans_total{outcome=\"lost\"} 9"));
        let copies = "{route=\"shop/web.0\",mirror=\"web-v2.example:80\",";
        for told in [
            format!("ringway_mirrored_requests_total{copies}outcome=\"different\"}} 1"),
            format!("ringway_mirror_differences_total{copies}in=\"status_class\"}} 1"),
            format!("ringway_mirror_differences_total{copies}in=\"body\"}} 0"),
            "ringway_mirror_records_lost_total 3".to_owned(),
        ] {
            assert!(text.contains(&told), "{told} in {text}");
        }
        let outside =
            "ringway_outside_calls_total{service=\"rate_limit\",outcome=\"failed_open\"} 4";
        assert!(text.contains(outside));
    }

    #[test]
    fn a_node_tells_nothing_of_requests() {
        assert!(!render(&super::facts(), TextFormat::Prometheus).contains("istio_requests"));
    }

    #[test]
    fn every_row_of_requests_is_rendered_once_and_in_order() {
        let text = render(&facts(), TextFormat::OpenMetrics);
        let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let told: Vec<_> = told.map(|line| line.split(' ').next().unwrap()).collect();
        let requests = crate::telemetry::metrics::requests::REQUEST_METRICS;
        let rows: Vec<_> = METRICS.iter().chain(requests).map(|metric| metric.name).collect();
        assert_eq!(told, rows);
    }
}

//! What Prometheus scrapes, and what the boards ask for.

use std::collections::BTreeSet;

use super::{documents, list, string, text};
use crate::source::NodeConfig;
use crate::telemetry::metrics::METRICS;

/// The metrics Istio's ztunnel board asks for, those of the container runtime aside.
const ZTUNNEL_BOARD: [&str; 12] = [
    "istio_build",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_dns_requests_total",
    "istio_xds_connection_terminations_total",
    "istio_xds_message_total",
    "workload_manager_active_proxy_count",
    "workload_manager_pending_proxy_count",
    "process_open_fds",
    "istio_tcp_sockets_open",
];

fn told() -> BTreeSet<String> {
    METRICS.iter().map(|metric| metric.sample_name()).collect()
}

#[test]
fn the_ztunnel_board_finds_its_metrics() {
    let told = told();
    for name in ZTUNNEL_BOARD {
        assert!(told.contains(name), "{name} is told by nobody");
    }
}

#[test]
fn the_scrape_has_the_labels_boards_select_by() {
    let scrape = &documents("prometheus/prometheus.yml")[0];
    let job = "scrape_configs.0";
    // The handler of the metrics port knows this path and `/metrics`.
    assert_eq!(string(scrape, &format!("{job}.metrics_path")), "/stats/prometheus");
    let port = NodeConfig::default().listen.metrics.unwrap().port();
    let targets = list(scrape, &format!("{job}.static_configs"));
    assert!(!targets.is_empty());
    for target in targets {
        let address = list(target, "targets")[0].text().unwrap();
        assert!(address.ends_with(&format!(":{port}")), "{address}");
        assert_eq!(string(target, "labels.app"), "ztunnel");
        assert!(string(target, "labels.pod").starts_with("ztunnel-"));
        assert_eq!(string(target, "labels.namespace"), "istio-system");
    }
}

#[test]
fn our_board_asks_for_metrics_and_labels_that_are_told() {
    let board: serde_json::Value = serde_json::from_str(&text("grafana/ringway.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let mut shown = BTreeSet::new();
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap();
        for name in names(expression) {
            assert!(told().contains(name), "{name} of {expression:?} is told by nobody");
            shown.insert(name.to_owned());
        }
        let by = expression.split("by (").skip(1).filter_map(|rest| rest.split_once(')'));
        for label in by.flat_map(|(labels, _)| labels.split(',').map(str::trim)) {
            let of =
                METRICS.iter().filter(|metric| names(expression).contains(&&*metric.sample_name()));
            // The scraper says which pod it is.
            let known =
                label == "pod" || of.into_iter().any(|metric| metric.labels.contains(&label));
            assert!(known, "{label} of {expression:?}");
        }
    }
    let ours: BTreeSet<_> =
        told().into_iter().filter(|name| name.starts_with("ringway_shard_")).collect();
    assert!(shown.is_superset(&ours), "{:?}", ours.difference(&shown).collect::<Vec<_>>());
    let places: BTreeSet<_> = panels.iter().map(|panel| panel["gridPos"].to_string()).collect();
    assert_eq!(places.len(), panels.len(), "two panels in one place");
}

/// The names of metrics in an expression.
fn names(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let prefixes = ["ringway_", "istio_", "process_", "workload_manager_"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect()
}

//! Who talks to whom, from the metrics of both hosts.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::observe::{Metrics, Sample};

/// Traffic from one identity to one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Edge {
    pub(super) connections: f64,
    pub(super) failed: f64,
    pub(super) request_bytes: f64,
    pub(super) response_bytes: f64,
}

/// From, to, and whether it goes through mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EdgeKey {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) mutual_tls: bool,
}

/// All edges that the proxies count.
#[derive(Clone, Debug, Default)]
pub(super) struct Edges(BTreeMap<EdgeKey, Edge>);

impl Edges {
    /// Adds what one host counts: what its workloads open, and what comes to them from outside.
    pub(super) fn add(&mut self, metrics: &Metrics) {
        type Field = fn(&mut Edge) -> &mut f64;
        let counters: [(&str, Field); 4] = [
            ("istio_tcp_connections_opened_total", |edge| &mut edge.connections),
            ("istio_tcp_connections_failed_total", |edge| &mut edge.failed),
            ("istio_tcp_received_bytes_total", |edge| &mut edge.request_bytes),
            ("istio_tcp_sent_bytes_total", |edge| &mut edge.response_bytes),
        ];
        for (name, field) in counters {
            let own = metrics.samples(name, &[("reporter", "source")]);
            let outside = [("reporter", "destination"), ("source_principal", "unknown")];
            for sample in own.chain(metrics.samples(name, &outside)) {
                *field(self.0.entry(key(sample)).or_default()) += sample.value;
            }
        }
    }

    /// The sum of all edges that `fit`.
    pub(super) fn sum(&self, fit: impl Fn(&EdgeKey) -> bool) -> Edge {
        let mut sum = Edge::default();
        for (_, edge) in self.0.iter().filter(|(key, _)| fit(key)) {
            sum.connections += edge.connections;
            sum.failed += edge.failed;
            sum.request_bytes += edge.request_bytes;
            sum.response_bytes += edge.response_bytes;
        }
        sum
    }

    /// The table, with the identities shortened by the trust domain they share.
    pub(super) fn render(&self) -> String {
        let mut text = format!(
            "  {:<38} {:<16} {:<11} {:>8} {:>7} {:>10} {:>10}\n",
            "FROM (spiffe://cluster.local/...)",
            "TO",
            "HOW",
            "OPENED",
            "FAILED",
            "REQUESTED",
            "ANSWERED"
        );
        for (key, edge) in &self.0 {
            let how = if key.mutual_tls { "mutual TLS" } else { "plain" };
            let from = key.from.strip_prefix("spiffe://cluster.local/").unwrap_or(&key.from);
            let _ = writeln!(
                text,
                "  {from:<38} {:<16} {how:<11} {:>8} {:>7} {:>10} {:>10}",
                key.to,
                edge.connections,
                edge.failed,
                size(edge.request_bytes),
                size(edge.response_bytes)
            );
        }
        text
    }
}

fn key(sample: &Sample) -> EdgeKey {
    let label = |name: &str| sample.labels.get(name).map_or("unknown", String::as_str);
    let from = match (label("source_principal"), label("source_workload")) {
        ("unknown", "unknown") => "(outside the mesh)",
        ("unknown", workload) => workload,
        (principal, _) => principal,
    };
    let to = match label("destination_workload") {
        "unknown" => "(outside)",
        workload => workload,
    };
    EdgeKey {
        from: from.to_owned(),
        to: to.to_owned(),
        mutual_tls: label("connection_security_policy") == "mutual_tls",
    }
}

fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 10_000.0 => format!("{bytes} B"),
        bytes if bytes < 10_000_000.0 => format!("{:.1} kB", bytes / 1e3),
        bytes => format!("{:.1} MB", bytes / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_add_up_over_flags_and_hosts() {
        let line = |reporter: &str, flags: &str, value: u32| {
            format!(
                "istio_tcp_connections_opened_total{{reporter=\"{reporter}\",\
                 source_principal=\"spiffe://cluster.local/ns/a/sa/b\",source_workload=\"b\",\
                 destination_workload=\"c\",response_flags=\"{flags}\",\
                 connection_security_policy=\"mutual_tls\"}} {value}\n"
            )
        };
        let mut edges = Edges::default();
        edges.add(&Metrics::parse(&(line("source", "-", 3) + &line("source", "DENY", 1))));
        // The other end of the same connections counts nothing twice.
        edges.add(&Metrics::parse(&line("destination", "-", 4)));
        assert_eq!(edges.sum(|key| key.mutual_tls && key.to == "c").connections, 4.0);
        assert!(edges.render().contains("ns/a/sa/b"));
    }
}

//! The span of a request: Istio's tags, by which Kiali and its queries find it, and beside them OpenTelemetry's names.

use std::net::SocketAddr;
use std::time::SystemTime;

use ringway_engine::snapshot::Workload;
use ringway_engine::telemetry::RecordParty;
use ringway_engine::telemetry::http::RequestRecord;

use crate::proto::trace::any_value::Value;
use crate::proto::trace::{AnyValue, KeyValue, Span, SpanKind, Status, StatusCode};
use crate::telemetry::access_log::canonical;

/// Text of a request is not longer in a span.
const TEXT_BYTES_MAX: usize = 1024;

/// Who sends spans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `name.namespace` of the waypoint.
    pub service_name: String,
    /// `waypoint~address~name.namespace~namespace.svc.domain`
    pub node_id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its Gateway.
    pub name: String,
    /// The cluster.
    pub cluster: String,
    /// The mesh: its trust domain.
    pub mesh: String,
    /// The host.
    pub hostname: String,
    /// Our version.
    pub version: String,
}

/// The span of `record`; none where it is not to be traced.
pub(super) fn of(record: &RequestRecord, origin: &Origin) -> Option<Span> {
    let trace = record.trace.filter(|trace| trace.sampled)?;
    let began = nanoseconds(record.started_at);
    let lasted = u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX);
    // Only what is the server's fault is an error of a server's span.
    let failed = record.code >= 500 || record.code == 0;
    let status = failed.then(|| Status {
        message: record.details.clone().into_owned(),
        code: StatusCode::Error as i32,
    });
    Some(Span {
        trace_id: trace.trace_id.to_vec(),
        span_id: trace.span_id.to_vec(),
        parent_span_id: trace.parent_id.map(Vec::from).unwrap_or_default(),
        name: operation(record),
        kind: SpanKind::Server as i32,
        start_time_unix_nano: began,
        end_time_unix_nano: began.saturating_add(lasted),
        attributes: attributes(record, origin),
        status,
    })
}

/// `host:port/*`, as Istio names operations: paths would make too many.
fn operation(record: &RequestRecord) -> String {
    let port = record.downstream_local.port();
    match (&record.service, &record.authority) {
        (Some(service), _) => format!("{}:{port}/*", service.hostname()),
        (None, Some(authority)) => format!("{authority}/*"),
        (None, None) => format!("{}/*", canonical(record.downstream_local)),
    }
}

fn attributes(record: &RequestRecord, origin: &Origin) -> Vec<KeyValue> {
    let mut told = Told(Vec::with_capacity(40));
    let path = record.original_path.as_ref().unwrap_or(&record.path);
    let authority = record.authority.as_deref().unwrap_or_default();
    told.text("component", "proxy");
    told.text("node_id", &origin.node_id);
    told.text("hostname", &origin.hostname);
    told.text("http.method", record.method.as_str());
    told.text("http.url", &format!("http://{authority}{path}"));
    told.text("http.protocol", record.protocol);
    told.text("http.status_code", &record.code.to_string());
    told.text("response_flags", &record.flags.to_string());
    told.text("request_size", &record.received_bytes.to_string());
    told.text("response_size", &record.sent_bytes.to_string());
    told.text("user_agent", record.user_agent.as_deref().unwrap_or_default());
    told.text("guid:x-request-id", record.request_id.as_deref().unwrap_or_default());
    told.text("downstream_cluster", "-");
    told.text("peer.address", &address(record.source.address));
    if let Some(upstream) = &record.upstream {
        told.text("upstream_cluster", &upstream.cluster);
        told.text("upstream_cluster.name", &upstream.cluster);
        told.text("upstream_address", &canonical(upstream.host).to_string());
    }
    if let Some(status) = record.grpc_status {
        told.text("grpc.status_code", &status.to_string());
    }
    told.text("istio.mesh_id", &origin.mesh);
    told.text("istio.cluster_id", &origin.cluster);
    told.text("istio.namespace", &origin.namespace);
    told.text("istio.canonical_service", &origin.name);
    told.party("source", Some(&record.source));
    told.party("destination", record.destination.as_ref());
    // OpenTelemetry's names of the same.
    told.text("http.request.method", record.method.as_str());
    told.number("http.response.status_code", record.code.into());
    told.text("url.path", path.split('?').next().unwrap_or_default());
    told.text("url.query", path.split_once('?').map_or("", |(_, query)| query));
    told.text("server.address", authority);
    told.text("client.address", &record.source.address.ip().to_canonical().to_string());
    told.text("user_agent.original", record.user_agent.as_deref().unwrap_or_default());
    told.text("http.route", record.route.as_deref().unwrap_or_default());
    if let Some(id) = record.tunnel_trace_id {
        told.text("ringway.tunnel_trace_id", &format!("{:032x}", u128::from_be_bytes(id)));
    }
    told.0
}

struct Told(Vec<KeyValue>);

impl Told {
    /// What is empty is left out.
    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            let shown = crate::telemetry::log::prefix(value, TEXT_BYTES_MAX).to_owned();
            self.push(key, Value::StringValue(shown));
        }
    }

    fn number(&mut self, key: &str, value: i64) {
        self.push(key, Value::IntValue(value));
    }

    fn push(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) });
    }

    fn party(&mut self, side: &str, party: Option<&RecordParty>) {
        let Some(party) = party else { return };
        if let Some(workload) = party.workload.as_deref() {
            self.workload(side, workload);
        }
        if let Some(identity) = &party.identity {
            self.text(&format!("istio.{side}_principal"), &identity.to_string());
        }
    }

    fn workload(&mut self, side: &str, workload: &Workload) {
        let rows: [(&str, &str); 6] = [
            ("workload", workload.workload_name()),
            ("namespace", workload.namespace()),
            ("instance_name", workload.name()),
            ("canonical_service", workload.canonical_name()),
            ("canonical_revision", workload.canonical_revision()),
            ("cluster_id", workload.cluster()),
        ];
        for (what, value) in rows {
            self.text(&format!("istio.{side}_{what}"), value);
        }
    }
}

/// Attributes of whoever sends.
pub(super) fn resource(origin: &Origin, given: &[(String, String)]) -> Vec<KeyValue> {
    let mut told = Told(Vec::new());
    let ours = [
        ("service.name", origin.service_name.as_str()),
        ("service.namespace", &origin.namespace),
        ("k8s.namespace.name", &origin.namespace),
        ("k8s.cluster.name", &origin.cluster),
        ("host.name", &origin.hostname),
        ("telemetry.sdk.name", "ringway"),
        ("telemetry.sdk.version", &origin.version),
    ];
    // What an operator says wins.
    let is_given = |key: &str| given.iter().any(|(given, _)| given == key);
    for (key, value) in ours.into_iter().filter(|(key, _)| !is_given(key)) {
        told.text(key, value);
    }
    given.iter().for_each(|(key, value)| told.text(key, value));
    told.0
}

fn address(address: SocketAddr) -> String {
    canonical(address).ip().to_string()
}

fn nanoseconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

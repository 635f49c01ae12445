//! Spans of records, what the variables say, and collectors that behave and that do not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use super::options::TraceFlags;
use super::*;
use crate::grpc::fake::{Answer, Call, Server, run};
use crate::proto::trace::any_value::Value;
use crate::proto::trace::{ExportTraceServiceRequest, ExportTraceServiceResponse, StatusCode};
use crate::telemetry::requests::tests::record;

fn origin() -> Origin {
    Origin {
        service_name: "waypoint.default".to_owned(),
        node_id: "waypoint~10.0.0.9~waypoint.default~default.svc.cluster.local".to_owned(),
        namespace: "default".to_owned(),
        name: "waypoint".to_owned(),
        cluster: "c1".to_owned(),
        mesh: "cluster.local".to_owned(),
        hostname: "host-a".to_owned(),
        version: "0.1.0".to_owned(),
    }
}

fn texts(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::IntValue(number) => number.to_string(),
    };
    let attribute = |one: &'_ crate::proto::trace::KeyValue| {
        text(one.value.as_ref().unwrap().value.as_ref().unwrap())
    };
    span.attributes.iter().map(|one| (one.key.as_str(), attribute(one))).collect()
}

#[test]
fn a_span_has_istios_tags() {
    let span = span::of(&record(), &origin()).unwrap();
    assert_eq!(span.name, "reviews.example:9080/*");
    assert_eq!((span.trace_id.len(), span.span_id.len(), span.parent_span_id.len()), (16, 8, 8));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 15_700_000);
    assert_eq!(span.status, None);
    let tags = texts(&span);
    #[rustfmt::skip]
    let rows = [
        ("component",                          "proxy"),
        ("node_id",                            "waypoint~10.0.0.9~waypoint.default~default.svc.cluster.local"),
        ("http.method",                        "GET"),
        ("http.url",                           "http://reviews:9080/api/reviews/7?full=1"),
        ("http.status_code",                   "200"),
        ("response_flags",                     "-"),
        ("peer.address",                       "10.0.0.2"),
        ("upstream_cluster",                   "outbound|9080||reviews.example"),
        ("guid:x-request-id",                  "f81d4fae-7dec-41d0-a765-00a0c91e6bf6"),
        ("istio.source_workload",              "productpage"),
        ("istio.source_namespace",             "default"),
        ("istio.source_instance_name",         "productpage-0"),
        ("istio.destination_canonical_service", "reviews"),
        ("istio.destination_cluster_id",       "c1"),
        ("istio.source_principal",             "spiffe://cluster.local/ns/default/sa/productpage"),
        ("http.response.status_code",          "200"),
        ("url.path",                           "/api/reviews/7"),
        ("url.query",                          "full=1"),
    ];
    for (key, want) in rows {
        assert_eq!(tags.get(key).map(String::as_str), Some(want), "{key}");
    }
    assert_eq!(tags["ringway.tunnel_trace_id"], "ab".repeat(16));
}

#[test]
fn only_what_is_sampled_is_sent_and_only_the_servers_fault_is_an_error() {
    let mut unsampled = record();
    unsampled.trace.as_mut().unwrap().sampled = false;
    assert_eq!(span::of(&unsampled, &origin()), None);
    unsampled.trace = None;
    assert_eq!(span::of(&unsampled, &origin()), None);
    for (code, failed) in [(200, false), (404, false), (503, true), (0, true)] {
        let mut answered = record();
        answered.code = code;
        let status = span::of(&answered, &origin()).unwrap().status;
        assert_eq!(
            status.is_some_and(|one| one.code == StatusCode::Error as i32),
            failed,
            "{code}"
        );
    }
}

fn read(flags: TraceFlags, variables: &[(&str, &str)]) -> Result<Option<TraceOptions>, TraceError> {
    TraceOptions::read(&flags, |name| {
        variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn variables_say_what_they_say_everywhere() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    assert_eq!(read(TraceFlags::default(), &[]).unwrap(), None);
    assert_eq!(read(TraceFlags::default(), &[(ENDPOINT, "")]).unwrap(), None);
    for off in [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")] {
        assert_eq!(read(TraceFlags::default(), &[(ENDPOINT, "http://c:4317"), off]).unwrap(), None);
    }
    let plain = read(TraceFlags::default(), &[(ENDPOINT, "http://c:4317")]).unwrap().unwrap();
    assert_eq!((plain.protocol, plain.share), (Protocol::Grpc, 10_000));
    assert_eq!(plain.endpoint.to_string(), "http://c:4317");

    let http = read(
        TraceFlags::default(),
        &[
            (ENDPOINT, "http://c:4318/otlp/"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20abc, x-tenant = a"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,team=a%2Cb"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ],
    );
    let http = http.unwrap().unwrap();
    assert_eq!(
        (http.protocol, &*http.path, http.share),
        (Protocol::Http, "/otlp/v1/traces", 250_000)
    );
    let headers: Vec<_> =
        http.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("authorization", "Basic abc"), ("x-tenant", "a")]);
    assert_eq!(http.service_name.as_deref(), Some("edge"));
    assert_eq!(http.resource[1], ("team".to_owned(), "a,b".to_owned()));

    let whole =
        [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/in"), (ENDPOINT, "http://other")];
    assert_eq!(read(TraceFlags::default(), &whole).unwrap().unwrap().path, "/in");

    let flags = TraceFlags {
        endpoint: Some("http://mine:4318".to_owned()),
        protocol: Some(Protocol::Http),
        share: Some(1.0),
    };
    let flagged = read(flags, &[(ENDPOINT, "http://c:4317"), ("OTEL_SDK_DISABLED", "true")]);
    let flagged = flagged.unwrap().unwrap();
    assert_eq!(
        (flagged.endpoint.to_string(), flagged.share),
        ("http://mine:4318".to_owned(), 1_000_000)
    );
    assert_eq!(flagged.path, "/v1/traces");
}

#[test]
fn what_means_nothing_is_refused_and_secrets_are_not_repeated() {
    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
    #[rustfmt::skip]
    let rows: [(&[(&str, &str)], &str); 6] = [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c")],          "neither `https` nor `http`"),
        (&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], "use grpc or http/protobuf"),
        (&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", "secret")],  "write name=value"),
        (&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", "a b=1")],   "it is no header"),
        (&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "jaeger_remote")],  "traceidratio"),
        (&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")], "from 0 to 1"),
    ];
    for (variables, want) in rows {
        let error = read(TraceFlags::default(), variables).expect_err(want).to_string();
        assert!(error.contains(want), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Takes the spans of tenant `a`, but for one of each batch.
fn taker(batches: Rc<RefCell<Vec<ExportTraceServiceRequest>>>) -> impl Fn(Call) -> Answer {
    move |call| {
        assert_eq!(call.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        if call.headers.get("x-tenant").is_none_or(|tenant| tenant != "a") {
            return Answer::Status(tonic::Code::Unauthenticated, "whose is it?");
        }
        let batch = ExportTraceServiceRequest::decode(&*call.message).unwrap();
        batches.borrow_mut().push(batch);
        let partial = crate::proto::trace::ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "one is too old".to_owned(),
        };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
        Answer::Message(answer.encode_to_vec())
    }
}

fn options(protocol: Protocol, port: u16, tenant: &str) -> TraceOptions {
    let flags = TraceFlags {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        protocol: Some(protocol),
        share: Some(1.0),
    };
    let headers = format!("x-tenant={tenant}");
    read(flags, &[("OTEL_EXPORTER_OTLP_HEADERS", &headers)]).unwrap().unwrap()
}

/// Sends `spans` spans and waits until all of them have had their outcome.
async fn sent(options: TraceOptions, spans: usize) -> SpanCounts {
    let mut exporter = Exporter::start(options, origin());
    for _ in 0..spans {
        exporter.offer(&record());
    }
    let counts = exporter.teller();
    exporter.flush().await;
    counts()
}

#[test]
fn a_collector_that_speaks_grpc() {
    run(async {
        let batches = Rc::new(RefCell::new(Vec::new()));
        let server = Server::start(None, 0, taker(Rc::clone(&batches))).await;
        let port = server.address.port();
        let counts = sent(options(Protocol::Grpc, port, "a"), 600).await;
        // Two batches, and of each the collector wants one less.
        assert_eq!(counts, SpanCounts { exported: 598, refused: 2, lost: 0 });
        let requests = batches.take();
        let sizes: Vec<_> =
            requests.iter().map(|one| one.resource_spans[0].scope_spans[0].spans.len()).collect();
        assert_eq!(sizes, [512, 88]);
        let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
        assert_eq!(resource.attributes[0].key, "service.name");
        let counts = sent(options(Protocol::Grpc, port, "b"), 3).await;
        assert_eq!(counts, SpanCounts { exported: 0, refused: 3, lost: 0 });
    });
}

/// Answers each request on a connection with the next of `answers`, and tells their heads.
async fn http_collector(listener: TcpListener, answers: &'static [&'static str]) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut stream, _) = listener.accept().await.unwrap();
    for answer in answers {
        let mut received = Vec::new();
        let body = loop {
            stream.read_buf(&mut received).await.unwrap();
            if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8(received[..body].to_vec()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length: usize = length.parse().unwrap();
        while received.len() < body + length {
            stream.read_buf(&mut received).await.unwrap();
        }
        heads.push(head);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    heads
}

#[test]
fn a_collector_that_speaks_http() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let collector = spawn_local(http_collector(
            listener,
            &[
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            ],
        ));
        let counts = sent(options(Protocol::Http, port, "a"), 513).await;
        assert_eq!(counts, SpanCounts { exported: 512, refused: 1, lost: 0 });
        let heads = collector.await.unwrap();
        assert!(heads[0].starts_with("post /v1/traces http/1.1\r\n"), "{}", heads[0]);
        assert!(heads[0].contains("content-type: application/x-protobuf\r\n"));
        assert!(heads[0].contains("x-tenant: a\r\n"));
    });
}

#[test]
fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        for protocol in [Protocol::Grpc, Protocol::Http] {
            // More than may wait: what finds no room is lost at once, and `offer` never waits.
            let sent = sent(options(protocol, port, "a"), WAITING_MAX + 100).await;
            assert_eq!(sent.exported + sent.refused, 0);
            assert_eq!(sent.lost, WAITING_MAX as u64 + 100);
        }
    });
}

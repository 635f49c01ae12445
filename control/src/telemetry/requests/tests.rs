//! What a line says, and that nothing a client sends changes its shape.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_engine::snapshot::{
    Interner, NamespacedHostname, Service, TunnelProtocol, Workload, WorkloadDescription,
};
use ringway_engine::telemetry::RecordParty;
use ringway_engine::telemetry::http::{
    RequestProtocol, RequestRecord, ResponseFlag, ResponseFlags, TraceContext, UpstreamRecord,
};
use ringway_protocols::identity::Identity;

use super::*;

fn workload(name: &str) -> Option<Arc<Workload>> {
    let description = WorkloadDescription {
        uid: format!("c1//Pod/default/{name}-0"),
        name: format!("{name}-0"),
        namespace: "default".to_owned(),
        service_account: name.to_owned(),
        workload_name: name.to_owned(),
        canonical_name: name.to_owned(),
        cluster: "c1".to_owned(),
        protocol: TunnelProtocol::Hbone,
        ..WorkloadDescription::default()
    };
    Some(Arc::new(Interner::default().workload(description).unwrap()))
}

/// A request from `productpage` to `reviews`.
pub(crate) fn record() -> RequestRecord {
    let party = |name: &str, address: &str| RecordParty {
        address: address.parse().unwrap(),
        workload: workload(name),
        identity: Identity::new("cluster.local", "default", name).ok(),
        claims: None,
    };
    let mut service = Service::new(NamespacedHostname::new("default", "reviews.example"));
    service.name = "reviews".into();
    RequestRecord {
        started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_016),
        duration: Duration::from_micros(15_700),
        request_duration: Some(Duration::from_millis(1)),
        response_duration: Some(Duration::from_millis(14)),
        upstream_service_time: Some(Duration::from_millis(13)),
        method: hyper::Method::GET,
        path: "/reviews/7?full=1".into(),
        original_path: Some("/api/reviews/7?full=1".into()),
        authority: Some("reviews:9080".into()),
        protocol: "HTTP/1.1",
        user_agent: Some("curl/8".into()),
        request_id: Some("f81d4fae-7dec-41d0-a765-00a0c91e6bf6".into()),
        forwarded_for: None,
        code: 200,
        flags: ResponseFlags::default(),
        details: Cow::Borrowed("via_upstream"),
        connection_termination: None,
        upstream_failure: None,
        received_bytes: 3,
        sent_bytes: 84,
        request_head_bytes: 120,
        response_head_bytes: 90,
        upstream: Some(UpstreamRecord {
            host: "10.0.0.3:9080".parse().unwrap(),
            cluster: "outbound|9080||reviews.example".into(),
            local: Some("10.0.0.9:51000".parse().unwrap()),
            tunnel_trace_id: Some([0xcd; 16]),
        }),
        retries: 1,
        downstream_local: "10.96.0.7:9080".parse().unwrap(),
        source: party("productpage", "[::ffff:10.0.0.2]:40000"),
        destination: Some(party("reviews", "10.0.0.3:9080")),
        service: Some(Arc::new(service)),
        server_name: None,
        route: Some("default/reviews/0".into()),
        mutual_tls: true,
        request_protocol: RequestProtocol::Http,
        grpc_status: None,
        request_messages: 0,
        response_messages: 0,
        trace: Some(TraceContext {
            trace_id: [0x4b; 16],
            span_id: [2; 8],
            parent_id: Some([3; 8]),
            sampled: true,
        }),
        tunnel_trace_id: Some([0xab; 16]),
    }
}

fn rendered(template: &str, record: &RequestRecord) -> String {
    template.parse::<Template>().unwrap_or_else(|error| panic!("{error}")).render(record)
}

#[test]
fn istios_line() {
    let RequestLog::Text(template) = "istio".parse().unwrap() else { panic!("it is text") };
    assert_eq!(
        template.render(&record()),
        "[2023-11-14T22:13:20.016Z] \"GET /api/reviews/7?full=1 HTTP/1.1\" 200 - via_upstream - \"-\" 3 84 15 13 \
         \"-\" \"curl/8\" \"f81d4fae-7dec-41d0-a765-00a0c91e6bf6\" \"reviews:9080\" \"10.0.0.3:9080\" \
         outbound|9080||reviews.example 10.0.0.9:51000 10.96.0.7:9080 10.0.0.2:40000 - default/reviews/0"
    );
    let RequestLog::Text(own) = RequestLog::default() else { panic!("it is text") };
    let (tunnel, upstream) = ("ab".repeat(16), "cd".repeat(16));
    let want = format!("{} {tunnel} {upstream}", template.render(&record()));
    assert_eq!(own.render(&record()), want);
}

#[test]
fn a_request_that_got_nowhere() {
    let denied = RequestRecord {
        code: 403,
        details: "rbac_access_denied_matched_policy[ns[default]-policy[no]-rule[0]]".into(),
        upstream: None,
        original_path: None,
        upstream_service_time: None,
        route: None,
        ..record()
    };
    let line = rendered(
        "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %UPSTREAM_HOST% %ROUTE_NAME% \
        %REQ(X-ENVOY-ORIGINAL-PATH)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        &denied,
    );
    assert_eq!(
        line,
        "403 rbac_access_denied_matched_policy[ns[default]-policy[no]-rule[0]] - - - /reviews/7?full=1 0"
    );
    let unreachable = RequestRecord {
        code: 503,
        flags: ResponseFlags::from(ResponseFlag::UpstreamConnectionFailure),
        ..record()
    };
    assert_eq!(rendered("%RESPONSE_FLAGS%", &unreachable), "UF");
}

#[test]
fn json_has_istios_keys_in_order_and_ours_behind_them() {
    let text = json(&record());
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(text.starts_with(r#"{"start_time":"2023-11-14T22:13:20.016Z","route_name":"default/reviews/0","method":"GET""#));
    assert_eq!(parsed["response_code"], 200);
    assert_eq!(parsed["duration"], 15);
    assert_eq!(parsed["upstream_service_time"], "13");
    assert_eq!(parsed["requested_server_name"], serde_json::Value::Null);
    assert_eq!(parsed["trace_id"], "4b".repeat(16));
    assert_eq!(parsed["tunnel_trace_id"], "ab".repeat(16));
    assert_eq!(parsed["upstream_tunnel_trace_id"], "cd".repeat(16));
    assert_eq!(parsed.as_object().unwrap().len(), KEYS.len() + 2);
}

#[test]
fn operators_and_what_they_give() {
    #[rustfmt::skip]
    let rows = [
        ("%START_TIME(%s.%3f)%",                       "1700000000.016"),
        ("%START_TIME(%F %T %Y/%m/%d %H:%M:%S %6f %%)%", "2023-11-14 22:13:20 2023/11/14 22:13:20 016000 %"),
        ("%REQ(:METHOD):2%",                           "GE"),
        ("%REQ(:path)%",                               "/reviews/7?full=1"),
        ("%REQ_WITHOUT_QUERY(:PATH)%",                 "/reviews/7"),
        ("%REQ(Host)%",                                "reviews:9080"),
        ("%RESP(:STATUS)%",                            "200"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",   "10.0.0.2"),
        ("%DOWNSTREAM_REMOTE_PORT%",                   "40000"),
        ("%DOWNSTREAM_LOCAL_PORT%",                    "9080"),
        ("%DOWNSTREAM_PEER_URI_SAN%",                  "spiffe://cluster.local/ns/default/sa/productpage"),
        ("%UPSTREAM_PEER_URI_SAN%",                    "spiffe://cluster.local/ns/default/sa/reviews"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%",           "2"),
        ("%REQUEST_HEADERS_BYTES%/%RESPONSE_HEADERS_BYTES%", "120/90"),
        ("%REQUEST_DURATION% %RESPONSE_DURATION%",     "1 14"),
        ("%DYNAMIC_METADATA(envoy.lb:x)% %FILTER_STATE(a)% %CEL(request.id)%", "- - -"),
        ("%ENVIRONMENT(NOBODY_SETS_THIS)%",            "-"),
        ("%TRACE_ID:4%",                               "4b4b"),
        ("100%%",                                      "100%"),
        ("no operator, %% only\n",                     "no operator, % only"),
    ];
    for (template, want) in rows {
        assert_eq!(rendered(template, &record()), want, "{template}");
    }
    assert_ne!(rendered("%HOSTNAME%", &record()), "-");
}

#[test]
fn a_template_that_means_nothing_is_refused_with_what_to_do() {
    #[rustfmt::skip]
    let rows = [
        ("fancy",              "use text, istio, json, off, or a template"),
        ("%NONSENSE%",         "there is no operator %NONSENSE%"),
        ("%REQ%",              "%REQ(X)%"),
        ("%REQ(X-SECRET)%",    "the header \"X-SECRET\" is not kept"),
        ("%REQ(:PATH?HOST)%",  "X-ENVOY-ORIGINAL-PATH?:PATH can"),
        ("%START_TIME(%q)%",   "%3f, %6f or %9f"),
        ("%PROTOCOL",          "a % without a second one"),
        ("%REQ(:PATH",         "a % without a second one"),
        ("%PROTOCOL:x%",       "no number of characters"),
        ("99% of it",          "a % without a second one"),
    ];
    for (template, want) in rows {
        let error = template.parse::<RequestLog>().expect_err(template).to_string();
        assert!(error.contains(want), "{template}: {error}");
    }
}

#[test]
fn forms_are_told_as_they_were_given() {
    for form in ["off", "text", "istio", "json", "%RESPONSE_CODE% %DURATION%"] {
        assert_eq!(form.parse::<RequestLog>().unwrap().to_string(), form);
    }
}

#[test]
fn what_a_client_sends_stays_within_its_quotes_and_its_line() {
    let hostile = RequestRecord {
        user_agent: Some("a\" 200 - \"\n[2099-01-01] \"GET / HTTP/1.1\"\u{2028}\t".into()),
        path: "/".repeat(100_000).into(),
        original_path: None,
        ..record()
    };
    let RequestLog::Text(template) = RequestLog::default() else { panic!("it is text") };
    let line = template.render(&hostile);
    assert!(line.contains(r#""a\" 200 - \"\u{a}[2099-01-01] \"GET"#), "{line}");
    assert!(!line.contains(['\n', '\t', '\u{2028}']));
    assert!(line.len() < 4096, "{}", line.len());
    let parsed: serde_json::Value = serde_json::from_str(&json(&hostile)).unwrap();
    assert_eq!(parsed["user_agent"], hostile.user_agent.as_deref().unwrap());
    assert!(json(&hostile).len() < 4096);
}

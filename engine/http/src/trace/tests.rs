//! Dialects in, dialects out.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const ALWAYS: Tracing = Tracing::Spans { share: WHOLE };
const NEVER: Tracing = Tracing::Spans { share: 0 };

/// Headers as they are written in a table.
type Given<'a> = &'a [(&'static str, &'a str)];

fn headers(given: Given<'_>) -> HeaderMap {
    let header = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    given.iter().map(header).collect()
}

/// Counts up, so that ids can be foretold.
fn counting() -> impl FnMut() -> u64 {
    let mut last = 0;
    move || {
        last += 1;
        last
    }
}

fn shown(headers: &HeaderMap) -> String {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines.join("\n")
}

fn after(given: Given<'_>, tracing: Tracing) -> (Option<Span>, String) {
    let mut headers = headers(given);
    let span = proceed(&mut headers, tracing, counting());
    (span, shown(&headers))
}

#[test]
fn each_dialect_is_answered_in_itself() {
    let w3c = format!("00-{TRACE}-{PARENT}-01");
    let one = format!("{TRACE}-{PARENT}-1-05e3ac9a4f6e3b90");
    #[rustfmt::skip]
    let rows: &[(&str, Given<'_>, &str)] = &[
        ("nothing begins a trace in W3C's", &[],
         "traceparent: 00-00000000000000020000000000000003-0000000000000004-01"),
        ("W3C", &[("traceparent", &w3c), ("tracestate", "vendor=1")],
         &format!("traceparent: 00-{TRACE}-0000000000000001-01\ntracestate: vendor=1")),
        ("B3 in one", &[("b3", &one)],
         &format!("b3: {TRACE}-0000000000000001-1-{PARENT}")),
        ("B3 in several", &[("x-b3-traceid", TRACE), ("x-b3-spanid", PARENT), ("x-b3-sampled", "1")],
         &format!("x-b3-parentspanid: {PARENT}\nx-b3-sampled: 1\nx-b3-spanid: 0000000000000001\nx-b3-traceid: {TRACE}")),
        ("a short trace id is filled up", &[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-0")],
         &format!("b3: 0000000000000000a3ce929d0e0e4736-0000000000000001-0-{PARENT}")),
        ("debug stays debug", &[("x-b3-traceid", TRACE), ("x-b3-spanid", PARENT), ("x-b3-flags", "1")],
         &format!("x-b3-flags: 1\nx-b3-parentspanid: {PARENT}\nx-b3-spanid: 0000000000000001\nx-b3-traceid: {TRACE}")),
        ("both, and W3C's is believed", &[("traceparent", &w3c), ("b3", "a3ce929d0e0e4736-05e3ac9a4f6e3b90-0")],
         &format!("b3: {TRACE}-0000000000000001-1-{PARENT}\ntraceparent: 00-{TRACE}-0000000000000001-01")),
        ("baggage is not ours", &[("baggage", "user=7"), ("traceparent", &w3c)],
         &format!("baggage: user=7\ntraceparent: 00-{TRACE}-0000000000000001-01")),
    ];
    for (name, given, want) in rows {
        assert_eq!(after(given, ALWAYS).1, *want, "{name}");
    }
}

#[test]
fn who_begins_a_trace_decides_whether_it_is_exported() {
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let dropped = format!("00-{TRACE}-{PARENT}-00");
    #[rustfmt::skip]
    let rows: &[(&str, Given<'_>, Tracing, bool)] = &[
        ("sampled by the client",       &[("traceparent", &sampled)],                      NEVER,  true),
        ("dropped by the client",       &[("traceparent", &dropped)],                      ALWAYS, false),
        ("begun here",                  &[],                                               ALWAYS, true),
        ("begun here, and not chosen",  &[],                                               NEVER,  false),
        ("forced",                      &[("x-envoy-force-trace", "1")],                   NEVER,  true),
        ("not against the client",      &[("x-envoy-force-trace", "1"), ("traceparent", &dropped)], ALWAYS, false),
        ("b3 says only: trace",         &[("b3", "1")],                                    NEVER,  true),
        ("b3 says only: do not",        &[("b3", "0")],                                    ALWAYS, false),
        ("b3 says debug",               &[("b3", "d")],                                    NEVER,  true),
        ("several say only: trace",     &[("x-b3-sampled", "true")],                       NEVER,  true),
        ("b3 leaves it to us",          &[("b3", &format!("{TRACE}-{PARENT}"))],           NEVER,  false),
    ];
    for (name, given, tracing, want) in rows {
        assert_eq!(after(given, *tracing).0.unwrap().sampled, *want, "{name}");
    }
}

#[test]
fn the_share_of_those_that_begin_here_is_kept() {
    let mut state = 7_u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    };
    let tracing = Tracing::Spans { share: WHOLE / 10 };
    let spans = (0..10_000).map(|_| proceed(&mut HeaderMap::new(), tracing, &mut random).unwrap());
    let sampled = spans.filter(|span| span.sampled).count();
    assert!((800..1200).contains(&sampled), "{sampled} of 10000");
}

#[test]
fn what_cannot_be_read_begins_anew() {
    let long = format!("00-{TRACE}-{PARENT}-01-more");
    let zeros = format!("00-{}-{PARENT}-01", "0".repeat(32));
    let version = format!("ff-{TRACE}-{PARENT}-01");
    let short = format!("00-{TRACE}-{PARENT}-0");
    for value in [&long, &zeros, &version, &short, "", "00-x"] {
        let (span, headers) = after(&[("traceparent", value), ("tracestate", "vendor=1")], ALWAYS);
        assert_eq!(span.unwrap().parent_id, None, "{value}");
        assert!(!headers.contains("tracestate"), "{value}: its notes were about another trace");
    }
    let (span, _) = after(&[("b3", "4bf92f-00f067aa0ba902b7-1")], ALWAYS);
    assert_eq!(span.unwrap().parent_id, None);
    let later = format!("01-{TRACE}-{PARENT}-01-more");
    let (span, _) = after(&[("traceparent", &later)], ALWAYS);
    assert!(span.unwrap().parent_id.is_some(), "a later version may say more");
    let mut twice = headers(&[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))]);
    twice.append("traceparent", HeaderValue::from_static("00"));
    assert_eq!(proceed(&mut twice, ALWAYS, counting()).unwrap().parent_id, None);
}

#[test]
fn without_tracing_everything_passes_and_the_log_still_knows_the_trace() {
    let w3c = format!("00-{TRACE}-{PARENT}-01");
    let (span, headers) = after(&[("traceparent", &w3c), ("tracestate", "a=b")], Tracing::Pass);
    assert_eq!(headers, format!("traceparent: {w3c}\ntracestate: a=b"));
    let span = span.unwrap();
    assert_eq!(hexadecimal::write(&span.trace_id), TRACE);
    assert!(!span.sampled);
    assert_eq!(after(&[], Tracing::Pass), (None, String::new()));
}

#[test]
fn a_request_keeps_its_id_or_gets_one() {
    let mut given = headers(&[("x-request-id", "abc")]);
    assert_eq!(ensure_request_id(&mut given, counting()), "abc");
    let mut none = HeaderMap::new();
    let id = ensure_request_id(&mut none, counting());
    assert_eq!(id, "00000000-0000-4001-8000-000000000002");
    assert_eq!(none[REQUEST_ID], id);
    let mut endless = headers(&[("x-request-id", &"a".repeat(129))]);
    assert_eq!(ensure_request_id(&mut endless, counting()).len(), 36);
}

proptest! {
    /// Whatever a client says, what goes on can be read, and says what we said.
    #[test]
    fn what_is_written_is_read_back(
        traceparent in prop::option::of("[0-9a-f-]{0,60}|00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]"),
        b3 in prop::option::of("[01d]|[0-9a-f]{16}-[0-9a-f]{16}(-[01d])?|[0-9a-f-]{0,40}"),
        several in prop::option::of("[0-9a-f]{16}|[0-9a-f]{32}|x"),
        seed in any::<u64>(),
    ) {
        let mut map = HeaderMap::new();
        let mut put = |name: &'static str, value: Option<String>| {
            if let Some(value) = value {
                map.insert(name, HeaderValue::from_str(&value).unwrap());
            }
        };
        put("traceparent", traceparent);
        put("b3", b3);
        put("x-b3-traceid", several.clone());
        put("x-b3-spanid", several.map(|_| PARENT.to_owned()));
        let mut last = seed;
        let span = proceed(&mut map, ALWAYS, || { last = last.wrapping_add(1); last }).unwrap();
        let again = proceed(&mut map, NEVER, counting()).unwrap();
        prop_assert_eq!(again.trace_id, span.trace_id);
        prop_assert_eq!(again.parent_id, Some(span.span_id));
        prop_assert_eq!(again.sampled, span.sampled);
    }
}

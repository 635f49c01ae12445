//! The sixteen cases of HTTPRouteCORS, and what they leave open.

use std::time::Duration;

use http::Method;

use super::super::cors::{mark, preflight};
use super::super::{apply, is_preflight};
use super::{entrance, header_map, lines, request};
use crate::model::{Cors, Filter, OriginMatch};

fn origin(text: &str) -> OriginMatch {
    match text.split_once('*') {
        None => OriginMatch::Exact(text.into()),
        Some(("", "")) => OriginMatch::Any,
        Some((prefix, suffix)) => {
            OriginMatch::Wildcard { prefix: prefix.into(), suffix: suffix.into() }
        }
    }
}

fn cors(origins: &[&str], methods: &[&str], headers: &[&str], expose: &[&str]) -> Cors {
    let all = |words: &[&str]| words.iter().map(|word| (*word).into()).collect();
    Cors {
        origins: origins.iter().map(|text| origin(text)).collect(),
        methods: all(methods),
        headers: all(headers),
        expose: all(expose),
        credentials: false,
        max_age: None,
    }
}

fn with_credentials(cors: Cors) -> Cors {
    Cors { credentials: true, ..cors }
}

/// Only what is said of origins.
fn said(headers: &http::HeaderMap) -> Vec<String> {
    lines(headers).into_iter().map(|line| line.replace("access-control-", "")).collect()
}

#[test]
fn http_route_cors_preflights() {
    let exact = || {
        cors(
            &["https://www.foo.com", "https://www.bar.com:8443"],
            &["GET", "OPTIONS"],
            &["x-one", "x-two"],
            &["x-three"],
        )
    };
    let wild = || cors(&["https://*.baz.com", "http://*.port.com:8080"], &["GET"], &[], &[]);
    let any = || cors(&["*"], &["*"], &["*"], &["*"]);
    let aged = || Cors { max_age: Some(Duration::from_secs(3600)), ..any() };
    type Row = (&'static str, Cors, &'static str, &'static [&'static str]);
    const NOTHING: &[&str] = &["vary: Origin"];
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        ("exact",                          exact(), "https://www.foo.com",       &["allow-headers: x-one, x-two", "allow-methods: GET, OPTIONS", "allow-origin: https://www.foo.com", "vary: Origin"]),
        ("exact with port",                exact(), "https://www.bar.com:8443",  &["allow-headers: x-one, x-two", "allow-methods: GET, OPTIONS", "allow-origin: https://www.bar.com:8443", "vary: Origin"]),
        ("another port",                   exact(), "https://www.bar.com:9443",  NOTHING),
        ("no port",                        exact(), "https://www.bar.com",       NOTHING),
        ("another scheme",                 exact(), "http://www.foo.com",        NOTHING),
        ("another host",                   exact(), "https://foo.com",           NOTHING),
        ("no origin of anybody",           exact(), "null",                      NOTHING),
        ("wildcard, one label",            wild(),  "https://a.baz.com",         &["allow-methods: GET", "allow-origin: https://a.baz.com", "vary: Origin"]),
        ("wildcard, many labels",          wild(),  "https://a.b.baz.com",       &["allow-methods: GET", "allow-origin: https://a.b.baz.com", "vary: Origin"]),
        ("wildcard, none",                 wild(),  "https://baz.com",           NOTHING),
        ("wildcard with port",             wild(),  "http://a.port.com:8080",    &["allow-methods: GET", "allow-origin: http://a.port.com:8080", "vary: Origin"]),
        ("wildcard, another port",         wild(),  "https://a.baz.com:444",     NOTHING),
        ("wildcard is labels only",        wild(),  "https://evil.com:1/x.baz.com", NOTHING),
        ("all",                            any(),   "https://x.com",             &["allow-headers: *", "allow-methods: *", "allow-origin: *"]),
        ("all, with age",                  aged(),  "https://x.com",             &["allow-headers: *", "allow-methods: *", "allow-origin: *", "max-age: 3600"]),
        ("all with credentials",           with_credentials(any()), "https://x.com", &["allow-credentials: true", "allow-headers: x-a, x-b", "allow-methods: PUT", "allow-origin: https://x.com", "vary: Origin"]),
        ("exact with credentials",         with_credentials(exact()), "https://www.foo.com", &["allow-credentials: true", "allow-headers: x-one, x-two", "allow-methods: GET, OPTIONS", "allow-origin: https://www.foo.com", "vary: Origin"]),
        ("another one with credentials",   with_credentials(exact()), "https://x.com", NOTHING),
    ];
    for (name, cors, origin, want) in rows {
        let request = header_map(&[
            &format!("origin: {origin}"),
            "access-control-request-method: PUT",
            "access-control-request-headers: x-a, x-b",
        ]);
        let reply = preflight(&cors, &request);
        assert_eq!(reply.status, 204, "{name}");
        assert_eq!(said(&reply.headers), want, "HTTPRouteCORS: {name}");
    }
}

#[test]
fn http_route_cors_answers() {
    let exact = || cors(&["https://www.foo.com"], &["GET"], &[], &["x-one", "x-two"]);
    let any = || cors(&["*"], &[], &[], &["*"]);
    type Row = (
        &'static str,
        Cors,
        Option<&'static str>,
        &'static [&'static str],
        &'static [&'static str],
    );
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        ("exact",                exact(), Some("https://www.foo.com"), &[],  &["allow-origin: https://www.foo.com", "expose-headers: x-one, x-two", "vary: Origin"]),
        ("another",              exact(), Some("https://x.com"),       &[],  &["vary: Origin"]),
        ("none",                 exact(), None,                        &[],  &["vary: Origin"]),
        ("all",                  any(),   Some("https://x.com"),       &[],  &["allow-origin: *", "expose-headers: *"]),
        ("all, with credentials", with_credentials(any()), Some("https://x.com"), &["x-a: b"],
            &["allow-credentials: true", "allow-origin: https://x.com", "expose-headers: x-a, vary", "vary: Origin", "x-a: b"]),
        ("what the backend says of others goes", exact(), Some("https://x.com"), &["access-control-allow-origin: *"], &["vary: Origin"]),
        ("it varies already",    exact(), None, &["vary: accept, origin"], &["vary: accept, origin"]),
    ];
    for (name, cors, origin, before, want) in rows {
        let mut response = header_map(before);
        let origin = origin.map(|origin| origin.parse().expect("a value"));
        mark(&cors, origin.as_ref(), &mut response);
        assert_eq!(said(&response), want, "HTTPRouteCORS: {name}");
    }
}

#[test]
fn what_a_client_asks_for_is_only_repeated_when_it_is_a_list() {
    let cors = with_credentials(cors(&["*"], &["*"], &["*"], &[]));
    let request = header_map(&[
        "origin: https://x.com",
        "access-control-request-method: <b>",
        "access-control-request-headers: x\"y",
    ]);
    let want = ["allow-credentials: true", "allow-origin: https://x.com", "vary: Origin"];
    assert_eq!(said(&preflight(&cors, &request).headers), want);
}

#[test]
fn only_preflights_are_answered() {
    let filters = [Filter::Cors(cors(&["*"], &["GET"], &[], &[]))];
    let asks = "access-control-request-method: GET";
    for (method, headers, answered) in [
        (Method::OPTIONS, &["origin: https://x.com", asks][..], true),
        (Method::OPTIONS, &["origin: https://x.com"], false),
        (Method::OPTIONS, &[asks], false),
        (Method::GET, &["origin: https://x.com", asks], false),
    ] {
        let mut parts = request(method, "/", headers);
        assert_eq!(is_preflight(&parts), answered);
        let reply = apply(&filters, &mut parts, &entrance("/", None));
        assert_eq!(reply.is_some(), answered, "{headers:?}");
    }
}

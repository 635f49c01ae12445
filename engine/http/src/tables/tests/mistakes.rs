//! What is refused, and what is said about it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::build::{http_listener, key, listener, on, route, rule, to};
use crate::model::{
    Filter, HeaderChange, HeaderChanges, HostPattern, HttpConfig, ListenerProtocol, Match, Mirror,
    PathChange, PathMatch, Redirect, Rewrite, Rule, whole,
};
use crate::path::{PathError, PathMode};
use crate::tables::{CompileError, Mistake, Tables};

fn redirect() -> Redirect {
    Redirect { scheme: None, host: None, port: None, path: None, status: StatusCode::FOUND }
}

fn with(filters: Vec<Filter>, matches: &[&str]) -> Rule {
    Rule { filters, ..rule(matches, "v1") }
}

/// The mistakes of one rule.
fn mistakes(rule: Rule, paths: PathMode) -> Vec<Mistake> {
    let routes = vec![route("r", &[to("echo")], &[], &[rule])];
    match Tables::compile(HttpConfig { routes, paths, ..HttpConfig::default() }) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .0
            .into_iter()
            .map(|error| match error {
                CompileError::Rule { mistake, rule: 0, .. } => mistake,
                other => panic!("{other}"),
            })
            .collect(),
    }
}

#[test]
fn rules_that_cannot_be() {
    let host = |host: &str| Filter::Rewrite(Rewrite { host: Some(host.into()), path: None });
    let path = |path: PathChange| Filter::Rewrite(Rewrite { host: None, path: Some(path) });
    let change = |name| HeaderChange {
        name: HeaderName::from_static(name),
        value: HeaderValue::from_static("x"),
    };
    let set = |name| {
        Filter::RequestHeaders(HeaderChanges {
            set: vec![change(name)],
            ..HeaderChanges::default()
        })
    };
    let mirror = |numerator, denominator| {
        let backend = rule(&[], "m").backends[0].backend.clone();
        Filter::Mirror(Mirror { backend, numerator, denominator })
    };
    let prefix = PathChange::Prefix("/new".into());
    #[rustfmt::skip]
    let rows: Vec<(&str, Rule, Vec<Mistake>)> = vec![
        ("good",               with(vec![Filter::Redirect(redirect()), set("x-a")], &["/a*"]), vec![]),
        ("a good rewrite",     with(vec![host("a.example.com"), mirror(1, 2)], &[]), vec![]),
        ("both",               with(vec![Filter::Redirect(redirect()), host("a")], &[]), vec![Mistake::RedirectAndRewrite]),
        ("two redirects",      with(vec![Filter::Redirect(redirect()), Filter::Redirect(redirect())], &[]), vec![Mistake::Twice("RequestRedirect")]),
        ("status",             with(vec![Filter::Redirect(Redirect { status: StatusCode::OK, ..redirect() })], &[]), vec![Mistake::RedirectStatus(200)]),
        ("scheme",             with(vec![Filter::Redirect(Redirect { scheme: Some("ftp".into()), ..redirect() })], &[]), vec![Mistake::RedirectScheme("ftp".into())]),
        ("host",               with(vec![host("a b")], &[]), vec![Mistake::Host("a b".into())]),
        ("host with port",     with(vec![host("a:80")], &[]), vec![Mistake::Host("a:80".into())]),
        ("query in a path",    with(vec![path(PathChange::Full("/a?b".into()))], &[]), vec![Mistake::Replacement("/a?b".into())]),
        ("relative path",      with(vec![path(PathChange::Full("a".into()))], &[]), vec![Mistake::Replacement("a".into())]),
        ("line end in a path", with(vec![path(PathChange::Full("/a\r\nx:y".into()))], &[]), vec![Mistake::Replacement("/a\r\nx:y".into())]),
        ("prefix of a prefix", with(vec![path(prefix.clone())], &["/a*"]), vec![]),
        ("prefix of all",      with(vec![path(prefix.clone())], &[]), vec![]),
        ("prefix of nothing",  with(vec![path(prefix)], &["/a"]), vec![Mistake::PrefixWithoutPrefix]),
        ("share of nothing",   with(vec![mirror(0, 0)], &[]), vec![Mistake::MirrorShare(0, 0)]),
        ("more than all",      with(vec![mirror(3, 2)], &[]), vec![Mistake::MirrorShare(3, 2)]),
        ("framing",            with(vec![set("transfer-encoding")], &[]), vec![Mistake::ProtectedHeader("transfer-encoding".into())]),
        ("the host",           with(vec![set("host")], &[]), vec![Mistake::ProtectedHeader("host".into())]),
    ];
    for (name, rule, want) in rows {
        assert_eq!(mistakes(rule, PathMode::Base), want, "{name}");
    }
}

#[test]
fn paths_that_no_request_has() {
    let of = |path: &str, mode| mistakes(rule(&[path], "v1"), mode);
    assert_eq!(of("/a/../b", PathMode::Base), []);
    let ambiguous = Mistake::Path { path: "/a/../b".into(), error: PathError::DotSegment };
    assert_eq!(of("/a/../b", PathMode::RejectAmbiguous), [ambiguous]);
    let escape = Mistake::Path { path: "/a%zz".into(), error: PathError::BadEscape };
    assert_eq!(of("/a%zz*", PathMode::Base), [escape]);
}

/// Found by fuzzing: what was wrong was put into the tables all the same, where the first byte was taken for a slash.
#[test]
fn paths_that_are_none() {
    for path in ["", "a", "*"] {
        for pattern in [PathMatch::Exact(path.into()), PathMatch::Prefix(path.into())] {
            let mut rule = rule(&[], "v1");
            rule.matches.push(Match { path: Some(pattern), ..Match::default() });
            let want = Mistake::Path { path: path.into(), error: PathError::NotAbsolute };
            assert_eq!(mistakes(rule, PathMode::Base), [want]);
        }
    }
}

#[test]
fn weights_that_do_not_add_up() {
    let mut heavy = rule(&[], "v1");
    heavy.backends[0].weight = u32::MAX;
    heavy.backends.push(rule(&[], "v2").backends[0].clone());
    assert_eq!(mistakes(heavy, PathMode::Base), [Mistake::Weights]);
}

#[test]
fn listeners_and_hosts_that_cannot_be() {
    let long: Arc<str> = "a.".repeat(200).into();
    let (first, second) = (key("a"), key("b"));
    let https = listener("b", 80, ListenerProtocol::Https, "x.example.com");
    let conflict = CompileError::ListenersConflict { first: first.clone(), second: second.clone() };
    let protocols = CompileError::ProtocolsConflict { first, second: second.clone() };
    let port = |mut listener: crate::model::Listener, host: &str| {
        listener.hostname = Some(HostPattern::Exact(host.into()));
        listener
    };
    let no_host =
        |host: &str| CompileError::ListenerHost { listener: second.clone(), host: host.into() };
    let b = || http_listener("b", 80, "");
    for (name, second, want) in [
        ("the same host", b(), conflict),
        ("another protocol", https, protocols),
        ("upper case", port(b(), "Example.com"), no_host("Example.com")),
        ("a port", port(b(), "example.com:80"), no_host("example.com:80")),
        ("too long", port(b(), &long), no_host(&long)),
    ] {
        let listeners = vec![http_listener("a", 80, ""), second];
        let errors = Tables::compile(HttpConfig { listeners, ..HttpConfig::default() });
        assert_eq!(errors.expect_err(name).0, [want], "{name}");
    }
    let routes = vec![route("r", &[on("a")], &["a..b"], &[])];
    let errors = Tables::compile(HttpConfig { routes, ..HttpConfig::default() });
    let text = errors.expect_err("no host").to_string();
    assert!(text.starts_with("HTTPRoute default/r: \"a..b\" is no host"), "{text}");
}

#[test]
fn expressions_are_whole_and_bounded() {
    let either = whole("a|ab").expect("an expression");
    assert!(either.is_match("ab") && either.is_match("a") && !either.is_match("xab"));
    assert!(whole("a)|(b").is_err(), "one by itself");
    assert!(whole("((a{1000}){1000}){10}").is_err(), "too large");
}

//! The same question asked of the configuration itself, by looking at everything.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::build::{compile, gateway, host, http_listener, matching, on, request, route, rule};
use crate::head::RequestHead;
use crate::model::{HostPattern, Listener, Match, PathMatch, Route, Rule, ValueMatch};

const HOSTS: [&str; 8] =
    ["", "a.com", "b.a.com", "c.b.a.com", "*.com", "*.a.com", "*.b.a.com", "d.com"];
const PATHS: [&str; 14] = [
    "", "/*", "/a*", "/a/*", "/a/b*", "/a/b/c*", "/ab*", "/", "/a", "/a/", "/a/b", "~/a.*",
    "~/a/b?", "~.*b",
];
const METHODS: [&str; 3] = ["", "GET", "PUT"];
const HEADERS: [&str; 4] = ["", "x:1", "x:2 y:1", "y:1"];
const PARAMETERS: [&str; 3] = ["", "?p=1", "?p=1 ?q=2"];
const REQUEST_HOSTS: [&str; 9] =
    ["a.com", "b.a.com", "c.b.a.com", "x.a.com", "x.b.a.com", "x.c.b.a.com", "d.com", "com", "e.f"];
const REQUEST_PATHS: [&str; 9] =
    ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c/d", "/ab", "/abc", "/x/b"];

/// Which route, rule and match.
type Place = (usize, usize, usize);

fn naive(listeners: &[Listener], routes: &[Route], head: &RequestHead<'_>) -> Option<Place> {
    let owner = listeners
        .iter()
        .filter(|it| it.hostname.as_ref().is_none_or(|pattern| is_for(pattern, head.host())))
        .max_by_key(|it| it.hostname.as_ref().map_or((0, 0), specificity))?;
    let mut best = None;
    for (age, route) in routes.iter().enumerate() {
        if !route.parents.iter().any(|it| *it == on(&owner.key.listener)) {
            continue;
        }
        let own = route.hostnames.iter().filter(|it| is_for(it, head.host())).map(specificity);
        let Some(of_host) = (if route.hostnames.is_empty() { Some((0, 0)) } else { own.max() })
        else {
            continue;
        };
        for (index, rule) in route.rules.iter().enumerate() {
            for (matched, pattern) in rule.matches.iter().enumerate() {
                let Some(of_path) = path_score(pattern, head.path()) else { continue };
                if !fits(pattern, head) {
                    continue;
                }
                let score = (
                    of_host,
                    of_path,
                    pattern.method.is_some(),
                    pattern.headers.len(),
                    pattern.query.len(),
                    Reverse((age, index, matched)),
                );
                best = best.max(Some(score));
            }
        }
    }
    best.map(|score| score.5.0)
}

/// Exact ones before wildcards, longer before shorter.
fn specificity(pattern: &HostPattern) -> (u8, usize) {
    match pattern {
        HostPattern::Exact(host) => (2, host.len()),
        HostPattern::Suffix(host) => (1, host.len()),
    }
}

fn is_for(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => **exact == *host,
        HostPattern::Suffix(suffix) => host.ends_with(&format!(".{suffix}")),
    }
}

fn path_score(pattern: &Match, path: &str) -> Option<(u8, usize)> {
    match &pattern.path {
        None => Some((0, 0)),
        Some(PathMatch::Exact(exact)) => (**exact == *path).then_some((3, 0)),
        Some(PathMatch::Regex(regex)) => regex.is_match(path).then(|| (1, regex.as_str().len())),
        Some(PathMatch::Prefix(prefix)) => {
            let prefix = prefix.trim_end_matches('/');
            let rest = path.strip_prefix(prefix)?;
            let by_element = rest.is_empty() || rest.starts_with('/');
            by_element.then_some(if prefix.is_empty() { (0, 0) } else { (2, prefix.len()) })
        }
    }
}

fn fits(pattern: &Match, head: &RequestHead<'_>) -> bool {
    let is = |wanted: &ValueMatch, value: &str| match wanted {
        ValueMatch::Exact(exact) => **exact == *value,
        ValueMatch::Regex(_) => unreachable!("none is made here"),
    };
    let header = |name| head.headers().get(name).and_then(|value| value.to_str().ok());
    let parameter = |name: &str| {
        let mut all = head.query().unwrap_or("").split('&').filter_map(|one| one.split_once('='));
        all.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    pattern.method.as_ref().is_none_or(|method| method == head.method())
        && pattern
            .headers
            .iter()
            .all(|it| header(&it.name).is_some_and(|value| is(&it.value, value)))
        && pattern
            .query
            .iter()
            .all(|it| parameter(&it.name).is_some_and(|value| is(&it.value, value)))
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

fn a_match() -> impl Strategy<Value = Match> {
    (one_of(&PATHS), one_of(&METHODS), one_of(&HEADERS), one_of(&PARAMETERS)).prop_map(
        |(path, method, headers, query)| matching(&format!("{path} {method} {headers} {query}")),
    )
}

fn a_rule() -> impl Strategy<Value = Rule> {
    prop::collection::vec(a_match(), 1..3)
        .prop_map(|matches| Rule { matches, ..rule(&[], "backend") })
}

fn listeners() -> impl Strategy<Value = Vec<Listener>> {
    prop::sample::subsequence(&HOSTS[..], 1..4).prop_map(|hosts| {
        let named = hosts.iter().enumerate();
        named.map(|(n, host)| http_listener(&format!("l{n}"), 80, host)).collect()
    })
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let parents = prop::sample::subsequence(&["l0", "l1", "l2"][..], 1..4);
    let hosts = prop::sample::subsequence(&HOSTS[1..], 0..3);
    let rules = prop::collection::vec(a_rule(), 1..4);
    let one = (parents, hosts, rules).prop_map(|(parents, hosts, rules)| {
        let parents: Vec<_> = parents.iter().map(|it| on(it)).collect();
        route("r", &parents, &hosts, &rules)
    });
    prop::collection::vec(one, 0..6)
}

fn a_request() -> impl Strategy<Value = String> {
    let words = (one_of(&["GET", "PUT", "POST"]), one_of(&REQUEST_HOSTS), one_of(&REQUEST_PATHS));
    let beside = (one_of(&["", "?p=1", "?p=1&q=2", "?q=2", "?p=2&p=1"]), one_of(&HEADERS));
    (words, beside).prop_map(|((method, host, path), (query, headers))| {
        format!("{method} {host}{path}{query} {headers}")
    })
}

/// Requests that each generated configuration is asked for.
const REQUESTS: usize = 64;

proptest! {
    // 2,000 configurations with 64 requests each.
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn look_ups_agree_with_looking_at_everything(
        listeners in listeners(),
        routes in routes(),
        requests in prop::collection::vec(a_request(), REQUESTS),
    ) {
        let tables = compile(listeners.clone(), routes.clone());
        for text in &requests {
            let request = request(text);
            let head = request.head();
            let found = tables
                .for_listener(&gateway(), 80, head.host())
                .and_then(|listener| listener.routes().find(&head));
            let got = found.map(|found| {
                let before = |rule: &&_| !std::sync::Arc::ptr_eq(rule, found.rule);
                (tables.rules().iter().take_while(before).count(), found.matched)
            });
            let want = naive(&listeners, &routes, &head).map(|(route, rule, matched)| {
                (routes[..route].iter().map(|it| it.rules.len()).sum::<usize>() + rule, matched)
            });
            prop_assert_eq!(got, want, "{}", text);
        }
    }
}

#[test]
fn hosts_read_alike() {
    assert!(is_for(&host("*.a.com"), "x.y.a.com") && !is_for(&host("*.a.com"), "a.com"));
}

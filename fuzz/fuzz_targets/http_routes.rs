//! Route tables: whatever is configured compiles or is refused, and is found by looking at all of it alike.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use ringway_http::model::{
    HttpConfig, Match, Parent, PathMatch, Route, RouteKind, RouteName, Rule, ServiceName,
};
use ringway_http::path::{PathMode, canonical};
use ringway_http::{Attached, RequestHead, Tables};

#[derive(Arbitrary, Debug)]
struct Routes<'a> {
    /// Exact or prefix, path, with a method or without.
    rules: Vec<(bool, &'a str, bool)>,
    requests: Vec<(&'a str, bool)>,
    mode: u8,
}

fuzz_target!(|routes: Routes<'_>| {
    let mode = [PathMode::Base, PathMode::MergeSlashes, PathMode::DecodeAndMerge]
        [usize::from(routes.mode) % 3];
    let service = ServiceName { namespace: "n".into(), hostname: "s".into() };
    let rules: Vec<Rule> = routes.rules.iter().map(|rule| one(*rule)).collect();
    let name = RouteName { kind: RouteKind::Http, namespace: "n".into(), name: "r".into() };
    let parents = vec![Parent::Service { service: service.clone(), port: None, clients_of: None }];
    let route = Route { name, parents, hostnames: Vec::new(), rules };
    let config = HttpConfig { routes: vec![route], paths: mode, ..HttpConfig::default() };
    let Ok(tables) = Tables::compile(config) else { return };
    let Attached::Routes(table) = tables.for_service(&service, 80, None) else {
        panic!("a route is attached");
    };
    let headers = HeaderMap::new();
    for (path, get) in &routes.requests {
        // OPTIONS * is for all that is for every path, though it does not begin with a slash.
        let Some(path) = canonical(path, mode).ok().filter(|path| path != "*") else { continue };
        let method = if *get { Method::GET } else { Method::PUT };
        let head = RequestHead::new(&method, "h", &path, None, &headers);
        let found = table.find(&head).map(|found| found.rule.index);
        assert_eq!(found, naive(&tables, &path, *get), "{path}");
    }
});

fn one((exact, path, method): (bool, &str, bool)) -> Rule {
    let path: Arc<str> = path.into();
    let path = if exact { PathMatch::Exact(path) } else { PathMatch::Prefix(path) };
    let method = method.then_some(Method::GET);
    Rule { matches: vec![Match { path: Some(path), method, ..Match::default() }], ..Rule::default() }
}

/// The best of all rules: exact before prefixes, longer before shorter, with a method before without, then the first.
fn naive(tables: &Tables, path: &str, get: bool) -> Option<usize> {
    let scored = tables.rules().iter().filter_map(|rule| {
        let it = &rule.rule.matches[0];
        let by_path = match it.path.as_ref()? {
            PathMatch::Exact(exact) => (**exact == *path).then_some((1, 0))?,
            PathMatch::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                let rest = path.strip_prefix(prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then_some((0, prefix.len()))?
            }
            PathMatch::Regex(_) => return None,
        };
        (it.method.is_none() || get).then_some((by_path, it.method.is_some(), std::cmp::Reverse(rule.index)))
    });
    scored.max().map(|(_, _, index)| index.0)
}

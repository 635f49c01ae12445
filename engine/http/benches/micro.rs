//! What is done for every request: its path put into order, its rule looked up, among few and many.
//!
//! `cargo bench -p ringway-http --bench micro`. The counts are of services, each with a route of ten rules.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use http::{HeaderMap, Method};
use ringway_http::model::{
    HostPattern, HttpConfig, Listener, ListenerKey, ListenerProtocol, Match, Parent, PathMatch,
    Route, RouteKind, RouteName, Rule, ServiceName,
};
use ringway_http::path::{PathMode, canonical};
use ringway_http::{Attached, RequestHead, Tables};

const RULES: usize = 10;
const COUNTS: [usize; 3] = [10, 500, 5_000];

fn main() {
    divan::main();
}

fn service(n: usize) -> ServiceName {
    ServiceName { namespace: "default".into(), hostname: format!("service-{n}").into() }
}

fn key() -> ListenerKey {
    ListenerKey { namespace: "infra".into(), gateway: "gw".into(), listener: "http".into() }
}

/// So many services and hosts, each with a route of its own.
fn tables(count: usize) -> Tables {
    let listeners = vec![Listener {
        key: key(),
        port: 80,
        protocol: ListenerProtocol::Http,
        hostname: None,
        tls: None,
    }];
    let rule = |n: usize| Rule {
        matches: vec![Match {
            path: Some(PathMatch::Prefix(format!("/api/v{n}").into())),
            ..Match::default()
        }],
        ..Rule::default()
    };
    let routes = (0..count).map(|n| Route {
        name: RouteName {
            kind: RouteKind::Http,
            namespace: "default".into(),
            name: format!("route-{n}").into(),
        },
        parents: vec![
            Parent::Service { service: service(n), port: None, clients_of: None },
            Parent::Listener(key()),
        ],
        hostnames: vec![HostPattern::Exact(Arc::from(format!("host-{n}.example.com")))],
        rules: (0..RULES).map(rule).collect(),
    });
    let config = HttpConfig { listeners, routes: routes.collect(), ..HttpConfig::default() };
    Tables::compile(config).expect("a good configuration")
}

#[divan::bench(args = COUNTS)]
fn by_service(bencher: Bencher<'_, '_>, count: usize) {
    let (tables, service, headers) = (tables(count), service(count / 2), HeaderMap::new());
    bencher.bench(|| {
        let head = RequestHead::new(&Method::GET, "any", "/api/v7/things/1", None, &headers);
        let Attached::Routes(routes) = tables.for_service(black_box(&service), 80, None) else {
            unreachable!("each service has a route")
        };
        routes.find(&head).map(|found| found.rule.id)
    });
}

#[divan::bench(args = COUNTS)]
fn by_host(bencher: Bencher<'_, '_>, count: usize) {
    let (tables, headers) = (tables(count), HeaderMap::new());
    let host = format!("host-{}.example.com", count / 2);
    let gateway = key().gateway();
    bencher.bench(|| {
        let head = RequestHead::new(&Method::GET, black_box(&host), "/api/v7/x", None, &headers);
        let listener = tables.for_listener(&gateway, 80, head.host()).expect("a listener");
        listener.routes().find(&head).map(|found| found.rule.id)
    });
}

#[divan::bench(args = ["/api/v7/things/1", "/api/v7/./things/%31"])]
fn canonical_path(path: &str) -> usize {
    canonical(black_box(path), PathMode::Base).expect("a good path").len()
}

#[divan::bench(args = COUNTS)]
fn compile(count: usize) -> usize {
    tables(count).rules().len()
}

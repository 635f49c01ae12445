//! Few words for configurations and requests.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::head::RequestHead;
use crate::model::{
    Backend, BackendTarget, GatewayName, HostPattern, HttpConfig, Listener, ListenerKey,
    ListenerProtocol, Match, NamedMatch, Parent, PathMatch, Route, RouteKind, RouteName, Rule,
    ServiceName, ValueMatch, WeightedBackend, whole,
};
use crate::tables::{Found, RouteTable, Tables};

pub(super) fn service(name: &str) -> ServiceName {
    ServiceName {
        namespace: "default".into(),
        hostname: format!("{name}.default.svc.cluster.local").into(),
    }
}

pub(super) fn gateway() -> GatewayName {
    GatewayName { namespace: "infra".into(), name: "gw".into() }
}

pub(super) fn key(listener: &str) -> ListenerKey {
    ListenerKey { namespace: "infra".into(), gateway: "gw".into(), listener: listener.into() }
}

pub(super) fn host(text: &str) -> HostPattern {
    match text.strip_prefix("*.") {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(text.into()),
    }
}

/// A listener; an empty host is for all.
pub(super) fn listener(name: &str, port: u16, protocol: ListenerProtocol, of: &str) -> Listener {
    let hostname = (!of.is_empty()).then(|| host(of));
    Listener { key: key(name), port, protocol, hostname, tls: None }
}

pub(super) fn http_listener(name: &str, port: u16, of: &str) -> Listener {
    listener(name, port, ListenerProtocol::Http, of)
}

/// `/x` exactly, `/x*` as a prefix, `~x` as an expression; then `METHOD`, `name:value`, `?name=value`.
pub(super) fn matching(text: &str) -> Match {
    text.split_whitespace().fold(Match::default(), |mut it, word| {
        if let Some(prefix) = word.strip_suffix('*').filter(|word| word.starts_with('/')) {
            it.path = Some(PathMatch::Prefix(prefix.into()));
        } else if word.starts_with('/') {
            it.path = Some(PathMatch::Exact(word.into()));
        } else if let Some(expression) = word.strip_prefix('~') {
            it.path = Some(PathMatch::Regex(whole(expression).expect("an expression")));
        } else if let Some((name, value)) =
            word.strip_prefix('?').and_then(|word| word.split_once('='))
        {
            it.query.push(NamedMatch { name: name.into(), value: ValueMatch::Exact(value.into()) });
        } else if let Some((name, value)) = word.split_once(':') {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            it.headers.push(NamedMatch { name, value: ValueMatch::Exact(value.into()) });
        } else {
            it.method = Some(word.parse().expect("a method"));
        }
        it
    })
}

/// A rule with matches like `matching`'s, which passes on to a service.
pub(super) fn rule(matches: &[&str], backend: &str) -> Rule {
    Rule {
        matches: matches.iter().map(|text| matching(text)).collect(),
        backends: vec![WeightedBackend {
            backend: Backend {
                target: BackendTarget::Service { service: service(backend), port: 8080 },
            },
            weight: 1,
            filters: Vec::new(),
        }],
        ..Rule::default()
    }
}

pub(super) fn route(name: &str, parents: &[Parent], hosts: &[&str], rules: &[Rule]) -> Route {
    let kind = RouteKind::Http;
    Route {
        name: RouteName { kind, namespace: "default".into(), name: name.into() },
        parents: parents.to_vec(),
        hostnames: hosts.iter().map(|text| host(text)).collect(),
        rules: rules.to_vec(),
    }
}

pub(super) fn of_kind(kind: RouteKind, mut route: Route) -> Route {
    route.name.kind = kind;
    route
}

pub(super) fn on(listener: &str) -> Parent {
    Parent::Listener(key(listener))
}

pub(super) fn to(name: &str) -> Parent {
    Parent::Service { service: service(name), port: None, clients_of: None }
}

pub(super) fn to_port(name: &str, port: u16) -> Parent {
    Parent::Service { service: service(name), port: Some(port), clients_of: None }
}

pub(super) fn consumers(name: &str, namespace: &str) -> Parent {
    Parent::Service { service: service(name), port: None, clients_of: Some(namespace.into()) }
}

pub(super) fn compile(listeners: Vec<Listener>, routes: Vec<Route>) -> Tables {
    let config = HttpConfig { listeners, routes, ..HttpConfig::default() };
    Tables::compile(config).expect("a good configuration")
}

/// A request: `GET host/path?query name:value`.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
}

pub(super) fn request(text: &str) -> Request {
    let mut words = text.split_whitespace();
    let method = words.next().expect("a method").parse().expect("a method");
    let target = words.next().expect("a target");
    let (target, query) = target.split_once('?').map_or((target, None), |(a, b)| (a, Some(b)));
    let slash = target.find('/').expect("a path");
    let mut headers = HeaderMap::new();
    for word in words {
        let (name, value) = word.split_once(':').expect("a header");
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    Request {
        method,
        host: target[..slash].to_owned(),
        path: target[slash..].to_owned(),
        query: query.map(str::to_owned),
        headers,
    }
}

impl Request {
    pub(super) fn head(&self) -> RequestHead<'_> {
        RequestHead::new(&self.method, &self.host, &self.path, self.query.as_deref(), &self.headers)
    }
}

/// The backend's name of what a request meets, or `404`.
pub(super) fn backend_of(table: &RouteTable, text: &str) -> String {
    let request = request(text);
    table
        .find(&request.head())
        .map_or_else(|| "404".to_owned(), |found| backend(found.rule.rule.clone()))
}

/// By the Gateway's port: the listener of the host, then its routes.
pub(super) fn at_port(tables: &Tables, port: u16, text: &str) -> String {
    let request = request(text);
    let head = request.head();
    let listener = tables.for_listener(&gateway(), port, head.host());
    let found: Option<Found<'_>> = listener.and_then(|it| it.routes().find(&head));
    found.map_or_else(|| "404".to_owned(), |found| backend(found.rule.rule.clone()))
}

pub(super) fn backend(rule: Rule) -> String {
    match rule.backends.first().map(|it| &it.backend.target) {
        Some(BackendTarget::Service { service, .. }) => first_label(&service.hostname),
        _ => "500".to_owned(),
    }
}

fn first_label(hostname: &Arc<str>) -> String {
    hostname.split('.').next().unwrap_or("").to_owned()
}

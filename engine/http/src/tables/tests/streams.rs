//! Whole connections: by server name, else the oldest.

use super::build::{
    backend, compile, gateway, key, listener, of_kind, on, route, rule, service, to, to_port,
};
use crate::model::{ListenerProtocol, Route, RouteKind};
use crate::tables::{AttachedStream, Tables};

fn tls(name: &str, listener: &str, hosts: &[&str], backend: &str) -> Route {
    of_kind(RouteKind::Tls, route(name, &[on(listener)], hosts, &[rule(&[], backend)]))
}

fn tcp(name: &str, parent: crate::model::Parent, backend: &str) -> Route {
    of_kind(RouteKind::Tcp, route(name, &[parent], &[], &[rule(&[], backend)]))
}

/// By a Gateway's port and a server name: a backend, `-` if none.
fn at(tables: &Tables, port: u16, name: Option<&str>) -> String {
    let listener = tables.for_port(&gateway(), port).and_then(|port| port.by_server_name(name));
    let rule = listener.and_then(|listener| listener.stream(name));
    rule.map_or_else(|| "-".to_owned(), |rule| backend(rule.rule.clone()))
}

#[test]
fn tls_route_hostname_intersection() {
    let listeners = vec![
        listener("exact", 443, ListenerProtocol::Tls, "abc.example.com"),
        listener("wildcard", 443, ListenerProtocol::Tls, "*.example.com"),
        listener("all", 8443, ListenerProtocol::Tls, ""),
    ];
    let routes = vec![
        tls("exact", "exact", &["abc.example.com", "other.example.com"], "v1"),
        tls("wildcard", "wildcard", &["*.example.com", "xyz.example.org"], "v2"),
        tls("less", "all", &["*.com"], "less"),
        tls("more", "all", &["*.example.com"], "more"),
        tls("younger", "all", &["*.example.com"], "younger"),
    ];
    let tables = compile(listeners, routes);
    #[rustfmt::skip]
    let rows = [
        (443,  Some("abc.example.com"),   "v1"),
        (443,  Some("ABC.example.com"),   "v1"),
        (443,  Some("other.example.com"), "v2"),
        (443,  Some("xyz.example.org"),   "-"),
        (443,  Some("example.com"),       "-"),
        (443,  None,                      "-"),
        (8443, Some("a.example.com"),     "more"),
        (8443, Some("a.other.com"),       "less"),
        (8443, Some("a.example.org"),     "-"),
    ];
    for (port, name, want) in rows {
        assert_eq!(at(&tables, port, name), want, "TLSRouteHostnameIntersection: {port} {name:?}");
    }
}

#[test]
fn tls_and_https_share_a_port() {
    let listeners = vec![
        listener("https", 443, ListenerProtocol::Https, "web.example.com"),
        listener("tls", 443, ListenerProtocol::Tls, "tls.example.com"),
    ];
    let routes =
        vec![tls("tls", "tls", &[], "v1"), route("web", &[on("https")], &[], &[rule(&[], "v2")])];
    let tables = compile(listeners, routes);
    assert_eq!(at(&tables, 443, Some("tls.example.com")), "v1", "TLSRouteMixedTermination");
    assert_eq!(at(&tables, 443, Some("web.example.com")), "-", "TLSRouteMixedTermination");
    let web = tables.for_listener(&gateway(), 443, "web.example.com").expect("a listener");
    assert_eq!(web.listener.key, key("https"));
}

#[test]
fn tcp_route_multiple_routes_attachment() {
    let listeners = vec![
        listener("a", 9000, ListenerProtocol::Tcp, ""),
        listener("b", 9001, ListenerProtocol::Tcp, ""),
    ];
    let routes = vec![
        tcp("older", on("a"), "v1"),
        tcp("younger", on("a"), "v2"),
        tcp("other", on("b"), "v3"),
    ];
    let tables = compile(listeners, routes);
    assert_eq!(
        at(&tables, 9000, None),
        "v1",
        "TCPRouteMultipleRoutesAttachment: the oldest serves"
    );
    assert_eq!(at(&tables, 9001, None), "v3", "TCPRouteParentRefPortAndSectionName");
    assert_eq!(at(&tables, 9002, None), "-");
}

#[test]
fn connections_to_services() {
    let mut tls_route = of_kind(
        RouteKind::Tls,
        route("tls", &[to("secure")], &["*.example.com"], &[rule(&[], "v2")]),
    );
    tls_route.parents.push(to_port("mixed", 443));
    let routes = vec![
        tcp("older", to("db"), "v1"),
        tcp("younger", to("db"), "v9"),
        tcp("fallback", to("mixed"), "v3"),
        tls_route,
        route("web", &[to("web")], &[], &[rule(&[], "v4")]),
    ];
    let tables = compile(Vec::new(), routes);
    #[rustfmt::skip]
    let rows = [
        ("db",     5432, None,                  "v1"),
        ("secure", 443,  Some("a.example.com"), "v2"),
        ("secure", 443,  Some("a.example.org"), "closed"),
        ("secure", 443,  None,                  "closed"),
        ("mixed",  443,  Some("a.example.com"), "v2"),
        ("mixed",  443,  None,                  "v3"),
        ("mixed",  80,   Some("a.example.com"), "v3"),
        ("web",    80,   None,                  "passed"),
        ("other",  80,   None,                  "passed"),
    ];
    for (name, port, server_name, want) in rows {
        let got = match tables.for_service_stream(&service(name), port, None, server_name) {
            AttachedStream::None => "passed".to_owned(),
            AttachedStream::NoMatch => "closed".to_owned(),
            AttachedStream::Rule(rule) => backend(rule.rule.clone()),
        };
        assert_eq!(got, want, "{name}:{port} {server_name:?}");
    }
}

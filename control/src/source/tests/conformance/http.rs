//! HTTP that comes by a listener of a Gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_http::RequestHead;
use ringway_http::filter::mirrors;
use ringway_http::model::traffic::SessionCarrier;
use ringway_http::model::{GatewayName, Rule, ServiceName};
use ringway_http::path::PathMode;
use ringway_http::policies::Place;
use ringway_http::session::Session;

use super::world::{BROKEN, NOT_FOUND, World, at_same, get, request, route, route_in, to};
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("HTTPRouteSimpleSameNamespace", simple),
    row("HTTPRouteMatching", matching),
    row("HTTPRouteMatchingAcrossRoutes", across_routes),
    row("HTTPRoutePathMatchOrder", path_order),
    row("HTTPRouteExactPathMatching", exact_path),
    row("HTTPRouteHeaderMatching", header_matching),
    row("HTTPRouteQueryParamMatching", query_matching),
    row("HTTPRouteMethodMatching", method_matching),
    row("HTTPRouteHostnameIntersection", hostname_intersection),
    row("HTTPRouteListenerHostnameMatching", listener_hostnames),
    row("HTTPRouteListenerPortMatching", listener_ports),
    row("GatewayHTTPListenerIsolation", listener_isolation),
    row("HTTPRouteCrossNamespace", cross_namespace),
    row("HTTPRouteReferenceGrant", reference_grant),
    row("HTTPRouteInvalidReferenceGrant", invalid_reference_grant),
    row("HTTPRoutePartiallyInvalidViaInvalidReferenceGrant", partially_invalid),
    row("HTTPRouteInvalidNonExistentBackendRef", nonexistent_backend),
    row("HTTPRouteInvalidBackendRefUnknownKind", unknown_kind),
    row("HTTPRouteInvalidCrossNamespaceBackendRef", cross_namespace_backend),
    row("HTTPRouteNoBackendRefs", no_backends),
    row("HTTPRouteMultipleGateways", multiple_gateways),
    row("HTTPRouteServiceTypes", service_types),
    row("HTTPRouteWeight", weight),
    row("HTTPRouteRequestHeaderModifier", request_headers),
    row("HTTPRouteResponseHeaderModifier", response_headers),
    row("HTTPRouteRequestHeaderModifierBackendWeights", backend_request_headers),
    row("HTTPRouteRedirectHostAndStatus", redirect_host_and_status),
    row("HTTPRouteRedirectPath", redirect_path),
    row("HTTPRouteRedirectPort", redirect_port),
    row("HTTPRouteRedirectScheme", redirect_scheme),
    row("HTTPRouteRedirectPortAndScheme", redirect_port_and_scheme),
    row("HTTPRoute303Redirect", || redirect_code(303)),
    row("HTTPRoute307Redirect", || redirect_code(307)),
    row("HTTPRoute308Redirect", || redirect_code(308)),
    row("HTTPRouteBackendRequestRedirect", backend_redirect),
    row("HTTPRouteRewriteHost", rewrite_host),
    row("HTTPRouteRewritePath", rewrite_path),
    row("HTTPRouteBackendURLRewrite", backend_rewrite),
    row("HTTPRouteRequestMirror", mirror),
    row("HTTPRouteRequestMultipleMirrors", several_mirrors),
    row("HTTPRouteRequestPercentageMirror", percentage_mirror),
    row("HTTPRouteTimeoutRequest", timeout_request),
    row("HTTPRouteTimeoutBackendRequest", timeout_backend_request),
    row("HTTPRouteRetry", retry),
    row("HTTPRouteRetryConnectionError", retry_connection_error),
    row("HTTPRouteSessionPersistence", session_persistence),
    row("HTTPRouteSessionPersistenceCookieLifetimeTypePermanent", permanent_cookie),
    row("BackendTrafficPolicyRetryConstraint", retry_constraint),
    row("HTTPRouteCORS", cors),
    row("HTTPRouteNamedRule", named_rule),
    row("HTTPRouteHTTPSListener", https_listener),
    row("HTTPRouteHTTPSListenerDetectMisdirectedRequests", misdirected),
];

const V1: &str = "backendRefs: [{name: v1, port: 8080}]";
const V2: &str = "backendRefs: [{name: v2, port: 8080}]";
const V3: &str = "backendRefs: [{name: v3, port: 8080}]";

/// Asks the Gateway `same` for each path.
fn paths(world: &World, rows: &[(&str, Option<&str>)]) {
    for (path, want) in rows {
        let asked = world.gateway("same", get(&format!("http://any{path}"), &[]));
        assert_eq!(asked.answer, want.map_or(NOT_FOUND, to), "{path}");
    }
}

fn only_rule(world: &World) -> &Rule {
    &world.mesh.http.routes[0].rules[0]
}

fn simple() {
    paths(&at_same(&format!("[{{{V1}}}]")), &[("/", Some("v1")), ("/any/where", Some("v1"))]);
}

fn matching() {
    let world = at_same(&format!(
        "[{{matches: [{{path: {{value: /}}}}, {{headers: [{{name: version, value: one}}]}}], {V1}}},
          {{matches: [{{path: {{value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {V2}}}]"
    ));
    paths(
        &world,
        &[
            ("/", Some("v1")),
            ("/example", Some("v1")),
            ("/v2", Some("v2")),
            ("/v2/", Some("v2")),
            ("/v2/example", Some("v2")),
            ("/v2example", Some("v1")),
            ("/foo/v2", Some("v1")),
        ],
    );
    for (value, want) in [("one", "v1"), ("two", "v2")] {
        assert_eq!(
            world.gateway("same", get("http://any/", &[("Version", value)])).answer,
            to(want)
        );
    }
}

fn across_routes() {
    let world = World::new(&[
        route("HTTPRoute", "part1", &format!(
            "{{parentRefs: [{{name: same}}], hostnames: [example.com, example.net], rules: [
               {{matches: [{{path: {{value: /}}}}, {{headers: [{{name: version, value: one}}]}}], {V1}}}]}}"
        )),
        route("HTTPRoute", "part2", &format!(
            "{{parentRefs: [{{name: same}}], hostnames: [example.com], rules: [
               {{matches: [{{path: {{value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {V2}}}]}}"
        )),
    ].concat());
    for (target, headers, want) in [
        ("http://example.com/", &[][..], "v1"),
        ("http://example.com/example", &[], "v1"),
        ("http://example.net/example", &[], "v1"),
        ("http://example.com/v2", &[], "v2"),
        ("http://example.net/v2", &[], "v1"),
        ("http://example.com/v2example", &[], "v1"),
        ("http://example.com/foo/v2", &[], "v1"),
        ("http://example.com/", &[("version", "two")], "v2"),
        ("http://example.net/", &[("version", "two")], "v1"),
        // A prefix outranks headers, however many.
        ("http://example.com/v2", &[("version", "one")], "v2"),
    ] {
        assert_eq!(
            world.gateway("same", get(target, headers)).answer,
            to(want),
            "{target} {headers:?}"
        );
    }
    assert_eq!(world.gateway("same", get("http://example.org/", &[])).answer, NOT_FOUND);
}

fn path_order() {
    let world = at_same(&format!(
        "[{{matches: [{{path: {{value: /match/exact/}}}}], {V3}}},
          {{matches: [{{path: {{value: /match/exact/one}}}}], {V2}}},
          {{matches: [{{path: {{type: Exact, value: /match/exact/one}}}}], {V1}}},
          {{matches: [{{path: {{value: /match/prefix/one/any}}}}], {V2}}},
          {{matches: [{{path: {{value: /match/prefix/}}}}], {V3}}},
          {{matches: [{{path: {{value: /match/prefix/one}}}}], {V1}}}]"
    ));
    paths(
        &world,
        &[
            ("/match/exact/one", Some("v1")),
            ("/match/exact/one/any", Some("v2")),
            ("/match/exact", Some("v3")),
            ("/match/exact/two", Some("v3")),
            ("/match/prefix/one/any", Some("v2")),
            ("/match/prefix/one", Some("v1")),
            ("/match/prefix/any", Some("v3")),
            ("/match", None),
        ],
    );
}

fn exact_path() {
    let world = at_same(&format!(
        "[{{matches: [{{path: {{type: Exact, value: /one}}}}], {V1}}}, {{matches: [{{path: {{type: Exact, value: /two}}}}], {V2}}}]"
    ));
    paths(
        &world,
        &[
            ("/one", Some("v1")),
            ("/two", Some("v2")),
            ("/", None),
            ("/one/example", None),
            ("/two/", None),
            ("/Two", None),
        ],
    );
}

fn header_matching() {
    let world = at_same(&format!(
        "[{{matches: [{{headers: [{{name: version, value: one}}]}}], {V1}}},
          {{matches: [{{headers: [{{name: version, value: two}}]}}], {V2}}},
          {{matches: [{{headers: [{{name: version, value: two}}, {{name: color, value: orange}}]}}], {V1}}},
          {{matches: [{{headers: [{{name: color, value: blue}}]}}, {{headers: [{{name: color, value: green}}]}}], {V3}}}]"
    ));
    for (headers, want) in [
        (&[("version", "one")][..], Some("v1")),
        (&[("VERSION", "two")], Some("v2")),
        (&[("version", "two"), ("color", "orange")], Some("v1")),
        (&[("color", "blue")], Some("v3")),
        (&[("color", "green")], Some("v3")),
        (&[("color", "orange")], None),
        (&[("version", "One")], None),
        (&[], None),
    ] {
        let answer = world.gateway("same", get("http://any/", headers)).answer;
        assert_eq!(answer, want.map_or(NOT_FOUND, to), "{headers:?}");
    }
}

fn query_matching() {
    let world = at_same(&format!(
        "[{{matches: [{{queryParams: [{{name: animal, value: whale}}]}}], {V1}}},
          {{matches: [{{queryParams: [{{name: animal, value: dolphin}}]}}], {V2}}},
          {{matches: [{{queryParams: [{{name: animal, value: dolphin}}, {{name: color, value: blue}}]}}, {{queryParams: [{{name: ANIMAL, value: Whale}}]}}], {V3}}},
          {{matches: [{{path: {{value: /path1}}, queryParams: [{{name: animal, value: whale}}]}}], {V2}}},
          {{matches: [{{headers: [{{name: version, value: one}}], queryParams: [{{name: animal, value: whale}}]}}], {V3}}}]"
    ));
    for (target, headers, want) in [
        ("/?animal=whale", &[][..], Some("v1")),
        ("/?animal=dolphin", &[], Some("v2")),
        ("/?animal=dolphin&color=blue", &[], Some("v3")),
        ("/?ANIMAL=Whale", &[], Some("v3")),
        ("/?animal=whale&otherparam=irrelevant", &[], Some("v1")),
        ("/path1?animal=whale", &[], Some("v2")),
        ("/?animal=whale", &[("version", "one")], Some("v3")),
        ("/?animal=shark", &[], None),
        ("/?color=blue", &[], None),
        ("/?animal=Whale", &[], None),
        ("/", &[], None),
    ] {
        let answer = world.gateway("same", get(&format!("http://any{target}"), headers)).answer;
        assert_eq!(answer, want.map_or(NOT_FOUND, to), "{target}");
    }
}

fn method_matching() {
    let world = at_same(&format!(
        "[{{matches: [{{method: POST}}], {V1}}}, {{matches: [{{method: GET}}], {V2}}},
          {{matches: [{{path: {{value: /path1}}, method: GET}}], {V1}}},
          {{matches: [{{method: PUT, headers: [{{name: version, value: one}}]}}], {V2}}},
          {{matches: [{{path: {{value: /path5}}}}], {V1}}}, {{matches: [{{path: {{value: /path5}}, method: PATCH}}], {V2}}}]"
    ));
    for (method, path, headers, want) in [
        ("POST", "/", &[][..], Some("v1")),
        ("GET", "/", &[], Some("v2")),
        ("HEAD", "/", &[], None),
        ("GET", "/path1", &[], Some("v1")),
        ("PUT", "/", &[("version", "one")], Some("v2")),
        ("PUT", "/", &[], None),
        ("PATCH", "/path5", &[], Some("v2")),
        ("DELETE", "/path5", &[], Some("v1")),
    ] {
        let answer =
            world.gateway("same", request(method, &format!("http://any{path}"), headers)).answer;
        assert_eq!(answer, want.map_or(NOT_FOUND, to), "{method} {path}");
    }
}

fn hostname_intersection() {
    let gateway = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: narrow, namespace: infra}
spec:
  gatewayClassName: ringway
  listeners:
    - {name: exact, port: 80, protocol: HTTP, hostname: very.specific.com}
    - {name: wide, port: 80, protocol: HTTP, hostname: '*.wildcard.io'}
    - {name: other, port: 80, protocol: HTTP, hostname: '*.anotherwildcard.io'}
---
";
    let parent = "parentRefs: [{name: narrow}]";
    let rules = |path: &str, backend: &str| {
        format!("rules: [{{matches: [{{path: {{value: {path}}}}}], {backend}}}]")
    };
    let world = World::new(&[
        gateway.to_owned(),
        route("HTTPRoute", "specific", &format!("{{{parent}, hostnames: [non.matching.com, '*.nonmatchingwildcard.io', very.specific.com], {}}}", rules("/s1", V1))),
        route("HTTPRoute", "wildcard", &format!("{{{parent}, hostnames: [foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io, non.matching.com, wildcard.io], {}}}", rules("/s2", V2))),
        route("HTTPRoute", "any", &format!("{{{parent}, hostnames: ['*.anotherwildcard.io'], {}}}", rules("/s3", V3))),
        route("HTTPRoute", "none", &format!("{{{parent}, hostnames: [specific.but.wrong.com, wildcard.io], {}}}", rules("/s4", V1))),
    ].concat());
    for (target, want) in [
        ("http://very.specific.com/s1", Some("v1")),
        ("http://very.specific.com:1234/s1", Some("v1")),
        ("http://non.matching.com/s1", None),
        ("http://foo.nonmatchingwildcard.io/s1", None),
        ("http://foo.wildcard.io/s2", Some("v2")),
        ("http://foo.bar.wildcard.io/s2", Some("v2")),
        ("http://wildcard.io/s2", None),
        ("http://foo.anotherwildcard.io/s3", Some("v3")),
        ("http://foo.bar.anotherwildcard.io/s3", Some("v3")),
        ("http://anotherwildcard.io/s3", None),
        ("http://specific.but.wrong.com/s4", None),
        ("http://wildcard.io/s4", None),
    ] {
        assert_eq!(
            world.gateway("narrow", get(target, &[])).answer,
            want.map_or(NOT_FOUND, to),
            "{target}"
        );
    }
    assert_eq!(
        world.conditions("HTTPRoute", "none")[0],
        "Accepted=False/NoMatchingListenerHostname"
    );
}

fn listener_hostnames() {
    let at = |section: &str, backend: &str| {
        format!("{{parentRefs: [{{name: hosts, sectionName: {section}}}], rules: [{{{backend}}}]}}")
    };
    let world = World::new(
        &[
            route("HTTPRoute", "a", &at("exact", V1)),
            route("HTTPRoute", "b", &at("foo", V2)),
            route("HTTPRoute", "c", &at("wide", V3)),
        ]
        .concat(),
    );
    for (host, want) in [
        ("abc.foo.example.com", Some("v1")),
        ("x.foo.example.com", Some("v2")),
        ("foo.example.com", Some("v3")),
        ("bar.example.com", Some("v3")),
        ("example.com", None),
        ("no.match.org", None),
    ] {
        let answer = world.gateway("hosts", get(&format!("http://{host}/"), &[])).answer;
        assert_eq!(answer, want.map_or(NOT_FOUND, to), "{host}");
    }
}

fn listener_ports() {
    let world = World::new(&[
        route_in("web", "HTTPRoute", "both", "{parentRefs: [{name: all, namespace: infra}], rules: [{matches: [{path: {value: /both}}], backendRefs: [{name: far, port: 8080}]}]}"),
        route_in("web", "HTTPRoute", "alt", "{parentRefs: [{name: all, namespace: infra, port: 8080}], rules: [{matches: [{path: {value: /alt}}], backendRefs: [{name: far, port: 8080}]}]}"),
    ].concat());
    let ask = |port, path| {
        world.gateway_port("all", port, get(&format!("http://any{path}"), &[]), 0).answer
    };
    assert_eq!((ask(80, "/both"), ask(8080, "/both")), (to("far"), to("far")));
    assert_eq!((ask(80, "/alt"), ask(8080, "/alt")), (NOT_FOUND, to("far")));
}

fn listener_isolation() {
    let at = |section: &str, path: &str| {
        route(
            "HTTPRoute",
            section,
            &format!(
                "{{parentRefs: [{{name: hosts, sectionName: {section}}}], rules: [{{matches: [{{path: {{value: {path}}}}}], {V1}}}]}}"
            ),
        )
    };
    let world = World::new(
        &[at("empty", "/empty"), at("wide", "/wide"), at("foo", "/foo"), at("exact", "/exact")]
            .concat(),
    );
    for (host, own) in [
        ("bar.com", "/empty"),
        ("bar.example.com", "/wide"),
        ("bar.foo.example.com", "/foo"),
        ("abc.foo.example.com", "/exact"),
    ] {
        for path in ["/empty", "/wide", "/foo", "/exact"] {
            let want = if path == own { to("v1") } else { NOT_FOUND };
            assert_eq!(
                world.gateway("hosts", get(&format!("http://{host}{path}"), &[])).answer,
                want,
                "{host}{path}"
            );
        }
    }
}

fn cross_namespace() {
    let world = World::new(&route_in(
        "web",
        "HTTPRoute",
        "r",
        "{parentRefs: [{name: all, namespace: infra, sectionName: http}], rules: [{backendRefs: [{name: far, port: 8080}]}]}",
    ));
    assert_eq!(world.gateway("all", get("http://any/", &[])).answer, to("far"));
}

fn grant(from: &str, to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: grant, namespace: web}}
spec: {{from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {from}}}], to: [{{group: '', kind: Service, name: {to}}}]}}\n---\n"
    )
}

fn to_far(grants: &str) -> World {
    World::new(&format!(
        "{grants}{}",
        route(
            "HTTPRoute",
            "r",
            "{parentRefs: [{name: same}], rules: [{backendRefs: [{name: far, namespace: web, port: 8080}]}]}"
        )
    ))
}

fn reference_grant() {
    let world = to_far(&grant("infra", "far"));
    assert_eq!(world.gateway("same", get("http://any/", &[])).answer, to("far"));
}

fn invalid_reference_grant() {
    for grants in [grant("web", "far"), grant("infra", "near")] {
        let world = to_far(&grants);
        assert_eq!(world.gateway("same", get("http://any/", &[])).answer, BROKEN);
        assert_eq!(
            world.conditions("HTTPRoute", "r"),
            ["Accepted=True/Accepted", "ResolvedRefs=False/RefNotPermitted"]
        );
    }
}

fn partially_invalid() {
    let world = World::new(&route("HTTPRoute", "r", &format!(
        "{{parentRefs: [{{name: same}}], rules: [
          {{matches: [{{path: {{value: /v2}}}}], backendRefs: [{{name: far, namespace: web, port: 8080}}]}},
          {{matches: [{{path: {{value: /}}}}], {V1}}}]}}"
    )));
    paths(&world, &[("/", Some("v1"))]);
    assert_eq!(world.gateway("same", get("http://any/v2", &[])).answer, BROKEN);
    assert_eq!(world.conditions("HTTPRoute", "r")[1], "ResolvedRefs=False/RefNotPermitted");
}

fn broken_by(backend: &str, reason: &str) {
    let world = at_same(&format!("[{{backendRefs: [{backend}]}}]"));
    assert_eq!(world.gateway("same", get("http://any/", &[])).answer, BROKEN);
    assert_eq!(
        world.conditions("HTTPRoute", "r"),
        ["Accepted=True/Accepted".to_owned(), format!("ResolvedRefs=False/{reason}")]
    );
}

fn nonexistent_backend() {
    broken_by("{name: nonexistent, port: 8080}", "BackendNotFound");
}

fn unknown_kind() {
    broken_by(
        "{group: unknown.example.com, kind: NonExistent, name: v1, port: 8080}",
        "InvalidKind",
    );
}

fn cross_namespace_backend() {
    broken_by("{name: far, namespace: web, port: 8080}", "RefNotPermitted");
}

fn no_backends() {
    let world = at_same("[{matches: [{path: {value: /}}]}]");
    assert_eq!(world.gateway("same", get("http://any/", &[])).answer, BROKEN);
    assert_eq!(world.conditions("HTTPRoute", "r")[0], "Accepted=True/Accepted");
}

fn multiple_gateways() {
    let world = World::new(&route(
        "HTTPRoute",
        "r",
        &format!(
            "{{parentRefs: [{{name: same}}, {{name: all, sectionName: http}}], rules: [{{{V1}}}]}}"
        ),
    ));
    for gateway in ["same", "all"] {
        assert_eq!(world.gateway(gateway, get("http://any/", &[])).answer, to("v1"));
    }
    assert_eq!(world.gateway("hosts", get("http://any/", &[])).answer, NOT_FOUND);
}

/// With and without an address of its own; where its endpoints come from, the node decides.
fn service_types() {
    let world = at_same(&format!(
        "[{{matches: [{{path: {{value: /a}}}}], {V1}}}, {{matches: [{{path: {{value: /headless}}}}], {V3}}}]"
    ));
    paths(&world, &[("/a", Some("v1")), ("/headless", Some("v3"))]);
}

fn weight() {
    let world = at_same(
        "[{backendRefs: [{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}, {name: v3, port: 8080, weight: 0}]}]",
    );
    let shares = world.shares(|draw| world.gateway_port("same", 80, get("http://any/", &[]), draw));
    assert_eq!(shares, BTreeMap::from([(to("v1"), 70), (to("v2"), 30)]));
}

fn request_headers() {
    let world = at_same(&format!(
        "[{{matches: [{{path: {{value: /set}}}}], filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: X-Header-Set, value: new}}]}}}}], {V1}}},
          {{matches: [{{path: {{value: /add}}}}], filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{add: [{{name: X-Header-Add, value: added}}]}}}}], {V1}}},
          {{matches: [{{path: {{value: /remove}}}}], filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{remove: [X-Header-Remove]}}}}], {V1}}}]"
    ));
    let ask = |path: &str, headers: &[(&str, &str)], name: &str| {
        world.gateway("same", get(&format!("http://any{path}"), headers)).header(name)
    };
    assert_eq!(ask("/set", &[], "x-header-set").as_deref(), Some("new"));
    assert_eq!(ask("/set", &[("x-header-set", "old")], "x-header-set").as_deref(), Some("new"));
    assert_eq!(
        ask("/add", &[("x-header-add", "old")], "x-header-add").as_deref(),
        Some("old,added")
    );
    assert_eq!(ask("/remove", &[("x-header-remove", "old")], "x-header-remove"), None);
}

fn response_headers() {
    let world = at_same(&format!(
        "[{{filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: X-Set, value: s}}], add: [{{name: X-Add, value: a}}]}}}}], {V1}}}]"
    ));
    let asked = world.gateway("same", get("http://any/", &[]));
    assert_eq!((asked.answered("x-set"), asked.answered("x-add")), (Some("s"), Some("a")));
}

fn backend_request_headers() {
    let world = at_same(
        "[{backendRefs: [
            {name: v1, port: 8080, weight: 1, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: backend, value: one}]}}]},
            {name: v2, port: 8080, weight: 1, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: backend, value: two}]}}]}]}]",
    );
    for (draw, name, header) in [(0, "v1", "one"), (u64::MAX, "v2", "two")] {
        let asked = world.gateway_port("same", 80, get("http://any/", &[]), draw);
        assert_eq!(
            (asked.answer.clone(), asked.header("backend").as_deref()),
            (to(name), Some(header))
        );
    }
}

/// A redirect of the Gateway `all`, which listens on 80 and 8080: status and location.
fn redirected(filter: &str, port: u16, path: &str) -> (super::world::Answer, String) {
    let world = World::new(&route_in(
        "web",
        "HTTPRoute",
        "r",
        &format!(
            "{{parentRefs: [{{name: all, namespace: infra}}], rules: [{{matches: [{{path: {{value: /original-prefix}}}}, {{path: {{value: /}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{filter}}}}}]}}]}}"
        ),
    ));
    let world = match filter.contains("replacePrefixMatch") {
        true => World::new(&route_in(
            "web",
            "HTTPRoute",
            "r",
            &format!(
                "{{parentRefs: [{{name: all, namespace: infra}}], rules: [{{matches: [{{path: {{value: /original-prefix}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{filter}}}}}]}}]}}"
            ),
        )),
        false => world,
    };
    let asked = world.gateway_port("all", port, get(&format!("http://any.example{path}"), &[]), 0);
    let location = asked.answered("location").unwrap().to_owned();
    (asked.answer, location)
}

fn redirect_host_and_status() {
    use super::world::Answer::Status;
    assert_eq!(
        redirected("hostname: example.org", 80, "/p?q=1"),
        (Status(302), "http://example.org/p?q=1".into())
    );
    assert_eq!(
        redirected("hostname: example.org, statusCode: 301", 80, "/p"),
        (Status(301), "http://example.org/p".into())
    );
}

fn redirect_path() {
    // What the standard's own test replaces a prefix with, and with a whole path.
    assert_eq!(
        redirected("path: {type: ReplaceFullPath, replaceFullPath: /full}", 80, "/x?q=1").1,
        "http://any.example/full?q=1"
    );
    let one = "[{matches: [{path: {value: /original-prefix}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}}}]}]";
    let asked = at_same(one).gateway("same", get("http://any.example/original-prefix/lemon", &[]));
    assert_eq!(asked.answered("location"), Some("http://any.example/replacement-prefix/lemon"));
}

fn redirect_port() {
    assert_eq!(redirected("port: 8083", 80, "/").1, "http://any.example:8083/");
    assert_eq!(redirected("hostname: example.org", 80, "/").1, "http://example.org/");
    assert_eq!(redirected("hostname: example.org", 8080, "/").1, "http://example.org:8080/");
}

fn redirect_scheme() {
    assert_eq!(redirected("scheme: https", 80, "/").1, "https://any.example/");
    assert_eq!(redirected("scheme: https", 8080, "/").1, "https://any.example/");
}

fn redirect_port_and_scheme() {
    assert_eq!(redirected("scheme: https, port: 443", 80, "/").1, "https://any.example/");
    assert_eq!(redirected("scheme: https, port: 8443", 80, "/").1, "https://any.example:8443/");
    assert_eq!(redirected("scheme: http, port: 80", 8080, "/").1, "http://any.example/");
    assert_eq!(redirected("scheme: http", 8080, "/").1, "http://any.example/");
}

fn redirect_code(code: u16) {
    let (answer, _) = redirected(&format!("hostname: example.org, statusCode: {code}"), 80, "/");
    assert_eq!(answer, super::world::Answer::Status(code));
}

fn backend_redirect() {
    let world = at_same(
        "[{backendRefs: [{name: v1, port: 8080, filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org}}]}]}]",
    );
    let asked = world.gateway("same", get("http://any/p", &[]));
    assert_eq!(asked.answered("location"), Some("http://example.org/p"));
}

fn rewrite_host() {
    let world = at_same(&format!(
        "[{{filters: [{{type: URLRewrite, urlRewrite: {{hostname: one.example.org}}}}], {V1}}}]"
    ));
    let asked = world.gateway("same", get("http://rewrite.example/", &[]));
    let host = asked.request.uri.host().map(str::to_owned).or(asked.header("host"));
    assert_eq!(host.as_deref(), Some("one.example.org"));
}

fn rewritten(matched: &str, change: &str, path: &str) -> String {
    let world = at_same(&format!(
        "[{{matches: [{{path: {{value: {matched}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {change}}}}}], {V1}}}]"
    ));
    world.gateway("same", get(&format!("http://any{path}"), &[])).request.uri.path().to_owned()
}

fn rewrite_path() {
    let prefix = |to: &str| format!("{{type: ReplacePrefixMatch, replacePrefixMatch: {to}}}");
    assert_eq!(rewritten("/prefix/one", &prefix("/one"), "/prefix/one/two"), "/one/two");
    assert_eq!(rewritten("/strip-prefix", &prefix("/"), "/strip-prefix/three"), "/three");
    assert_eq!(rewritten("/strip-prefix", &prefix("/"), "/strip-prefix"), "/");
    assert_eq!(rewritten("/", &prefix("/one"), "/two"), "/one/two");
    assert_eq!(
        rewritten("/full", "{type: ReplaceFullPath, replaceFullPath: /one}", "/full/two"),
        "/one"
    );
}

fn backend_rewrite() {
    let world = at_same(
        "[{matches: [{path: {value: /old}}], backendRefs: [{name: v1, port: 8080, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]}]}]",
    );
    assert_eq!(world.gateway("same", get("http://any/old/x", &[])).request.uri.path(), "/new/x");
}

fn mirrored(filters: &str) -> Vec<u32> {
    let world = at_same(&format!("[{{filters: [{filters}], {V1}}}]"));
    assert_eq!(
        world.gateway("same", get("http://any/", &[])).answer,
        to("v1"),
        "the request itself goes on"
    );
    let rule = only_rule(&world);
    let mut copies: BTreeMap<String, u32> = BTreeMap::new();
    for hundredth in 0..100_u64 {
        let draw = u64::MAX / 100 * hundredth + u64::MAX / 200;
        for mirror in mirrors(&rule.filters, || draw) {
            *copies.entry(format!("{:?}", mirror.backend.target)).or_default() += 1;
        }
    }
    copies.into_values().collect()
}

fn mirror() {
    assert_eq!(
        mirrored("{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}}}"),
        [100]
    );
    assert!(
        mirrored("{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 8080}}}")
            .is_empty()
    );
}

fn several_mirrors() {
    assert_eq!(
        mirrored(
            "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}}}, {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 8080}}}"
        ),
        [100, 100]
    );
}

fn percentage_mirror() {
    assert_eq!(
        mirrored(
            "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}, percent: 20}}, {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 8080}, fraction: {numerator: 25, denominator: 50}}}"
        ),
        [20, 50]
    );
}

fn timeout_request() {
    let limit = |text: &str| {
        only_rule(&at_same(&format!("[{{timeouts: {{request: {text}}}, {V1}}}]"))).timeouts.request
    };
    assert_eq!(limit("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(limit("0s"), None);
}

fn timeout_backend_request() {
    let limit = |text: &str| {
        only_rule(&at_same(&format!("[{{timeouts: {{backendRequest: {text}}}, {V1}}}]")))
            .timeouts
            .backend_request
    };
    assert_eq!(limit("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(limit("0s"), None);
}

fn retry() {
    let world = at_same(&format!(
        "[{{retry: {{attempts: 3, backoff: 50ms, codes: [500, 502, 503, 504]}}, {V1}}}]"
    ));
    let retry = only_rule(&world).retry.clone().unwrap();
    assert_eq!((retry.attempts, retry.backoff), (3, Some(Duration::from_millis(50))));
    assert_eq!(retry.codes, [500, 502, 503, 504]);
}

fn retry_connection_error() {
    let world = at_same(&format!("[{{retry: {{attempts: 3}}, {V1}}}]"));
    let retry = only_rule(&world).retry.clone().unwrap();
    assert_eq!((retry.attempts, retry.codes.len()), (3, 0));
}

/// The rule's before the backend's; of each rule its own.
fn session_persistence() {
    let rule = |path: &str| {
        format!("{{matches: [{{path: {{value: {path}}}}}], sessionPersistence: {{}}, {V1}}}")
    };
    let world = at_same(&format!("[{}, {}]", rule("/a"), rule("/b")));
    assert_eq!(world.conditions("HTTPRoute", "r")[0], "Accepted=True/Accepted");
    let of = |path: &str| {
        let parts = get(&format!("http://any{path}"), &[]);
        let head = RequestHead::read(&parts, PathMode::default()).unwrap();
        let gateway = GatewayName { namespace: "infra".into(), name: "same".into() };
        let listener = world.tables.for_listener(&gateway, 80, head.host()).unwrap();
        listener.routes().find(&head).unwrap().session().unwrap()
    };
    let [a, b] = ["/a/x", "/b"].map(of);
    let SessionCarrier::Cookie { name, path, permanent } = &a.by else { panic!("{a:?}") };
    assert_eq!((path.as_deref(), *permanent), (Some("/a"), false));
    let SessionCarrier::Cookie { name: other, path, .. } = &b.by else { panic!("{b:?}") };
    assert_eq!(path.as_deref(), Some("/b"));
    assert!(name != other && a.scope != b.scope, "{a:?} {b:?}");
}

fn permanent_cookie() {
    let world = at_same(&format!(
        "[{{sessionPersistence: {{absoluteTimeout: 5m, cookieConfig: {{lifetimeType: Permanent}}}}, {V1}}}]"
    ));
    let session = only_rule(&world).session.as_ref().unwrap();
    let endpoint = "10.0.0.7:8080".parse().unwrap();
    let (_, cookie) = Session::told(session, None, endpoint, 0, false).unwrap();
    assert!(cookie.to_str().unwrap().ends_with("; Max-Age=300"), "{cookie:?}");
}

fn retry_constraint() {
    let policy = "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {name: p, namespace: infra}
spec: {targetRefs: [{group: '', kind: Service, name: v1}], retryConstraint: {budget: {percent: 10, interval: 2s}}}\n---\n";
    let rules = format!("[{{retry: {{attempts: 3}}, {V1}}}]");
    let routes =
        route("HTTPRoute", "r", &format!("{{parentRefs: [{{name: same}}], rules: {rules}}}"));
    let world = World::new(&(policy.to_owned() + &routes));
    assert_eq!(world.conditions("XBackendTrafficPolicy", "p"), ["Accepted=True/Accepted"]);
    let service =
        ServiceName { namespace: "infra".into(), hostname: "v1.infra.svc.cluster.local".into() };
    let place = Place { service: Some((&service, 8080)), ..Place::default() };
    let budget = world.tables.policies().in_force(&place).traffic().retry_budget.unwrap();
    assert_eq!((budget.percent, budget.interval), (10.0, Duration::from_secs(2)));
}

fn cors() {
    let world = at_same(&format!(
        "[{{matches: [{{path: {{value: /cors}}}}], filters: [{{type: CORS, cors: {{allowOrigins: ['https://www.foo.com', 'https://*.bar.com', 'https://port.com:8443'], allowMethods: [GET, OPTIONS], allowHeaders: [x-header-1], exposeHeaders: [x-header-3], allowCredentials: true, maxAge: 3600}}}}], {V1}}},
          {{matches: [{{path: {{value: /any}}}}], filters: [{{type: CORS, cors: {{allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']}}}}], {V1}}}]"
    ));
    let preflight = |path: &str, origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "x-header-1"),
        ];
        world.gateway("same", request("OPTIONS", &format!("http://any{path}"), &headers))
    };
    const ORIGIN: &str = "access-control-allow-origin";
    for origin in
        ["https://www.foo.com", "https://a.bar.com", "https://a.b.bar.com", "https://port.com:8443"]
    {
        let asked = preflight("/cors", origin);
        assert!(matches!(asked.answer, super::world::Answer::Status(200 | 204)));
        assert_eq!(asked.answered(ORIGIN), Some(origin));
        assert_eq!(asked.answered("access-control-allow-credentials"), Some("true"));
        assert_eq!(asked.answered("access-control-max-age"), Some("3600"));
        let simple = world.gateway("same", get("http://any/cors", &[("origin", origin)]));
        assert_eq!((simple.answer.clone(), simple.answered(ORIGIN)), (to("v1"), Some(origin)));
        assert_eq!(simple.answered("access-control-expose-headers"), Some("x-header-3"));
    }
    for origin in ["https://foo.com", "http://www.foo.com", "https://bar.com", "https://port.com"] {
        assert_eq!(preflight("/cors", origin).answered(ORIGIN), None, "{origin}");
        let simple = world.gateway("same", get("http://any/cors", &[("origin", origin)]));
        assert_eq!((simple.answer.clone(), simple.answered(ORIGIN)), (to("v1"), None), "{origin}");
    }
    assert!(preflight("/any", "https://any.org").answered(ORIGIN).is_some());
}

fn named_rule() {
    let world = at_same(&format!("[{{name: named-rule, {V1}}}]"));
    assert_eq!(only_rule(&world).name.as_deref(), Some("named-rule"));
    paths(&world, &[("/", Some("v1"))]);
}

/// A Secret with a certificate, and a Gateway with listeners for HTTPS.
pub(super) fn https_gateway(listeners: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["example.org".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let indented = |pem: String| pem.trim_end().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: infra}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---
apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: secure, namespace: infra}}\nspec:\n  gatewayClassName: ringway\n  listeners: [{listeners}]\n---\n",
        indented(certificate.pem()),
        indented(key.serialize_pem()),
    )
}

const CERTIFICATE: &str = "tls: {certificateRefs: [{name: cert}]}";

fn https_listener() {
    use ringway_http::model::ListenerTls;
    let gateway = https_gateway(&format!(
        "{{name: https, port: 443, protocol: HTTPS, hostname: example.org, {CERTIFICATE}}}"
    ));
    let world = World::new(
        &(gateway
            + &route(
                "HTTPRoute",
                "r",
                &format!("{{parentRefs: [{{name: secure}}], rules: [{{{V1}}}]}}"),
            )),
    );
    let listener = world.mesh.http.listeners.iter().find(|each| each.port == 443).unwrap();
    assert!(matches!(listener.tls, Some(ListenerTls::Terminate { .. })), "{:?}", listener.tls);
    assert_eq!(world.listener("secure", "https")[2], "ResolvedRefs=True/ResolvedRefs");
    assert_eq!(
        world.gateway_port("secure", 443, get("https://example.org/", &[]), 0).answer,
        to("v1")
    );
}

fn misdirected() {
    use ringway_http::tables::Misdirected;
    let listeners = [
        "{name: catch-all, port: 443, protocol: HTTPS, ",
        "{name: org, port: 443, protocol: HTTPS, hostname: example.org, ",
        "{name: second, port: 443, protocol: HTTPS, hostname: second-example.org, ",
        "{name: wild, port: 443, protocol: HTTPS, hostname: '*.wildcard.org', ",
    ]
    .map(|listener| format!("{listener}{CERTIFICATE}}}"));
    let world = World::new(&https_gateway(&listeners.join(", ")));
    let gateway =
        ringway_http::model::GatewayName { namespace: "infra".into(), name: "secure".into() };
    let port = world.tables.for_port(&gateway, 443).unwrap();
    let check = |server_name: &str, host: &str| {
        port.check(port.by_server_name(Some(server_name)).unwrap(), host)
    };
    assert_eq!(check("example.org", "example.org"), Ok(()));
    assert_eq!(check("example.org", "second-example.org"), Err(Misdirected::OtherListener));
    assert_eq!(check("a.wildcard.org", "b.wildcard.org"), Ok(()));
    assert_eq!(check("unknown.org", "example.org"), Err(Misdirected::OtherListener));
    assert_eq!(check("unknown.org", "other-unknown.org"), Ok(()));
}

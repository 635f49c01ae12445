//! What is addressed to a Service, at its waypoint.

use std::collections::BTreeMap;

use super::world::{Answer, NOT_FOUND, World, get, request, route, route_in, to};
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("MeshBasic", basic),
    row("MeshHTTPRouteSimpleSameNamespace", simple),
    row("MeshTrafficSplit", traffic_split),
    row("MeshFrontend", frontend),
    row("MeshFrontendHostname", frontend_hostname),
    row("MeshPorts", ports),
    row("MeshConsumerRoute", consumer_route),
    row("MeshHTTPRouteMatching", matching),
    row("MeshHTTPRouteQueryParamMatching", query_matching),
    row("MeshHTTPRouteRequestHeaderModifier", request_headers),
    row("MeshHTTPRouteRewritePath", rewrite_path),
    row("MeshHTTPRouteRedirectHostAndStatus", redirect_host),
    row("MeshHTTPRouteRedirectPath", redirect_path),
    row("MeshHTTPRouteRedirectPort", redirect_port),
    row("MeshHTTPRouteSchemeRedirect", redirect_scheme),
    row("MeshHTTPRoute303Redirect", || redirect_code(303)),
    row("MeshHTTPRoute307Redirect", || redirect_code(307)),
    row("MeshHTTPRoute308Redirect", || redirect_code(308)),
    row("MeshHTTPRouteWeight", weight),
    row("MeshHTTPRouteNamedRule", named_rule),
    row("MeshGRPCRouteWeight", grpc_weight),
    row("MeshGRPCRouteRequestHeaderModifier", grpc_headers),
];

const PARENT: &str = "parentRefs: [{group: '', kind: Service, name: echo, port: 80}]";

/// An HTTPRoute of port 80 of the Service `echo`.
fn of_echo(rules: &str) -> World {
    World::new(&route("HTTPRoute", "r", &format!("{{{PARENT}, rules: {rules}}}")))
}

fn ask(world: &World, target: &str) -> Answer {
    world.service("echo", 80, get(target, &[])).answer
}

fn basic() {
    assert_eq!(ask(&World::new(""), "http://echo/"), Answer::PassedThrough);
}

fn simple() {
    assert_eq!(
        ask(&of_echo("[{backendRefs: [{name: v1, port: 8080}]}]"), "http://echo/"),
        to("v1")
    );
}

fn traffic_split() {
    let world = of_echo(
        "[{matches: [{path: {type: Exact, value: /v1}}], backendRefs: [{name: v1, port: 8080}]},
          {matches: [{path: {type: Exact, value: /v2}}], backendRefs: [{name: v2, port: 8080}]}]",
    );
    for (path, want) in [("/v1", to("v1")), ("/v2", to("v2")), ("/v3", NOT_FOUND), ("/", NOT_FOUND)]
    {
        assert_eq!(ask(&world, &format!("http://echo{path}")), want, "{path}");
    }
}

/// Only what is addressed to the Service; who connects to a Pod is not asked here at all.
fn frontend() {
    let world = of_echo(
        "[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-set, value: s}]}}], backendRefs: [{name: v1, port: 8080}]}]",
    );
    assert_eq!(world.service("echo", 80, get("http://echo/", &[])).answered("x-set"), Some("s"));
    assert_eq!(world.service("v1", 8080, get("http://v1/", &[])).answer, Answer::PassedThrough);
}

fn frontend_hostname() {
    let world = of_echo("[{backendRefs: [{name: v1, port: 8080}]}]");
    assert_eq!(ask(&world, "http://some.other.host/"), to("v1"), "the address decides");
    assert_eq!(
        world.service("v2", 8080, get("http://echo.infra.svc/", &[])).answer,
        Answer::PassedThrough
    );
}

fn ports() {
    let one = of_echo("[{backendRefs: [{name: v1, port: 8080}]}]");
    let every = World::new(&route(
        "HTTPRoute",
        "r",
        "{parentRefs: [{group: '', kind: Service, name: echo}], rules: [{backendRefs: [{name: v1, port: 8080}]}]}",
    ));
    let at = |world: &World, port| world.service("echo", port, get("http://echo/", &[])).answer;
    assert_eq!((at(&one, 80), at(&one, 8080)), (to("v1"), Answer::PassedThrough));
    assert_eq!((at(&every, 80), at(&every, 8080)), (to("v1"), to("v1")));
}

fn consumer_route() {
    let world = World::new(&route_in(
        "web",
        "HTTPRoute",
        "r",
        "{parentRefs: [{group: '', kind: Service, name: echo, namespace: infra}], rules: [{backendRefs: [{name: far, port: 8080}]}]}",
    ));
    let from =
        |namespace| world.service_from(namespace, "echo", 80, get("http://echo/", &[]), 0).answer;
    assert_eq!(
        (from("web"), from("infra"), from("third")),
        (to("far"), Answer::PassedThrough, Answer::PassedThrough)
    );
}

fn matching() {
    let world = of_echo(
        "[{matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}], backendRefs: [{name: v1, port: 8080}]},
          {matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}], method: POST}], backendRefs: [{name: v2, port: 8080}]}]",
    );
    assert_eq!(
        (
            ask(&world, "http://echo/"),
            ask(&world, "http://echo/v2/x"),
            ask(&world, "http://echo/v2x")
        ),
        (to("v1"), to("v2"), to("v1"))
    );
    let posted = world.service("echo", 80, request("POST", "http://echo/", &[("version", "two")]));
    assert_eq!(posted.answer, to("v2"));
}

fn query_matching() {
    let world = of_echo(
        "[{matches: [{queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: v1, port: 8080}]}]",
    );
    assert_eq!(
        (ask(&world, "http://echo/?animal=whale"), ask(&world, "http://echo/?animal=Whale")),
        (to("v1"), NOT_FOUND)
    );
}

fn request_headers() {
    let world = of_echo(
        "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: '1'}], remove: [b]}}], backendRefs: [{name: v1, port: 8080}]}]",
    );
    let asked = world.service("echo", 80, get("http://echo/", &[("a", "0"), ("b", "0")]));
    assert_eq!((asked.header("a").as_deref(), asked.header("b")), (Some("1"), None));
}

fn rewrite_path() {
    let world = of_echo(
        "[{matches: [{path: {value: /prefix}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], backendRefs: [{name: v1, port: 8080}]}]",
    );
    assert_eq!(
        world.service("echo", 80, get("http://echo/prefix/x", &[])).request.uri.path(),
        "/x"
    );
}

fn location(redirect: &str) -> (Answer, String) {
    let world = of_echo(&format!(
        "[{{filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}]"
    ));
    let asked = world.service("echo", 80, get("http://echo/p?q=1", &[]));
    (asked.answer.clone(), asked.answered("location").unwrap().to_owned())
}

fn redirect_host() {
    assert_eq!(
        location("hostname: example.org, statusCode: 301"),
        (Answer::Status(301), "http://example.org/p?q=1".into())
    );
}

fn redirect_path() {
    assert_eq!(
        location("path: {type: ReplaceFullPath, replaceFullPath: /full}").1,
        "http://echo/full?q=1"
    );
}

fn redirect_port() {
    assert_eq!(location("port: 8083").1, "http://echo:8083/p?q=1");
}

fn redirect_scheme() {
    assert_eq!(location("scheme: https").1, "https://echo/p?q=1");
}

fn redirect_code(code: u16) {
    assert_eq!(
        location(&format!("hostname: example.org, statusCode: {code}")).0,
        Answer::Status(code)
    );
}

fn weight() {
    let world = of_echo(
        "[{backendRefs: [{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}]}]",
    );
    let shares = world
        .shares(|draw| world.service_from("infra", "echo", 80, get("http://echo/", &[]), draw));
    assert_eq!(shares, BTreeMap::from([(to("v1"), 70), (to("v2"), 30)]));
}

fn named_rule() {
    let world = of_echo("[{name: named, backendRefs: [{name: v1, port: 8080}]}]");
    assert_eq!(world.tables.rules()[0].rule.name.as_deref(), Some("named"));
}

fn grpc_weight() {
    let world = World::new(&route(
        "GRPCRoute",
        "r",
        &format!(
            "{{{PARENT}, rules: [{{backendRefs: [{{name: v1, port: 8080, weight: 20}}, {{name: v2, port: 8080, weight: 80}}]}}]}}"
        ),
    ));
    let call = || request("POST", "http://echo/a.B/C", &[("content-type", "application/grpc")]);
    let shares = world.shares(|draw| world.service_from("infra", "echo", 80, call(), draw));
    assert_eq!(shares, BTreeMap::from([(to("v1"), 20), (to("v2"), 80)]));
}

fn grpc_headers() {
    let world = World::new(&route(
        "GRPCRoute",
        "r",
        &format!(
            "{{{PARENT}, rules: [{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: a, value: '1'}}]}}}}], backendRefs: [{{name: v1, port: 8080}}]}}]}}"
        ),
    ));
    let asked = world.service(
        "echo",
        80,
        request("POST", "http://echo/a.B/C", &[("content-type", "application/grpc")]),
    );
    assert_eq!(asked.header("a").as_deref(), Some("1"));
}

//! The conformance tests of Gateway API 1.6 that say which rule a request meets. Their names are the standard's.

use super::build::{
    at_port, backend, backend_of, compile, consumers, gateway, http_listener, listener, of_kind,
    on, request, route, rule, service, to, to_port,
};
use crate::model::{Listener, ListenerProtocol, Parent, Route, RouteKind};
use crate::tables::{Attached, Misdirected, Tables};

/// One listener on port 80 for all hosts, and routes on it.
fn gateway_with(routes: &[(&str, &[&str], &[crate::model::Rule])]) -> Tables {
    let routes = routes.iter().map(|(name, hosts, rules)| route(name, &[on("http")], hosts, rules));
    compile(vec![http_listener("http", 80, "")], routes.collect())
}

fn check(tables: &Tables, test: &str, rows: &[(&str, &str)]) {
    for (request, want) in rows {
        assert_eq!(at_port(tables, 80, request), *want, "{test}: {request}");
    }
}

#[test]
fn http_route_simple_same_namespace() {
    let tables = gateway_with(&[("simple", &[], &[rule(&[], "v1")])]);
    check(
        &tables,
        "HTTPRouteSimpleSameNamespace",
        &[("GET example.com/", "v1"), ("POST other/x", "v1")],
    );
}

#[test]
fn http_route_matching() {
    let rules = [rule(&["/*", "version:one"], "v1"), rule(&["/v2*", "version:two"], "v2")];
    let tables = gateway_with(&[("matching", &[], &rules)]);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteMatching", &[
        ("GET e/",                       "v1"),
        ("GET e/example",                "v1"),
        ("GET e/ version:one",           "v1"),
        ("GET e/v2",                     "v2"),
        ("GET e/v2/example",             "v2"),
        ("GET e/ version:two",           "v2"),
        ("GET e/v2/",                    "v2"),
        ("GET e/v2example",              "v1"),
        ("GET e/foo/v2/example",         "v1"),
    ]);
}

#[test]
fn http_route_matching_across_routes() {
    let tables = gateway_with(&[
        ("part1", &["example.com", "example.net"], &[rule(&["/*", "version:one"], "v1")]),
        ("part2", &["example.com"], &[rule(&["/v2*", "version:two"], "v2")]),
    ]);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteMatchingAcrossRoutes", &[
        ("GET example.com/",                 "v1"),
        ("GET example.com/example",          "v1"),
        ("GET example.net/example",          "v1"),
        ("GET example.com/example version:one", "v1"),
        ("GET example.com/v2",               "v2"),
        ("GET example.net/v2",               "v1"),
        ("GET example.com/v2/example",       "v2"),
        ("GET example.com/ version:two",     "v2"),
        ("GET example.org/",                 "404"),
    ]);
}

#[test]
fn http_route_path_match_order() {
    let rules = [
        rule(&["/match/exact/one*"], "v3"),
        rule(&["/match/exact*"], "v2"),
        rule(&["/match/exact/one"], "v1"),
        rule(&["/match/prefix/*"], "v1"),
        rule(&["/match/prefix/one/*"], "v2"),
        rule(&["/match*"], "v3"),
    ];
    let tables = gateway_with(&[("order", &[], &rules)]);
    #[rustfmt::skip]
    check(&tables, "HTTPRoutePathMatchOrder", &[
        ("GET e/match/exact/one",     "v1"),
        ("GET e/match/exact/one/two", "v3"),
        ("GET e/match/exact",         "v2"),
        ("GET e/match/prefix/one",    "v2"),
        ("GET e/match/prefix/one/x",  "v2"),
        ("GET e/match/prefix/two",    "v1"),
        ("GET e/match/prefix",        "v1"),
        ("GET e/match/prefixone",     "v3"),
        ("GET e/match/any",           "v3"),
        ("GET e/other",               "404"),
    ]);
}

#[test]
fn http_route_exact_path_matching() {
    let tables = gateway_with(&[("exact", &[], &[rule(&["/one"], "v1"), rule(&["/two"], "v2")])]);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteExactPathMatching", &[
        ("GET e/one",         "v1"),
        ("GET e/two",         "v2"),
        ("GET e/one?a=b",     "v1"),
        ("GET e/",            "404"),
        ("GET e/one/example", "404"),
        ("GET e/two/",        "404"),
        ("GET e/Two",         "404"),
    ]);
}

#[test]
fn http_route_header_matching() {
    let rules = [
        rule(&["version:one"], "v1"),
        rule(&["version:two"], "v2"),
        rule(&["version:two color:orange"], "v1"),
        rule(&["color:blue", "color:green"], "v1"),
        rule(&["color:red", "color:yellow"], "v2"),
        rule(&["many:a,b many:ignored"], "v3"),
    ];
    let tables = gateway_with(&[("headers", &[], &rules)]);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteHeaderMatching", &[
        ("GET e/ version:one",              "v1"),
        ("GET e/ Version:two",              "v2"),
        ("GET e/ version:two color:orange", "v1"),
        ("GET e/ version:two color:blue",   "v2"),
        ("GET e/ color:green",              "v1"),
        ("GET e/ color:yellow",             "v2"),
        ("GET e/ color:purple",             "404"),
        ("GET e/ version:Two",              "404"),
        ("GET e/ version:twoplus",          "404"),
        ("GET e/",                          "404"),
        // RFC 9110 5.2; and of two of one name in a match, the first counts.
        ("GET e/ many:a many:b",            "v3"),
        ("GET e/ many:b many:a",            "404"),
    ]);
}

#[test]
fn http_route_query_param_matching() {
    let rules = [
        rule(&["?animal=whale"], "v1"),
        rule(&["?animal=dolphin"], "v2"),
        rule(&["?animal=dolphin ?color=blue"], "v3"),
        rule(&["?ANIMAL=Whale"], "v3"),
        rule(&["/path1* ?animal=whale", "/path2* version:one"], "v1"),
        rule(&["/path3* ?animal=shark", "/path4*"], "v1"),
        rule(&["/path5* ?animal=hydra"], "v1"),
        rule(&["/path5* version:four"], "v3"),
    ];
    let tables = gateway_with(&[("query", &[], &rules)]);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteQueryParamMatching", &[
        ("GET e/?animal=whale",                    "v1"),
        ("GET e/?animal=dolphin",                  "v2"),
        ("GET e/?animal=whale&otherparam=irrelevant", "v1"),
        ("GET e/?animal=dolphin&color=blue",       "v3"),
        ("GET e/?ANIMAL=Whale",                    "v3"),
        ("GET e/?animal=Whale",                    "404"),
        ("GET e/?animal=whaledolphin",             "404"),
        ("GET e/?color=blue",                      "404"),
        ("GET e/?animal=dog",                      "404"),
        ("GET e/",                                 "404"),
        ("GET e/path1?animal=whale",               "v1"),
        ("GET e/path1?animal=shark",               "404"),
        ("GET e/path2 version:one",                "v1"),
        ("GET e/path3?animal=shark",               "v1"),
        ("GET e/path4/x",                          "v1"),
        // Headers go before parameters; the path goes before both.
        ("GET e/path5?animal=hydra version:four",  "v3"),
        // Of two in the request, the first counts.
        ("GET e/?animal=whale&animal=dolphin",     "v1"),
    ]);
}

#[test]
fn http_route_method_matching() {
    let rules = [
        rule(&["POST"], "v1"),
        rule(&["GET"], "v2"),
        rule(&["/path1* GET"], "v1"),
        rule(&["PUT version:one"], "v2"),
        rule(&["/path2* POST version:two"], "v3"),
        rule(&["/path3* PATCH", "/path4* version:three"], "v1"),
        rule(&["/path5*"], "v1"),
        rule(&["/path5* PATCH"], "v2"),
        rule(&["/path5* version:four"], "v3"),
    ];
    let tables = gateway_with(&[("methods", &[], &rules)]);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteMethodMatching", &[
        ("POST e/",                        "v1"),
        ("GET e/",                         "v2"),
        ("HEAD e/",                        "404"),
        ("GET e/path1",                    "v1"),
        ("PUT e/ version:one",             "v2"),
        ("PUT e/",                         "404"),
        ("POST e/path2 version:two",       "v3"),
        ("PATCH e/path3",                  "v1"),
        ("DELETE e/path4 version:three",   "v1"),
        ("DELETE e/path5",                 "v1"),
        ("PATCH e/path5",                  "v2"),
        ("PATCH e/path5 version:four",     "v2"),
        ("PUT e/path5 version:four",       "v3"),
    ]);
}

#[test]
fn expressions_go_between_prefixes_and_everything() {
    let rules = [
        rule(&["/*"], "every"),
        rule(&["~/a/.*"], "short"),
        rule(&["~/a/[0-9]+"], "long"),
        rule(&["/a/1"], "exact"),
        rule(&["/a/b*"], "prefix"),
    ];
    let tables = gateway_with(&[("expressions", &[], &rules)]);
    #[rustfmt::skip]
    check(&tables, "RegularExpression", &[
        ("GET e/a/1",    "exact"),
        ("GET e/a/2",    "long"),
        ("GET e/a/2x",   "short"),
        ("GET e/a/b/2",  "prefix"),
        ("GET e/x/a/2",  "every"),
    ]);
}

#[test]
fn older_routes_and_earlier_rules_win() {
    let tables = gateway_with(&[
        ("z-older", &[], &[rule(&["/x*"], "v1"), rule(&["/x*"], "v2")]),
        ("a-younger", &[], &[rule(&["/x*"], "v3"), rule(&["/x* a:b"], "v4")]),
    ]);
    check(&tables, "age", &[("GET e/x", "v1"), ("GET e/x a:b", "v4")]);
}

#[test]
fn http_route_hostname_intersection() {
    let listeners = vec![
        http_listener("l1", 80, "very.specific.com"),
        http_listener("l2", 80, "*.wildcard.io"),
        http_listener("l3", 80, "*.anotherwildcard.io"),
    ];
    let hosts = |name, listener, hosts: &[&str], backend: &str| {
        route(name, &[on(listener)], hosts, &[rule(&["/s1*", "/s2*", "/s3*", "/s4*"], backend)])
    };
    let routes = vec![
        hosts(
            "specific-host",
            "l1",
            &["non.matching.com", "*.nonmatchingwildcard.io", "very.specific.com"],
            "v1",
        ),
        hosts(
            "wildcard-listener",
            "l2",
            &[
                "non.matching.com",
                "wildcard.io",
                "foo.wildcard.io",
                "bar.wildcard.io",
                "foo.bar.wildcard.io",
            ],
            "v2",
        ),
        hosts("wildcard-match", "l3", &["*.anotherwildcard.io"], "v3"),
        hosts("none", "l1", &["specific.but.wrong.com", "wildcard.io"], "v4"),
    ];
    let tables = compile(listeners, routes);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteHostnameIntersection", &[
        ("GET very.specific.com/s1",            "v1"),
        ("GET VERY.specific.com:1234/s1",       "v1"),
        ("GET very.specific.com./s1",           "v1"),
        ("GET non.matching.com/s1",             "404"),
        ("GET foo.nonmatchingwildcard.io/s1",   "404"),
        ("GET very.specific.com/non-matching",  "404"),
        ("GET foo.wildcard.io/s2",              "v2"),
        ("GET bar.wildcard.io:8080/s2",         "v2"),
        ("GET foo.bar.wildcard.io/s2",          "v2"),
        ("GET foo.specific.com/s2",             "404"),
        ("GET wildcard.io/s2",                  "404"),
        ("GET baz.wildcard.io/s2",              "404"),
        ("GET one.anotherwildcard.io/s3",       "v3"),
        ("GET one.two.three.anotherwildcard.io/s3", "v3"),
        ("GET anotherwildcard.io/s3",           "404"),
        ("GET specific.but.wrong.com/s4",       "404"),
        ("GET wildcard.io/s4",                  "404"),
    ]);
}

#[test]
fn hosts_of_routes_go_from_exact_to_all_and_fall_back_within_a_listener() {
    let tables = gateway_with(&[
        ("all", &[], &[rule(&["/*"], "all"), rule(&["/exact/longer"], "all")]),
        ("wide", &["*.example.com"], &[rule(&["/wide*"], "wide")]),
        ("wider", &["*.com"], &[rule(&["/wide*", "/wider*"], "wider")]),
        ("one", &["a.example.com"], &[rule(&["/exact*"], "one")]),
    ]);
    #[rustfmt::skip]
    check(&tables, "hosts", &[
        ("GET a.example.com/exact",        "one"),
        ("GET a.example.com/exact/longer", "one"),
        ("GET a.example.com/wide",         "wide"),
        ("GET a.example.com/wider",        "wider"),
        ("GET a.example.com/none",         "all"),
        ("GET example.com/wide",           "wider"),
        ("GET com/wide",                   "all"),
        ("GET [::1]:80/x",                 "all"),
    ]);
}

#[test]
fn http_route_listener_hostname_and_port_matching() {
    let listeners = vec![
        http_listener("l1", 80, "bar.com"),
        http_listener("l2", 80, "foo.bar.com"),
        http_listener("l3", 80, "*.bar.com"),
        http_listener("l4", 80, "*.foo.com"),
        http_listener("other-port", 8080, ""),
    ];
    let to = |name, listeners: &[&str], backend: &str| {
        let parents: Vec<Parent> = listeners.iter().map(|it| on(it)).collect();
        route(name, &parents, &[], &[rule(&[], backend)])
    };
    let routes = vec![
        to("backend-v1", &["l1"], "v1"),
        to("backend-v2", &["l2"], "v2"),
        to("backend-v3", &["l3", "l4"], "v3"),
        to("backend-v4", &["other-port"], "v4"),
    ];
    let tables = compile(listeners, routes);
    #[rustfmt::skip]
    check(&tables, "HTTPRouteListenerHostnameMatching", &[
        ("GET bar.com/",             "v1"),
        ("GET foo.bar.com/",         "v2"),
        ("GET baz.bar.com/",         "v3"),
        ("GET boo.bar.com/",         "v3"),
        ("GET multiple.prefixes.bar.com/", "v3"),
        ("GET multiple.prefixes.foo.com/", "v3"),
        ("GET foo.com/",             "404"),
        ("GET no.matching.host/",    "404"),
    ]);
    assert_eq!(at_port(&tables, 8080, "GET bar.com/"), "v4", "HTTPRouteListenerPortMatching");
    assert_eq!(at_port(&tables, 8081, "GET bar.com/"), "404", "HTTPRouteListenerPortMatching");
    assert_eq!(tables.ports(&gateway()), [80, 8080]);
}

fn isolated(protocol: ListenerProtocol) -> (Vec<Listener>, Vec<Route>) {
    let rows = [
        ("empty", ""),
        ("wildcard-example", "*.example.com"),
        ("wildcard-foo", "*.foo.example.com"),
        ("abc-foo", "abc.foo.example.com"),
    ];
    let listeners = rows.iter().map(|(name, host)| listener(name, 80, protocol, host)).collect();
    let routes = rows
        .iter()
        .map(|(name, _)| route(name, &[on(name)], &[], &[rule(&[&format!("/{name}*")], name)]))
        .collect();
    (listeners, routes)
}

#[test]
fn gateway_http_listener_isolation() {
    let (listeners, routes) = isolated(ListenerProtocol::Http);
    let tables = compile(listeners, routes);
    #[rustfmt::skip]
    check(&tables, "GatewayHTTPListenerIsolation", &[
        ("GET bar.com/empty",                       "empty"),
        ("GET bar.com/wildcard-example",            "404"),
        ("GET bar.example.com/wildcard-example",    "wildcard-example"),
        ("GET bar.example.com/empty",               "404"),
        ("GET bar.foo.example.com/wildcard-foo",    "wildcard-foo"),
        ("GET bar.foo.example.com/wildcard-example", "404"),
        ("GET bar.foo.example.com/empty",           "404"),
        ("GET abc.foo.example.com/abc-foo",         "abc-foo"),
        ("GET abc.foo.example.com/wildcard-foo",    "404"),
        ("GET abc.foo.example.com/wildcard-example", "404"),
        ("GET abc.foo.example.com/empty",           "404"),
    ]);
}

#[test]
fn http_route_https_listener_detect_misdirected_requests() {
    let https = ListenerProtocol::Https;
    let listeners = vec![
        listener("second", 443, https, "second-example.org"),
        listener("first", 443, https, "example.org"),
        listener("wildcard", 443, https, "*.wildcard.org"),
        listener("very", 443, https, "very.specific.wildcard.org"),
        listener("all", 443, https, ""),
    ];
    let with_all = compile(listeners.clone(), Vec::new());
    let without = compile(listeners[..4].to_vec(), Vec::new());
    let (other, unknown) = (Err(Misdirected::OtherListener), Err(Misdirected::Unknown));
    #[rustfmt::skip]
    let rows = [
        //          SNI                           host                          listener    want
        (&with_all, Some("example.org"),          "example.org",                "first",    Ok(())),
        (&with_all, Some("example.org"),          "second-example.org",         "first",    other),
        (&with_all, Some("example.org"),          "unknown.org",                "first",    other),
        (&without,  Some("example.org"),          "unknown.org",                "first",    unknown),
        (&with_all, Some("a.wildcard.org"),       "b.wildcard.org",             "wildcard", Ok(())),
        (&with_all, Some("a.wildcard.org"),       "very.specific.wildcard.org", "wildcard", other),
        (&with_all, Some("unknown.org"),          "unknown.org",                "all",      Ok(())),
        (&with_all, Some("unknown.org"),          "other.org",                  "all",      Ok(())),
        (&with_all, Some("unknown.org"),          "example.org",                "all",      other),
        (&with_all, None,                         "example.org",                "all",      other),
    ];
    for (tables, sni, host, listener, want) in rows {
        let port = tables.for_port(&gateway(), 443).expect("a port");
        let owner = port.by_server_name(sni).expect("a listener");
        assert_eq!(&*owner.listener.key.listener, listener, "{sni:?}");
        assert_eq!(port.check(owner, host), want, "{sni:?} {host}");
    }
}

/// What the requests of a client meet at a service: a backend, `404`, or `-` where nothing is attached.
fn at_service(tables: &Tables, name: &str, port: u16, client: Option<&str>, text: &str) -> String {
    match tables.for_service(&service(name), port, client) {
        Attached::None => "-".to_owned(),
        Attached::Routes(table) => backend_of(table, text),
    }
}

#[test]
fn mesh_http_route_simple_same_namespace_and_frontend_hostname() {
    let routes = vec![
        route("echo", &[to("echo")], &["ignored.example.com"], &[rule(&[], "echo-v1")]),
        route("other", &[to("other")], &[], &[rule(&[], "other-v1")]),
    ];
    let tables = compile(Vec::new(), routes);
    let at = |name, request| at_service(&tables, name, 80, None, request);
    assert_eq!(at("echo", "GET echo/"), "echo-v1", "MeshHTTPRouteSimpleSameNamespace");
    // Decided by the address, whatever the Host header says.
    assert_eq!(at("echo", "GET other/"), "echo-v1", "MeshFrontendHostname");
    assert_eq!(at("other", "GET echo/"), "other-v1", "MeshFrontendHostname");
    assert_eq!(at("unrouted", "GET echo/"), "-", "MeshBasic");
}

#[test]
fn mesh_traffic_split() {
    let rules = [rule(&["/v1"], "echo-v1"), rule(&["/v2"], "echo-v2")];
    let tables = compile(Vec::new(), vec![route("split", &[to("echo")], &[], &rules)]);
    let at = |request| at_service(&tables, "echo", 80, None, request);
    assert_eq!(at("GET e/v1"), "echo-v1", "MeshTrafficSplit");
    assert_eq!(at("GET e/v2"), "echo-v2", "MeshTrafficSplit");
    assert_eq!(at("GET e/v3"), "404", "routes are attached, and none matches");
}

#[test]
fn mesh_ports() {
    let routes = vec![
        route("one-port", &[to_port("echo", 80)], &[], &[rule(&["/*"], "v1")]),
        route("all-ports", &[to("every")], &[], &[rule(&["/*"], "v2")]),
        route("both-one", &[to_port("both", 80)], &[], &[rule(&["/one*"], "v1")]),
        route("both-all", &[to("both")], &[], &[rule(&["/all*"], "v2")]),
    ];
    let tables = compile(Vec::new(), routes);
    #[rustfmt::skip]
    let rows = [
        ("echo",  80,   "GET e/",    "v1"),
        ("echo",  8080, "GET e/",    "-"),
        ("every", 80,   "GET e/",    "v2"),
        ("every", 8080, "GET e/",    "v2"),
        ("both",  80,   "GET e/one", "v1"),
        ("both",  80,   "GET e/all", "v2"),
        ("both",  8080, "GET e/all", "v2"),
        ("both",  8080, "GET e/one", "404"),
    ];
    for (name, port, request, want) in rows {
        let got = at_service(&tables, name, port, None, request);
        assert_eq!(got, want, "MeshPorts: {name}:{port} {request}");
    }
}

#[test]
fn mesh_consumer_route() {
    let routes = vec![
        route("producer", &[to("echo")], &[], &[rule(&["/*"], "v1")]),
        route("consumer", &[consumers("echo", "shop")], &[], &[rule(&["/v2*"], "v2")]),
        route("only", &[consumers("lonely", "shop")], &[], &[rule(&[], "v2")]),
    ];
    let tables = compile(Vec::new(), routes);
    #[rustfmt::skip]
    let rows = [
        ("echo",   Some("shop"),    "GET e/v2", "v2"),
        ("echo",   Some("shop"),    "GET e/",   "404"),
        ("echo",   Some("default"), "GET e/v2", "v1"),
        ("echo",   None,            "GET e/v2", "v1"),
        ("lonely", Some("shop"),    "GET e/",   "v2"),
        ("lonely", Some("default"), "GET e/",   "-"),
        ("lonely", None,            "GET e/",   "-"),
    ];
    for (name, client, request, want) in rows {
        let got = at_service(&tables, name, 80, client, request);
        assert_eq!(got, want, "MeshConsumerRoute: {name} from {client:?}: {request}");
    }
}

#[test]
fn grpc_exact_method_matching() {
    let rules = [
        rule(&["/echo.Echo/Ping"], "v1"),
        rule(&["/echo.Echo/Pong"], "v2"),
        rule(&["/whole.Service* version:two"], "v3"),
    ];
    let grpc = of_kind(RouteKind::Grpc, route("grpc", &[on("http")], &[], &rules));
    let tables = compile(vec![http_listener("http", 80, "")], vec![grpc]);
    #[rustfmt::skip]
    check(&tables, "GRPCExactMethodMatching, GRPCRouteHeaderMatching", &[
        ("POST e/echo.Echo/Ping",                 "v1"),
        ("POST e/echo.Echo/Pong",                 "v2"),
        ("POST e/echo.Echo/PingPong",             "404"),
        ("POST e/whole.Service/Any version:two",  "v3"),
        ("POST e/whole.Service/Any",              "404"),
    ]);
}

#[test]
fn found_says_which_prefix_and_rule() {
    let rules = [rule(&["/exact", "/a/b/*"], "v1"), rule(&[], "v2"), rule(&["~/x.*"], "v3")];
    let tables = compile(Vec::new(), vec![route("r", &[to("echo")], &[], &rules)]);
    let Attached::Routes(table) = tables.for_service(&service("echo"), 80, None) else {
        panic!("routes are attached");
    };
    for (text, index, matched, prefix) in [
        ("GET e/exact", 0, 0, None),
        ("GET e/a/b/c", 0, 1, Some("/a/b")),
        ("GET e/else", 1, 0, Some("/")),
        ("GET e/xy", 2, 0, None),
    ] {
        let request = request(text);
        let found = table.find(&request.head()).expect("a rule");
        let got = (found.rule.index, found.matched, found.prefix());
        assert_eq!(got, (index, matched, prefix), "{text}");
        assert_eq!(&*found.rule.route.name, "r");
        assert!(std::ptr::eq(&**found.rule, &*tables.rules()[found.rule.id as usize]));
        assert_ne!(backend(found.rule.rule.clone()), "500");
    }
}

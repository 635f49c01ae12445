//! Each field of what is obeyed.

use std::time::Duration;

use http::{Method, StatusCode};
use ringway_http::model::policy::AuthorizationProtocol;
use ringway_http::model::{
    BackendTarget, ClientDemand, Filter, ListenerProtocol, ListenerTls, OriginMatch, PathChange,
    PathMatch, RouteKind, ValueMatch,
};

use super::words::{
    bind, does, field, for_service, listener, path, reference, route, take, to, understood,
};
use crate::proto::agent as told;
use crate::proto::agent::backend_policy_spec::Kind as BackendKind;
use crate::proto::agent::bind::TunnelProtocol;
use crate::proto::agent::external_auth::{FailureMode, Grpc, Http, Protocol};
use crate::proto::agent::path_match::Kind as PathKind;
use crate::proto::agent::resource::Kind;
use crate::proto::agent::traffic_policy_spec::Kind as Traffic;
use crate::xds::l7::{L7Resource, PolicyKind, RulePlace, ToldListener, ToldRule, Tunnel};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn rule_of(route: told::Route) -> ToldRule {
    match understood(Kind::Route(route)) {
        L7Resource::Rule(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

fn rule_doing(kinds: Vec<Traffic>) -> ToldRule {
    rule_of(told::Route { traffic_policies: kinds.into_iter().map(does).collect(), ..route(0, 0) })
}

/// What is said of a rule that answers 500 because of this policy.
fn spoilt(kind: Traffic) -> String {
    let told = told::Route { traffic_policies: vec![does(kind)], ..route(0, 0) };
    let read = take(Kind::Route(told)).unwrap();
    let Some(L7Resource::Rule(rule)) = &read.resource else { panic!("{read:?}") };
    assert!(rule.rule.filters.is_empty() && rule.external.is_none(), "{rule:?}");
    assert!(matches!(rule.rule.backends[0].backend.target, BackendTarget::Invalid(_)), "{rule:?}");
    read.warnings.join("; ")
}

#[test]
fn a_port_has_number_and_tunnel() {
    for (tunnel, want) in
        [(TunnelProtocol::Direct, Tunnel::None), (TunnelProtocol::HboneWaypoint, Tunnel::Waypoint)]
    {
        let L7Resource::Bind(read) = understood(Kind::Bind(bind(8080, tunnel))) else { panic!() };
        assert_eq!((&*read.key, read.port, read.tunnel), ("8080/shop/wp", 8080, want));
    }
    use TunnelProtocol::{Connect, Direct, HboneGateway, Proxy};
    for tunnel in [Proxy, HboneGateway, Connect] {
        assert!(take(Kind::Bind(bind(80, tunnel))).is_err(), "{tunnel:?}");
    }
    for port in [0, 65536] {
        assert!(take(Kind::Bind(bind(port, Direct))).is_err(), "{port}");
    }
    let wrong = [
        told::Bind { key: String::new(), ..bind(80, Direct) },
        told::Bind { mode: 1, ..bind(80, Direct) },
        told::Bind { mode: 2, ..bind(80, Direct) },
        told::Bind { tunnel_protocol: 9, ..bind(80, Direct) },
    ];
    for wrong in wrong {
        assert!(take(Kind::Bind(wrong.clone())).is_err(), "{wrong:?}");
    }
}

fn listener_of(told: told::Listener) -> (ToldListener, Vec<String>) {
    let read = take(Kind::Listener(told)).unwrap();
    let Some(L7Resource::Listener(listener)) = read.resource else { panic!() };
    (listener, read.warnings)
}

#[test]
fn a_listener_has_name_port_host_and_protocol() {
    use told::Protocol::{Hbone, Http, Https, Tcp, Tls};
    for (protocol, want) in [
        (Http, ListenerProtocol::Http),
        (Https, ListenerProtocol::Https),
        (Tls, ListenerProtocol::Tls),
        (Tcp, ListenerProtocol::Tcp),
        (Hbone, ListenerProtocol::Hbone),
    ] {
        let (read, _) = listener_of(listener("a", 80, protocol));
        assert_eq!(read.listener.protocol, want);
        assert_eq!((&*read.key, &*read.bind), ("shop/wp.a", "80/shop/wp"));
        assert_eq!(read.listener.key.to_string(), "shop/wp.a");
    }
    let named = |hostname: &str| told::Listener {
        hostname: hostname.to_owned(),
        ..listener("a", 80, Http)
    };
    for (text, want) in [
        ("", "None"),
        ("*", "None"),
        ("*.A.example", "Suffix(\"a.example\")"),
        ("a.b", "Exact(\"a.b\")"),
    ] {
        let hostname = listener_of(named(text)).0.listener.hostname;
        assert!(format!("{hostname:?}").contains(want), "{text}: {hostname:?}");
    }
    let mut of_set = listener("a", 80, Http);
    of_set.name.as_mut().unwrap().listener_set =
        Some(told::ResourceName { name: "set".to_owned(), namespace: "team".to_owned() });
    assert_eq!(&*listener_of(of_set).0.listener.key.listener, "team/set.a");
    let wrong = [
        told::Listener { key: String::new(), ..listener("a", 80, Http) },
        told::Listener { bind_key: String::new(), ..listener("a", 80, Http) },
        told::Listener { name: None, ..listener("a", 80, Http) },
        told::Listener { protocol: 0, ..listener("a", 80, Http) },
        told::Listener { protocol: 6, ..listener("a", 80, Http) },
        named("a b"),
        named("*.*.b"),
    ];
    for wrong in wrong {
        assert!(take(Kind::Listener(wrong.clone())).is_err(), "{wrong:?}");
    }
}

/// A certificate and its key.
fn pair() -> told::TlsConfig {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    told::TlsConfig {
        cert: certificate.pem().into_bytes(),
        private_key: key.serialize_pem().into_bytes(),
        ..told::TlsConfig::default()
    }
}

#[test]
fn tls_ends_as_it_is_told_or_not_at_all() {
    use told::Protocol::{Http, Https, Tls};
    let of = |protocol, tls: Option<told::TlsConfig>| {
        let (read, warnings) = listener_of(told::Listener { tls, ..listener("a", 443, protocol) });
        (read.listener.tls, warnings)
    };
    assert!(of(Http, Some(pair())).0.is_none());
    assert!(matches!(of(Tls, None).0, Some(ListenerTls::Passthrough)));
    assert!(matches!(of(Https, None).0, Some(ListenerTls::Broken(_))));
    let root = pair().cert;
    let with_root = |mode| told::TlsConfig { root: Some(root.clone()), mtls_mode: mode, ..pair() };
    let versions = told::TlsConfig { min_version: Some(3), max_version: Some(4), ..pair() };
    //  name                     tls           which clients get in
    let rows = [
        ("plain", pair(), None),
        ("clients show theirs", with_root(0), Some(ClientDemand::Valid)),
        ("clients may show theirs", with_root(1), Some(ClientDemand::Anything)),
        ("clients need none", with_root(2), None),
        ("versions as they are", versions, None),
    ];
    for (name, tls, want) in rows {
        let (tls, warnings) = of(Https, Some(tls));
        let Some(ListenerTls::Terminate { clients, .. }) = tls else { panic!("{name}: {tls:?}") };
        assert_eq!(clients.map(|clients| clients.demand), want, "{name}");
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
    let invalid = b"invalid".to_vec();
    let rows = [
        ("no certificate", told::TlsConfig { cert: invalid.clone(), ..pair() }, false),
        ("no key", told::TlsConfig { private_key: invalid.clone(), ..pair() }, false),
        ("no roots", told::TlsConfig { root: Some(invalid), ..pair() }, true),
        ("no PEM", told::TlsConfig { cert: b"x".to_vec(), ..pair() }, true),
        ("no PEM key", told::TlsConfig { private_key: b"x".to_vec(), ..pair() }, true),
        ("suites", told::TlsConfig { cipher_suites: vec![1], ..pair() }, true),
        ("groups", told::TlsConfig { key_exchange_groups: vec![4], ..pair() }, true),
        ("1.3 only", told::TlsConfig { min_version: Some(4), ..pair() }, true),
        ("1.2 only", told::TlsConfig { max_version: Some(3), ..pair() }, true),
        ("our own certificate", told::TlsConfig { certificate_source: 1, ..pair() }, true),
        ("unknown", told::TlsConfig { mtls_mode: 7, ..pair() }, true),
    ];
    for (name, tls, warned) in rows {
        let (tls, warnings) = of(Https, Some(tls));
        assert!(matches!(tls, Some(ListenerTls::Broken(_))), "{name}: {tls:?}");
        assert_eq!(!warnings.is_empty(), warned, "{name}: {warnings:?}");
    }
}

#[test]
fn a_route_has_name_place_hosts_and_matches() {
    let mut told = route(10, 2);
    told.name.as_mut().unwrap().rule_name = Some("first".to_owned());
    told.hostnames = vec!["A.example".to_owned(), "*.b.example".to_owned()];
    let header =
        |name: &str, value| told::HeaderMatch { name: name.to_owned(), value: Some(value) };
    let query = |name: &str, value| told::QueryMatch { name: name.to_owned(), value: Some(value) };
    told.matches = vec![told::RouteMatch {
        path: Some(told::PathMatch { kind: Some(PathKind::Exact("/x".to_owned())) }),
        headers: vec![
            header("X-One", told::header_match::Value::Exact("1".to_owned())),
            header("x-two", told::header_match::Value::Regex("a+".to_owned())),
        ],
        method: Some(told::MethodMatch { exact: "PUT".to_owned() }),
        query_params: vec![
            query("q", told::query_match::Value::Exact("1".to_owned())),
            query("r", told::query_match::Value::Regex("b+".to_owned())),
        ],
    }];
    told.service_key = Some(crate::proto::workload::NamespacedHostname {
        namespace: "shop".to_owned(),
        hostname: "web.example".to_owned(),
    });
    told.service_port = 80;
    let read = rule_of(told);
    assert_eq!((read.route.kind, read.route.to_string()), (RouteKind::Http, "shop/web".to_owned()));
    assert_eq!(read.place, RulePlace { created: 0, rule: 10, matched: 2 });
    assert_eq!(&*read.listener, "shop/wp.mesh");
    assert_eq!(read.hostnames.len(), 2);
    assert_eq!(read.rule.name.as_deref(), Some("first"));
    let (service, port) = read.service.unwrap();
    assert_eq!((service.to_string(), port), ("shop/web.example".to_owned(), Some(80)));
    let [it] = &read.rule.matches[..] else { panic!() };
    assert!(matches!(&it.path, Some(PathMatch::Exact(path)) if &**path == "/x"));
    assert_eq!(it.method, Some(Method::PUT));
    assert_eq!(it.headers[0].name, "x-one");
    assert!(matches!(&it.headers[0].value, ValueMatch::Exact(text) if &**text == "1"));
    assert!(
        matches!(&it.headers[1].value, ValueMatch::Regex(it) if it.is_match("aa") && !it.is_match("aab"))
    );
    assert!(matches!(&it.query[0].value, ValueMatch::Exact(text) if &**text == "1"));
    assert!(matches!(&it.query[1].value, ValueMatch::Regex(_)));
}

#[test]
fn paths_are_as_they_are_told_and_grpc_is_mended() {
    use RouteKind::{Grpc, Http};
    let of = |kind, path_kind| {
        let mut told = told::Route { matches: vec![path(path_kind)], ..route(0, 0) };
        told.name.as_mut().unwrap().kind =
            if kind == Grpc { "GRPCRoute" } else { "HTTPRoute" }.to_owned();
        let read = rule_of(told);
        let method = read.rule.matches[0].method.clone();
        assert_eq!(method, (kind == Grpc).then_some(Method::POST), "gRPC is POST");
        match read.rule.matches[0].path.clone().unwrap() {
            PathMatch::Exact(path) => format!("= {path}"),
            PathMatch::Prefix(path) => format!("^ {path}"),
            PathMatch::Regex(regex) => format!("~ {regex}"),
        }
    };
    let exact = |text: &str| PathKind::Exact(text.to_owned());
    let prefix = |text: &str| PathKind::PathPrefix(text.to_owned());
    let regex = |text: &str| PathKind::Regex(text.to_owned());
    let rows = [
        (Http, exact("/a/"), "= /a/"),
        (Http, prefix("/a/"), "^ /a"),
        (Http, prefix("/"), "^ /"),
        (Http, regex("/a.*"), r"~ \A(?:/a.*)\z"),
        (Grpc, exact("/pkg.Service/Method"), "= /pkg.Service/Method"),
        (Grpc, exact("/pkg.Service/"), "^ /pkg.Service"),
        (Grpc, exact("/pkg.Service/Get.+"), r"~ \A(?:/pkg.Service/Get.+)\z"),
        (Grpc, exact("/(a|b)/"), r"~ \A(?:/(a|b)/[^/]+)\z"),
        (Grpc, regex("/[^/]+/Method"), r"~ \A(?:/[^/]+/Method)\z"),
    ];
    for (kind, told, want) in rows {
        assert_eq!(of(kind, told), want);
    }
}

/// A match that is not understood would be met by others than it is for.
#[test]
fn a_match_that_is_not_understood_is_met_by_nobody() {
    let with = |matched: told::RouteMatch| told::Route { matches: vec![matched], ..route(0, 0) };
    let header = |name: &str| told::RouteMatch {
        headers: vec![told::HeaderMatch { name: name.to_owned(), value: None }],
        ..told::RouteMatch::default()
    };
    let rows = [
        with(path(PathKind::Regex("(".to_owned()))),
        with(path(PathKind::Exact("x".to_owned()))),
        with(told::RouteMatch { path: Some(told::PathMatch { kind: None }), ..Default::default() }),
        with(header("x")),
        with(header("a b")),
        with(told::RouteMatch {
            method: Some(told::MethodMatch { exact: "A B".to_owned() }),
            ..Default::default()
        }),
        told::Route { route_group_key: Some("g".to_owned()), ..route(0, 0) },
    ];
    for told in rows {
        let refused = take(Kind::Route(told.clone())).unwrap_err();
        let Some(L7Resource::Rule(rule)) = refused.instead else { panic!("{told:?}") };
        let [matched] = &rule.rule.matches[..] else { panic!("{rule:?}") };
        let Some(PathMatch::Regex(regex)) = &matched.path else { panic!("{rule:?}") };
        for path in ["/", "", "/x", "x", "\n"] {
            assert!(!regex.is_match(path), "{path:?}");
        }
    }
    // A condition that we have no word for, in the route or in a match of it.
    let good = route(0, 0);
    for path in [&[][..], &[6][..], &[6, 1][..], &[7][..]] {
        let extra = path.iter().rev().fold(field(60, b"x"), |inner, number| field(*number, &inner));
        let bytes = [prost::Message::encode_to_vec(&good), extra].concat();
        let refused = crate::xds::l7::read(&field(3, &bytes)).unwrap_err();
        assert!(refused.why.to_string().contains("unknown field 60"), "{path:?}: {}", refused.why);
        assert!(refused.instead.is_some());
    }
}

#[test]
fn what_a_rule_does_is_done_in_its_order() {
    let header = |name: &str| told::Header { name: name.to_owned(), value: "v".to_owned() };
    let changes = told::HeaderModifier {
        add: vec![header("a")],
        set: vec![header("b"), header("c")],
        remove: vec!["d".to_owned()],
    };
    let read = rule_doing(vec![
        Traffic::Timeout(told::Timeout { request: seconds(2), backend_request: seconds(1) }),
        Traffic::Retry(told::Retry {
            retry_status_codes: vec![503, 504],
            attempts: 3,
            backoff: Some(prost_types::Duration { seconds: 0, nanos: 25_000_000 }),
            ..told::Retry::default()
        }),
        Traffic::UrlRewrite(told::UrlRewrite {
            host: "h".to_owned(),
            path: Some(told::url_rewrite::Path::Prefix(String::new())),
        }),
        Traffic::RequestMirror(told::RequestMirrors {
            mirrors: vec![
                told::request_mirrors::Mirror { backend: Some(reference("m")), percentage: 10.0 },
                told::request_mirrors::Mirror { backend: Some(reference("n")), percentage: 0.5 },
            ],
        }),
        Traffic::Cors(told::Cors {
            allow_credentials: true,
            allow_headers: vec!["x-a".to_owned()],
            allow_methods: vec!["GET".to_owned(), "*".to_owned()],
            allow_origins: vec![
                "*".to_owned(),
                "https://A.example".to_owned(),
                "https://*.b".to_owned(),
            ],
            expose_headers: vec!["x-b".to_owned()],
            max_age: seconds(7),
        }),
        Traffic::RequestHeaderModifier(changes.clone()),
        Traffic::ResponseHeaderModifier(changes),
    ]);
    let rule = &read.rule;
    assert_eq!(rule.timeouts.request, Some(Duration::from_secs(2)));
    assert_eq!(rule.timeouts.backend_request, Some(Duration::from_secs(1)));
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, &retry.codes[..]), (3, &[503, 504][..]));
    assert_eq!(retry.backoff, Some(Duration::from_millis(25)));
    let [
        Filter::Rewrite(rewrite),
        Filter::Mirror(tenth),
        Filter::Mirror(little),
        Filter::Cors(cors),
        Filter::RequestHeaders(request),
        Filter::ResponseHeaders(response),
    ] = &rule.filters[..]
    else {
        panic!("{:?}", rule.filters)
    };
    assert_eq!(rewrite.host.as_deref(), Some("h"));
    assert_eq!(rewrite.path, Some(PathChange::Prefix("/".into())));
    assert_eq!((tenth.numerator, tenth.denominator), (10, 100));
    assert_eq!((little.numerator, little.denominator), (5_000, 1_000_000));
    assert_eq!(cors.origins[0], OriginMatch::Any);
    assert_eq!(cors.origins[1], OriginMatch::Exact("https://a.example".into()));
    let (prefix, suffix) = ("https://".into(), ".b".into());
    assert_eq!(cors.origins[2], OriginMatch::Wildcard { prefix, suffix });
    assert_eq!((cors.methods.len(), &*cors.headers[0], &*cors.expose[0]), (2, "x-a", "x-b"));
    assert_eq!((cors.credentials, cors.max_age), (true, Some(Duration::from_secs(7))));
    for changes in [request, response] {
        assert_eq!((changes.set.len(), changes.add.len(), changes.remove.len()), (2, 1, 1));
    }
    assert_eq!(
        rule_doing(vec![Traffic::Retry(told::Retry::default())]).rule.retry.unwrap().attempts,
        1
    );
    let none = told::Timeout { request: seconds(0), backend_request: None };
    assert_eq!(rule_doing(vec![Traffic::Timeout(none)]).rule.timeouts.request, None);
}

#[test]
fn a_redirect_has_every_part() {
    let full = told::RequestRedirect {
        scheme: "https".to_owned(),
        host: "h".to_owned(),
        path: Some(told::request_redirect::Path::Full("/p".to_owned())),
        port: 8443,
        status: 301,
    };
    let read = rule_of(told::Route {
        backends: Vec::new(),
        traffic_policies: vec![does(Traffic::RequestRedirect(full))],
        ..route(0, 0)
    });
    let [Filter::Redirect(redirect)] = &read.rule.filters[..] else { panic!() };
    assert_eq!((redirect.scheme.as_deref(), redirect.host.as_deref()), (Some("https"), Some("h")));
    assert_eq!(redirect.path, Some(PathChange::Full("/p".into())));
    assert_eq!((redirect.port, redirect.status), (Some(8443), StatusCode::MOVED_PERMANENTLY));
    let read = rule_doing(vec![Traffic::RequestRedirect(told::RequestRedirect::default())]);
    let [Filter::Redirect(redirect)] = &read.rule.filters[..] else { panic!() };
    assert_eq!((redirect.port, redirect.status), (None, StatusCode::FOUND));
    assert!(redirect.scheme.is_none() && redirect.host.is_none() && redirect.path.is_none());
}

#[test]
fn backends_have_shares_filters_and_reasons() {
    let header = told::HeaderModifier { remove: vec!["x".to_owned()], ..Default::default() };
    let policies = [
        BackendKind::RequestHeaderModifier(header.clone()),
        BackendKind::ResponseHeaderModifier(header),
        BackendKind::RequestRedirect(told::RequestRedirect::default()),
        BackendKind::RequestMirror(told::RequestMirrors::default()),
    ];
    let spec = |kind| told::BackendPolicySpec { kind: Some(kind) };
    let mut first = to("web-1", 90);
    first.backend_policies = policies.into_iter().map(spec).collect();
    let read = rule_of(told::Route { backends: vec![first, to("web-2", 0)], ..route(0, 0) });
    let [one, two] = &read.rule.backends[..] else { panic!() };
    assert_eq!((one.weight, one.filters.len(), two.weight), (90, 3, 0));
    let BackendTarget::Service { service, port } = &two.backend.target else { panic!() };
    assert_eq!((service.to_string(), *port), ("shop/web-2.example".to_owned(), 80));

    let with = |reference: told::BackendReference| told::RouteBackend {
        backend: Some(reference),
        ..to("x", 1)
    };
    let kind = |kind| told::BackendReference { kind: Some(kind), port: 80 };
    let mut with_tls = to("web-1", 1);
    with_tls.backend_policies = vec![spec(BackendKind::BackendTls(told::BackendTls::default()))];
    let rows = [
        ("no reference", told::RouteBackend { backend: None, ..to("x", 1) }, false),
        ("a Backend", with(kind(told::backend_reference::Kind::Backend("b".to_owned()))), true),
        ("by name", with(kind(told::backend_reference::Kind::Inline(Vec::new()))), true),
        ("no port", with(told::BackendReference { port: 0, ..reference("web-1") }), true),
        ("TLS", with_tls, true),
        ("a group", told::RouteBackend { route_group_key: Some("g".into()), ..to("x", 1) }, true),
    ];
    for (name, backend, warned) in rows {
        let told = told::Route { backends: vec![backend, to("web-2", 1)], ..route(0, 0) };
        let read = take(Kind::Route(told)).unwrap();
        let Some(L7Resource::Rule(rule)) = read.resource else { panic!("{name}") };
        let targets: Vec<_> = rule.rule.backends.iter().map(|each| &each.backend.target).collect();
        let dead = matches!(targets[0], BackendTarget::Invalid(_));
        assert!(dead && matches!(targets[1], BackendTarget::Service { .. }), "{name}: {targets:?}");
        assert_eq!(!read.warnings.is_empty(), warned, "{name}");
    }
    let negative = told::Route { backends: vec![to("web-1", -1)], ..route(0, 0) };
    assert!(!take(Kind::Route(negative)).unwrap().warnings.is_empty());
}

fn asked_over_http() -> told::ExternalAuth {
    told::ExternalAuth {
        target: Some(reference("auth")),
        protocol: Some(Protocol::Http(Http {
            path: Some(r#""/check" + request.path"#.to_owned()),
            include_response_headers: vec!["x-user".to_owned()],
            add_request_headers: [("x-key".to_owned(), r#""k""#.to_owned())].into(),
            ..Http::default()
        })),
        include_request_headers: vec!["cookie".to_owned()],
        ..told::ExternalAuth::default()
    }
}

#[test]
fn external_authorizers_are_asked_as_they_are_told() {
    let read = rule_doing(vec![Traffic::ExtAuthz(asked_over_http())]);
    let provider = read.external.unwrap();
    assert!(!provider.fail_open && provider.status_on_error == StatusCode::FORBIDDEN);
    let AuthorizationProtocol::Http(asked) = provider.protocol else { panic!() };
    let lengths = (asked.include.len(), asked.add.len(), asked.upstream.len());
    assert_eq!((&*asked.path_prefix, lengths), ("/check", (1, 1, 1)));
    let grpc = told::ExternalAuth {
        protocol: Some(Protocol::Grpc(Grpc::default())),
        include_request_headers: Vec::new(),
        failure_mode: FailureMode::DenyWithStatus as i32,
        status_on_error: Some(503),
        include_request_body: Some(told::external_auth::Body {
            max_request_bytes: 1024,
            allow_partial_message: true,
            pack_as_bytes: false,
        }),
        ..asked_over_http()
    };
    let provider = rule_doing(vec![Traffic::ExtAuthz(grpc.clone())]).external.unwrap();
    assert!(matches!(provider.protocol, AuthorizationProtocol::Grpc));
    assert_eq!(provider.status_on_error, StatusCode::SERVICE_UNAVAILABLE);
    let body = provider.body.unwrap();
    assert_eq!((body.bytes_max, body.allow_partial), (1024, true));
    let open = told::ExternalAuth { failure_mode: FailureMode::Allow as i32, ..asked_over_http() };
    assert!(rule_doing(vec![Traffic::ExtAuthz(open)]).external.unwrap().fail_open);

    let http = |change: fn(&mut Http)| {
        let mut told = asked_over_http();
        if let Some(Protocol::Http(http)) = &mut told.protocol {
            change(http);
        }
        told
    };
    let context = [("a".to_owned(), "b".to_owned())];
    let with_context = Grpc { context: context.into(), ..Grpc::default() };
    let rows = [
        ("no target", told::ExternalAuth { target: None, ..asked_over_http() }),
        ("no protocol", told::ExternalAuth { protocol: None, ..asked_over_http() }),
        (
            "context",
            told::ExternalAuth { protocol: Some(Protocol::Grpc(with_context)), ..grpc.clone() },
        ),
        (
            "headers over gRPC",
            told::ExternalAuth { include_request_headers: vec!["a".into()], ..grpc },
        ),
        (
            "policies of its own",
            told::ExternalAuth { inline_policies: vec![Vec::new()], ..asked_over_http() },
        ),
        ("a mode nobody knows", told::ExternalAuth { failure_mode: 9, ..asked_over_http() }),
        ("another expression", http(|http| http.path = Some("request.path + \"x\"".into()))),
        ("a redirect", http(|http| http.redirect = Some("x".into()))),
        ("a body", http(|http| http.body = Some("x".into()))),
        ("metadata", http(|http| drop(http.metadata.insert("a".into(), "b".into())))),
        (
            "a header by expression",
            http(|http| drop(http.add_request_headers.insert("a".into(), "request.host".into()))),
        ),
    ];
    for (name, told) in rows {
        let said = spoilt(Traffic::ExtAuthz(told));
        assert!(said.contains("ext_authz"), "{name}: {said}");
    }
}

#[test]
fn what_a_rule_cannot_do_is_not_left_out() {
    let said = |text: &str| told::Rbac { allow: vec![text.to_owned()], ..Default::default() };
    let rows = [
        ("authorization", Traffic::Authorization(said("true"))),
        ("jwt", Traffic::Jwt(Vec::new())),
        ("transformation", Traffic::Transformation(Vec::new())),
        ("remote_rate_limit", Traffic::RemoteRateLimit(Vec::new())),
        ("csrf", Traffic::Csrf(Vec::new())),
        ("ext_proc", Traffic::ExtProc(Vec::new())),
        ("direct_response", Traffic::DirectResponse(Vec::new())),
        ("basic_auth", Traffic::BasicAuth(Vec::new())),
        ("api_key_auth", Traffic::ApiKeyAuth(Vec::new())),
        ("host_rewrite", Traffic::HostRewrite(told::HostRewrite { mode: 1 })),
        ("buffer", Traffic::Buffer(Vec::new())),
        ("delay", Traffic::Delay(Vec::new())),
        (
            "an expression",
            Traffic::Retry(told::Retry { condition: "x".into(), ..Default::default() }),
        ),
        ("tries", Traffic::Retry(told::Retry { attempts: -1, ..Default::default() })),
        ("limit", Traffic::LocalRateLimit(told::LocalRateLimit::default())),
        (
            "no path",
            Traffic::UrlRewrite(told::UrlRewrite {
                path: Some(told::url_rewrite::Path::Full("x".into())),
                ..Default::default()
            }),
        ),
        (
            "status",
            Traffic::RequestRedirect(told::RequestRedirect { status: 200, ..Default::default() }),
        ),
        (
            "percent",
            Traffic::RequestMirror(told::RequestMirrors {
                mirrors: vec![told::request_mirrors::Mirror { backend: None, percentage: 101.0 }],
            }),
        ),
        (
            "origin",
            Traffic::Cors(told::Cors { allow_origins: vec!["x".into()], ..Default::default() }),
        ),
    ];
    for (name, kind) in rows {
        let warned = spoilt(kind);
        let text = if name == "authorization" { "authorization" } else { name };
        assert!(warned.contains(text), "{name}: {warned}");
    }
    let mut before_the_route = does(Traffic::Timeout(told::Timeout::default()));
    before_the_route.phase = 1;
    let told = told::Route { traffic_policies: vec![before_the_route], ..route(0, 0) };
    assert!(!take(Kind::Route(told)).unwrap().warnings.is_empty());
    // What nobody knows.
    let unknown = told::TrafficPolicySpec::default();
    let told = told::Route { traffic_policies: vec![unknown], ..route(0, 0) };
    assert!(take(Kind::Route(told)).unwrap().warnings[0].contains("not known"));
    // A choice of nothing is no choice.
    assert!(
        rule_doing(vec![Traffic::Authorization(told::Rbac::default())]).rule.filters.is_empty()
    );
}

#[test]
fn limits_and_authorizers_stand_by_themselves_too() {
    let limit = told::LocalRateLimit {
        max_tokens: 10,
        tokens_per_fill: 5,
        fill_interval: seconds(1),
        ..told::LocalRateLimit::default()
    };
    let with = |kind| told::Policy {
        kind: Some(told::policy::Kind::Traffic(does(kind))),
        ..for_service()
    };
    let L7Resource::Policy(read) = understood(Kind::Policy(with(Traffic::LocalRateLimit(limit))))
    else {
        panic!()
    };
    let PolicyKind::Limit(limits) = &read.policy else { panic!() };
    assert_eq!((limits[0].burst, limits[0].requests), (10, 5));
    assert_eq!(limits[0].interval, Duration::from_secs(1));
    assert_eq!(read.name.to_string(), "shop/p");
    let asked = understood(Kind::Policy(with(Traffic::ExtAuthz(asked_over_http()))));
    assert!(
        matches!(asked, L7Resource::Policy(told) if matches!(told.policy, PolicyKind::External(_)))
    );
    let nothing = understood(Kind::Policy(with(Traffic::Authorization(told::Rbac::default()))));
    assert!(
        matches!(nothing, L7Resource::Policy(told) if matches!(told.policy, PolicyKind::Nothing))
    );
    // What closes its target does so whatever is wrong.
    let rules = told::Rbac { deny: vec!["true".to_owned()], ..told::Rbac::default() };
    for kind in [
        Traffic::Authorization(rules),
        Traffic::ExtAuthz(told::ExternalAuth { target: None, ..asked_over_http() }),
    ] {
        let refused = take(Kind::Policy(with(kind))).unwrap_err();
        assert!(matches!(refused.instead, Some(L7Resource::Closed(_))), "{refused:?}");
    }
    let unknown = take(Kind::Policy(told::Policy { kind: None, ..for_service() })).unwrap_err();
    assert!(matches!(unknown.instead, Some(L7Resource::Closed(_))));
    let nowhere = take(Kind::Policy(told::Policy { target: None, ..for_service() })).unwrap_err();
    assert!(nowhere.instead.is_none());
    let overriding =
        told::Policy { inheritance: 1, ..with(Traffic::Authorization(told::Rbac::default())) };
    assert!(take(Kind::Policy(overriding)).is_err());
}

#[test]
fn targets_are_gateways_routes_and_services() {
    use told::policy_target::{Backend, Gateway, Kind as Target, ListenerSet, Route};
    let (name, namespace) = ("n".to_owned(), "ns".to_owned());
    let of = |kind| {
        let target = Some(told::PolicyTarget { kind: Some(kind) });
        let nothing = told::policy::Kind::Traffic(does(Traffic::Authorization(Default::default())));
        take(Kind::Policy(told::Policy { target, kind: Some(nothing), ..for_service() }))
            .map(|read| match read.resource {
                Some(L7Resource::Policy(policy)) => format!("{:?}", policy.target),
                other => panic!("{other:?}"),
            })
            .map_err(|refused| refused.why.to_string())
    };
    let gateway = Gateway {
        name: name.clone(),
        namespace: namespace.clone(),
        listener: Some("l".to_owned()),
        port: Some(80),
    };
    let want = r#"Gateway { namespace: "ns", name: "n", listener: Some("l") }"#;
    assert_eq!(of(Target::Gateway(gateway)).unwrap(), want);
    let route = |kind: &str| Route {
        name: name.clone(),
        namespace: namespace.clone(),
        route_rule: Some("r".to_owned()),
        kind: kind.to_owned(),
    };
    let read = of(Target::Route(route("GRPCRoute"))).unwrap();
    assert!(read.contains("Grpc") && read.contains(r#"rule: Some("r")"#), "{read}");
    assert!(of(Target::Route(route("Elsewhat"))).is_err());
    let backend = Backend { name: name.clone(), namespace: namespace.clone(), section: None };
    assert!(of(Target::Backend(backend)).unwrap_err().contains("Backend"));
    let set = ListenerSet { name, namespace, section: None };
    assert!(of(Target::ListenerSet(set)).unwrap_err().contains("ListenerSet"));
}

#[test]
fn routes_of_connections_have_age_names_and_backends() {
    let stream = |kind: &str, hostnames: &[&str]| told::TcpRoute {
        key: "1700000000/shop/db.0.raw".to_owned(),
        listener_key: "shop/wp.raw".to_owned(),
        name: Some(told::RouteName {
            kind: kind.to_owned(),
            name: "db".to_owned(),
            namespace: "shop".to_owned(),
            rule_name: Some("only".to_owned()),
        }),
        hostnames: hostnames.iter().map(|host| (*host).to_owned()).collect(),
        backends: vec![to("db-1", 1), to("db-2", 3)],
        ..told::TcpRoute::default()
    };
    for (kind, hosts, want) in [
        ("TCPRoute", &[][..], RouteKind::Tcp),
        ("TLSRoute", &["db.example"][..], RouteKind::Tls),
        ("", &[][..], RouteKind::Tcp),
        ("", &["db.example"][..], RouteKind::Tls),
    ] {
        let L7Resource::Rule(read) = understood(Kind::TcpRoute(stream(kind, hosts))) else {
            panic!()
        };
        assert_eq!(read.route.kind, want, "{kind}");
        assert_eq!(read.place, RulePlace { created: 1_700_000_000, rule: 0, matched: 0 });
        assert_eq!((read.rule.backends.len(), read.rule.name.as_deref()), (2, Some("only")));
        assert_eq!(read.hostnames.len(), hosts.len());
    }
    assert!(take(Kind::TcpRoute(stream("HTTPRoute", &[]))).is_err());
    let mut of_connections = route(0, 0);
    of_connections.name.as_mut().unwrap().kind = "TCPRoute".to_owned();
    assert!(take(Kind::Route(of_connections)).is_err());
    assert!(take(Kind::Route(told::Route { name: None, ..route(0, 0) })).is_err());
}

#[test]
fn tls_to_backends() {
    use ringway_http::model::traffic::{AlternativeName, Belief, TlsOrigination};
    use told::backend_tls::Verification::{InsecureAll, InsecureHost};
    let with = |tls: told::BackendTls| {
        let kind = told::backend_policy_spec::Kind::BackendTls(tls);
        let kind = told::policy::Kind::Backend(told::BackendPolicySpec { kind: Some(kind) });
        Kind::Policy(told::Policy { kind: Some(kind), ..for_service() })
    };
    let strict = || told::BackendTls {
        root: Some(b"roots".to_vec()),
        hostname: Some("in.example".to_owned()),
        ..told::BackendTls::default()
    };
    let read = |tls| {
        let L7Resource::Policy(read) = understood(with(tls)) else { panic!() };
        let PolicyKind::BackendTls(tls) = read.policy else { panic!() };
        tls
    };
    let names = ["a.example", "spiffe://b"];
    let wanted = names.map(AlternativeName::read).to_vec();
    let with_names = || told::BackendTls {
        verify_subject_alt_names: names.map(str::to_owned).to_vec(),
        ..strict()
    };
    let verifying =
        |verification| told::BackendTls { verification: verification as i32, ..with_names() };
    let nameless = told::BackendTls { hostname: None, ..strict() };
    //  name              told                       called                by
    let rows = [
        ("its name", strict(), "in.example", Belief::ServerName),
        ("other names", with_names(), "in.example", Belief::OneOf(wanted)),
        ("any name", verifying(InsecureHost), "in.example", Belief::AnyName),
        ("anybody", verifying(InsecureAll), "in.example", Belief::Anybody),
        ("the service's own name", nameless, "", Belief::ServerName),
    ];
    for (name, tls, called, belief) in rows {
        let TlsOrigination::By(settings) = read(tls) else { panic!("{name}") };
        assert!(settings.server_name.starts_with(called), "{name}");
        assert_eq!((&settings.belief, &*settings.authorities), (&belief, &b"roots"[..]), "{name}");
    }
    let gone = told::BackendTls { root: Some(b"invalid".to_vec()), ..strict() };
    assert!(matches!(read(gone), TlsOrigination::Broken(_)));
    let refused = [
        told::BackendTls { certificate_source: 1, ..strict() },
        told::BackendTls { alpn: Some(told::backend_tls::Alpn::default()), ..strict() },
        told::BackendTls { key_exchange_groups: vec![1], ..strict() },
        told::BackendTls { cert: Some(b"chain".to_vec()), ..strict() },
        told::BackendTls { verification: 9, ..strict() },
    ];
    for tls in refused {
        let refused = take(with(tls.clone())).unwrap_err();
        assert!(matches!(refused.instead, Some(L7Resource::Closed(_))), "{tls:?}");
    }
}

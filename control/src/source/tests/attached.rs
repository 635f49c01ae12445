//! What policies of waypoints come to.

use http::HeaderName;
use ringway_http::model::policy::{
    Action, AuthorizationProtocol, AuthorizationRule, Condition, DescriptorValue, KeySource, Keys,
    PathPattern, Target, TextMatch,
};
use ringway_http::model::traffic::{
    Balancing, ConnectionLimits, ConsistentHash, HashKey, HashSpread, RetryBudget, SessionCarrier,
    SessionPersistence, Share, TrafficPolicy,
};
use ringway_http::model::{Backend, BackendTarget};
use std::time::Duration;

use crate::source::{MeshConfig, Source, load};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: ringway-waypoint, addresses: [{value: 10.0.0.9}], listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
";

fn read(text: &str) -> MeshConfig {
    let source = Source::Text { name: "mesh.yaml".to_owned(), text: MESH.to_owned() + text };
    load(&[source], None).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn policy(kind: &str, spec: &str) -> MeshConfig {
    read(&format!("{{apiVersion: {kind}, metadata: {{name: p, namespace: shop}}, spec: {spec}}}"))
}

const AUTHORIZATION: &str = "security.istio.io/v1, kind: AuthorizationPolicy";

fn reviews() -> Target {
    let hostname = "reviews.shop.svc.cluster.local".into();
    let service = ringway_http::model::ServiceName { namespace: "shop".into(), hostname };
    Target::Service { service, port: None }
}

#[test]
fn what_policies_are_attached_to() {
    let waypoint = |listener: Option<&str>| Target::Gateway {
        namespace: "shop".into(),
        name: "waypoint".into(),
        listener: listener.map(Into::into),
    };
    let group = "group: gateway.networking.k8s.io, kind: Gateway, name: waypoint";
    for (targets, want) in [
        ("targetRefs: [{kind: Service, name: reviews}]".to_owned(), vec![reviews()]),
        ("targetRef: {group: '', kind: Service, name: reviews}".to_owned(), vec![reviews()]),
        (format!("targetRefs: [{{{group}}}]"), vec![waypoint(None)]),
        (
            format!(
                "targetRefs: [{{{group}, sectionName: mesh}}, {{kind: Service, name: reviews}}]"
            ),
            vec![waypoint(Some("mesh")), reviews()],
        ),
    ] {
        let mesh = policy(AUTHORIZATION, &format!("{{{targets}}}"));
        let [policy] = &mesh.http.policies.authorizations[..] else { panic!("{targets}") };
        assert_eq!(policy.targets, want, "{targets}");
        assert!(mesh.snapshot.policy("shop", "p").is_none(), "it is no workload's");
        assert!(mesh.warnings.is_empty(), "{}", mesh.warnings);
    }
    let class = read(&format!(
        "{{apiVersion: {AUTHORIZATION}, metadata: {{name: p, namespace: istio-system}}, spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}}]}}}}"
    ));
    assert_eq!(class.http.policies.authorizations[0].targets, [Target::Class]);
}

#[test]
fn what_nobody_enforces_is_told_and_counted() {
    let services = "---
apiVersion: v1
kind: Service
metadata: {name: open, namespace: shop}
spec: {clusterIP: 10.0.0.2, ports: [{port: 80}]}
---
";
    let authorization = |targets: &str| {
        format!(
            "{{apiVersion: {AUTHORIZATION}, metadata: {{name: p, namespace: shop}}, spec: {{targetRefs: [{targets}]}}}}"
        )
    };
    let authentication = "{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: t, namespace: shop}, \
                          spec: {targetRefs: [{kind: Service, name: open}]}}";
    let gateway = "{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}";
    let (fronted, open) = ("{kind: Service, name: reviews}", "{kind: Service, name: open}");
    #[rustfmt::skip]
    let rows = [
        ("of a service that has one",  authorization(fronted),                    0),
        ("of a waypoint",              authorization(gateway),                    0),
        ("of one that has none",       authorization(open),                       1),
        ("of both",                    authorization(&format!("{fronted}, {open}")), 1),
        ("of tokens",                  authentication.to_owned(),                 1),
    ];
    for (name, document, want) in rows {
        let mesh = read(&format!("{services}{document}"));
        let told = mesh.warnings.to_string();
        assert_eq!(
            (mesh.unenforced, told.matches("nobody enforces").count()),
            (want, want),
            "{name}: {told}"
        );
    }
}

fn rule(action: &str, rule: &str) -> (Action, AuthorizationRule) {
    let spec = format!(
        "{{action: {action}, targetRefs: [{{kind: Service, name: reviews}}], rules: [{rule}]}}"
    );
    let mesh = policy(AUTHORIZATION, &spec);
    let policy = mesh.http.policies.authorizations[0].policy.clone();
    (policy.action, policy.rules[0].clone())
}

#[test]
fn all_that_requests_have() {
    let exact = |text: &str| TextMatch::Exact(text.into());
    let (action, read) = rule(
        "DENY",
        "{from: [{source: {requestPrincipals: ['*'], notRemoteIpBlocks: [10.0.0.0/8]}}], \
          to: [{operation: {hosts: ['*.example.com'], methods: [GET], paths: ['/a/{*}', /b*], notPaths: [/b/c], ports: ['80']}}], \
          when: [{key: 'request.headers[X-Team]', notValues: [red]}, {key: 'request.auth.claims[a][b]', values: [c]}]}",
    );
    assert_eq!(action, Action::Deny);
    let source = &read.from[0];
    assert_eq!(source.request_principals.any, [TextMatch::Presence]);
    assert_eq!(source.remote_ips.none, ["10.0.0.0/8".parse().unwrap()]);
    let operation = &read.to[0];
    assert_eq!(operation.hosts.any, [TextMatch::Suffix(".example.com".into())]);
    assert_eq!(operation.methods.any, [exact("GET")]);
    assert_eq!(operation.ports.any, [80]);
    assert_eq!(operation.paths.none, [PathPattern::Text(exact("/b/c"))]);
    let begins = PathPattern::Text(TextMatch::Prefix("/b".into()));
    assert_eq!(operation.paths.any, [PathPattern::Template("/a/{*}".into()), begins]);
    let Condition::Header(name, values) = &read.when[0] else { panic!("{:?}", read.when) };
    assert_eq!((name, &values.none[..]), (&HeaderName::from_static("x-team"), &[exact("red")][..]));
    let Condition::Claim(path, values) = &read.when[1] else { panic!("{:?}", read.when) };
    assert_eq!(path.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(values.any, [exact("c")]);
    assert_eq!(rule("AUDIT", "{}"), (Action::Audit, AuthorizationRule::default()));
}

#[test]
fn tokens() {
    let keys = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let mesh = policy(
        "security.istio.io/v1, kind: RequestAuthentication",
        &format!(
            "{{targetRefs: [{{kind: Service, name: reviews}}], jwtRules: [{{issuer: i, audiences: [a], jwks: '{keys}', \
              fromHeaders: [{{name: X-Token, prefix: 'T '}}], fromParams: [t], fromCookies: [c], forwardOriginalToken: true, \
              outputPayloadToHeader: x-payload, outputClaimToHeaders: [{{header: X-User, claim: a.b}}]}}]}}"
        ),
    );
    let [policy] = &mesh.http.policies.authentications[..] else { panic!("one") };
    assert_eq!(policy.targets, [reviews()]);
    let rule = &policy.policy.rules[0];
    assert_eq!((&*rule.issuer, &*rule.audiences[0], rule.forward), ("i", "a", true));
    assert_eq!(
        (rule.from_headers[0].name.as_str(), &*rule.from_headers[0].prefix),
        ("x-token", "T ")
    );
    assert_eq!((&*rule.from_params[0], &*rule.from_cookies[0]), ("t", "c"));
    let (header, path) = &rule.output_claims[0];
    assert_eq!((header.as_str(), path.len()), ("x-user", 2));
}

#[test]
fn limits_and_faults() {
    let mesh = policy(
        "ringway.dev/v1alpha1, kind: RateLimitPolicy",
        "{targetRefs: [{kind: Service, name: reviews}], local: [{requests: 10, interval: 1s}, \
          {requests: 5, interval: 1m, burst: 2, key: [sourceIdentity, {header: X-User}, {pathMatch: '/a/{**}'}]}]}",
    );
    let limits = &mesh.http.policies.rate_limits[0].policy.local;
    assert_eq!((limits[0].burst, limits[1].burst, limits[1].requests), (10, 2, 5));
    let values: Vec<_> = limits[1].key.iter().map(|one| one.value.clone()).collect();
    let header = DescriptorValue::Header(HeaderName::from_static("x-user"));
    let path = DescriptorValue::PathIs(PathPattern::Template("/a/{**}".into()));
    assert_eq!(values, [DescriptorValue::SourceIdentity, header, path]);

    let mesh = policy(
        "ringway.dev/v1alpha1, kind: FaultPolicy",
        "{targetRefs: [{kind: Service, name: reviews}], delay: {pause: 2s, percent: 12.5}, abort: {status: 503, grpcStatus: 14}}",
    );
    let fault = &mesh.http.policies.faults[0].policy;
    assert_eq!(fault.delay.unwrap().share, Share::of_percent(12.5).unwrap());
    let abort = fault.abort.unwrap();
    assert_eq!(
        (abort.status.as_u16(), abort.grpc_status, abort.share),
        (503, Some(14), Share::ALL)
    );
}

#[test]
fn destination_rules() {
    let kind = "networking.istio.io/v1, kind: DestinationRule";
    for host in ["reviews", "reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"] {
        let mesh = policy(kind, &format!("{{host: {host}}}"));
        assert_eq!(mesh.http.policies.traffic[0].targets, [reviews()], "{host}");
    }
    let mesh = policy(
        kind,
        "{host: reviews, trafficPolicy: { \
          connectionPool: {tcp: {maxConnections: 7, connectTimeout: 2s, maxConnectionDuration: 1h}, \
                           http: {http1MaxPendingRequests: 0, http2MaxRequests: 9, maxRequestsPerConnection: 0, maxRetries: 3, idleTimeout: 5m}}, \
          outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 10m, maxEjectionPercent: 50, splitExternalLocalOriginErrors: true}, \
          loadBalancer: {consistentHash: {httpCookie: {name: Me, ttl: 0s}, maglev: {}}, \
                         localityLbSetting: {failover: [{from: eu, to: us}], distribute: [{from: 'eu/*', to: {eu/a: 80, us: 20}}]}}}}",
    );
    let TrafficPolicy { limits, outliers, balancing, locality, .. } =
        mesh.http.policies.traffic[0].policy.clone();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        limits,
        ConnectionLimits {
            connections: Some(7),
            pending: None,
            requests: Some(9),
            requests_per_connection: None,
            retries: Some(3),
            idle: seconds(300),
            connect: seconds(2),
            age: seconds(3600),
        }
    );
    let outliers = outliers.unwrap();
    assert_eq!((outliers.consecutive_5xx, outliers.consecutive_local), (3, 5));
    assert_eq!((outliers.max_percent, outliers.max_ejection), (50, Duration::from_secs(600)));
    let key = HashKey::Cookie { name: "Me".into(), path: "/".into(), lifetime: seconds(0) };
    let spread = HashSpread::Maglev { places: 65537 };
    assert_eq!(balancing, Some(Balancing::ConsistentHash(ConsistentHash { key, spread })));
    let locality = locality.unwrap();
    assert_eq!(locality.failover, [("eu".into(), "us".into())]);
    assert_eq!(locality.distribute[0].to, [("eu/a".into(), 80), ("us".into(), 20)]);
}

const ROUTE: &str = "gateway.networking.k8s.io/v1, kind: HTTPRoute";

/// The sessions of the only rule of a route of this kind.
fn session(kind: &str, persistence: &str) -> SessionPersistence {
    let spec = format!(
        "{{parentRefs: [{{group: '', kind: Service, name: reviews}}], rules: [{{backendRefs: [{{name: reviews, port: 80}}], \
          sessionPersistence: {persistence}}}]}}"
    );
    let mesh = policy(kind, &spec);
    mesh.http.routes[0].rules[0].session.clone().expect("there is one")
}

#[test]
fn sessions_of_rules() {
    let cookie =
        |name: &str, permanent| SessionCarrier::Cookie { name: name.into(), path: None, permanent };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    #[rustfmt::skip]
    let rows = [
        ("a cookie of the browser's session", "{sessionName: Cart}", cookie("Cart", false), None, None),
        ("the same in full", "{type: Cookie, sessionName: c, cookieConfig: {lifetimeType: Session}}", cookie("c", false), None, None),
        ("one that stays", "{sessionName: c, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}", cookie("c", true), seconds(3600), None),
        ("its times", "{sessionName: c, absoluteTimeout: 2m, idleTimeout: 30s}", cookie("c", false), seconds(120), seconds(30)),
        ("nothing is no limit", "{sessionName: c, absoluteTimeout: 0s, idleTimeout: 0s}", cookie("c", false), None, None),
        ("a header", "{type: Header, sessionName: X-Cart}", SessionCarrier::Header(HeaderName::from_static("x-cart")), None, None),
    ];
    for (name, persistence, by, absolute, idle) in rows {
        for kind in [ROUTE, "gateway.networking.k8s.io/v1, kind: GRPCRoute"] {
            let read = session(kind, persistence);
            assert_eq!((read.by, read.absolute, read.idle), (by.clone(), absolute, idle), "{name}");
        }
    }
}

/// GEP-1619: rules never share their sessions; without a name a unique one is made.
#[test]
fn every_rule_has_sessions_of_its_own() {
    let rule = "{backendRefs: [{name: reviews, port: 80}], sessionPersistence: {}}";
    let named = "{name: one, backendRefs: [{name: reviews, port: 80}], sessionPersistence: {}}";
    let spec = |rules: &str| {
        format!("{{parentRefs: [{{group: '', kind: Service, name: reviews}}], rules: [{rules}]}}")
    };
    let sessions = |rules: &str| {
        let mesh = policy(ROUTE, &spec(rules));
        let rules = mesh.http.routes[0].rules.iter();
        rules.map(|rule| rule.session.clone().expect("one")).collect::<Vec<_>>()
    };
    let two = sessions(&format!("{rule}, {rule}"));
    assert_ne!(two[0].scope, two[1].scope);
    let SessionCarrier::Cookie { name, .. } = &two[0].by else { panic!("{:?}", two[0].by) };
    assert_eq!(**name, *format!("ringway-session-{:016x}", two[0].scope));
    // A rule with a name keeps them wherever it stands.
    assert_eq!(sessions(&format!("{named}, {rule}"))[0], sessions(&format!("{rule}, {named}"))[1]);
}

const BACKEND_TRAFFIC: &str = "gateway.networking.x-k8s.io/v1alpha1, kind: XBackendTrafficPolicy";

#[test]
fn what_goes_to_a_backend() {
    let budget = |percent, interval, floor, floor_interval| RetryBudget {
        percent,
        interval: Duration::from_secs(interval),
        floor,
        floor_interval: Duration::from_secs(floor_interval),
    };
    #[rustfmt::skip]
    let rows = [
        ("nothing is said",    "",                                                                    None),
        ("the standard's",     "retryConstraint: {}",                                                 Some(budget(20.0, 10, 10, 1))),
        ("all of it",          "retryConstraint: {budget: {percent: 5, interval: 1h}, minRetryRate: {count: 3, interval: 1m}}", Some(budget(5.0, 3600, 3, 60))),
        ("a part of it",       "retryConstraint: {budget: {percent: 0}, minRetryRate: {count: 1}}",   Some(budget(0.0, 10, 1, 1))),
    ];
    for (name, said, want) in rows {
        let spec = format!("{{targetRefs: [{{group: '', kind: Service, name: reviews}}], {said}}}");
        let mesh = policy(BACKEND_TRAFFIC, &spec);
        let read = &mesh.http.policies.traffic[0];
        assert_eq!(read.targets, [reviews()], "{name}");
        assert_eq!((&read.policy.retry_budget, &read.policy.session), (&want, &None), "{name}");
    }
    let mesh = policy(
        BACKEND_TRAFFIC,
        "{targetRefs: [{group: '', kind: Service, name: reviews}], sessionPersistence: {sessionName: s}}",
    );
    let session = mesh.http.policies.traffic[0].policy.session.as_ref().expect("there is one");
    let by = SessionCarrier::Cookie { name: "s".into(), path: None, permanent: false };
    assert_eq!((&session.by, session.scope == 0), (&by, false));
}

#[test]
fn conditions_of_what_goes_to_a_backend() {
    let document = |name: &str, created: &str, targets: &str| {
        format!(
            "---\n{{apiVersion: {BACKEND_TRAFFIC}, metadata: {{name: {name}, namespace: shop{created}}}, \
             spec: {{targetRefs: [{targets}], retryConstraint: {{}}}}}}\n"
        )
    };
    let reviews_of = "{group: '', kind: Service, name: reviews}";
    let mesh = read(
        &[
            document("younger", ", creationTimestamp: '2026-02-02T00:00:00Z'", reviews_of),
            document("older", ", creationTimestamp: '2026-01-01T00:00:00Z'", reviews_of),
            document("nowhere", "", "{group: '', kind: Service, name: review}"),
            document(
                "gateway",
                "",
                "{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}",
            ),
        ]
        .concat(),
    );
    let told: Vec<String> = mesh
        .status
        .iter()
        .filter(|status| status.kind == "XBackendTrafficPolicy")
        .flat_map(|status| {
            let all = status.all_conditions();
            all.map(|(_, one)| format!("{} {}/{}", status.name, one.status(), one.reason))
                .collect::<Vec<_>>()
        })
        .collect();
    let want = [
        "older True/Accepted",
        "younger False/Conflicted",
        "nowhere False/TargetNotFound",
        "gateway False/Invalid",
    ];
    assert_eq!(told, want);
    let in_force: Vec<&str> = mesh
        .http
        .policies
        .traffic
        .iter()
        .filter(|one| !one.targets.is_empty())
        .map(|one| &*one.name.name)
        .collect();
    assert_eq!(in_force, ["older"]);
    assert_eq!(mesh.warnings.to_string().matches("warning: ").count(), 3, "{}", mesh.warnings);
    let older = mesh.status.iter().find(|status| &*status.name == "older").expect("it is told of");
    let json = older.as_json();
    assert_eq!(json["status"]["ancestors"][0]["ancestorRef"]["name"], "reviews", "{json}");
    assert_eq!(json["status"]["ancestors"][0]["conditions"][0]["type"], "Accepted", "{json}");
}

/// Who is asked, at a port of a service of the mesh.
fn at(backend: &Backend) -> String {
    match &backend.target {
        BackendTarget::Service { service, port } => format!("{}:{port}", service.hostname),
        BackendTarget::Invalid(why) => panic!("{why}"),
    }
}

#[test]
fn authorizers_of_the_mesh() {
    let mesh = read(
        r#"
apiVersion: ringway.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  extensionProviders:
  - name: spans
    zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}
  - name: by-grpc
    envoyExtAuthzGrpc:
      service: shop/reviews.shop.svc.cluster.local
      port: 80
      timeout: 250ms
      failOpen: true
      includeRequestBodyInCheck: {maxRequestBytes: 1024, allowPartialMessage: true, packAsBytes: true}
  - name: by-http
    envoyExtAuthzHttp:
      service: reviews.shop.svc.cluster.local
      port: 80
      pathPrefix: /check/
      statusOnError: "503"
      includeRequestHeadersInCheck: [Cookie, X-Ext-*]
      includeAdditionalHeadersInCheck: {X-Mesh: shop}
      headersToUpstreamOnAllow: ['*']
      headersToDownstreamOnDeny: [set-cookie]
      clearRouteCache: true
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec:
  action: CUSTOM
  provider: {name: by-http}
  targetRefs: [{kind: Service, name: reviews}]
  rules: [{to: [{operation: {paths: [/account]}}]}]
"#,
    );
    let [grpc, http] = &mesh.http.policies.providers[..] else { panic!("two") };
    assert_eq!(at(&grpc.service), "reviews.shop.svc.cluster.local:80");
    assert_eq!((grpc.timeout, grpc.fail_open), (Duration::from_millis(250), true));
    let body = grpc.body.expect("it gets bodies");
    assert_eq!((body.bytes_max, body.allow_partial, body.as_bytes), (1024, true, true));
    assert!(matches!(grpc.protocol, AuthorizationProtocol::Grpc));
    assert_eq!((http.timeout, http.fail_open), (Duration::from_secs(1), false));
    assert_eq!((http.status_on_error.as_u16(), http.body), (503, None));
    let AuthorizationProtocol::Http(said) = &http.protocol else { panic!("by HTTP") };
    assert_eq!(&*said.path_prefix, "/check");
    let include = [TextMatch::Exact("cookie".into()), TextMatch::Prefix("x-ext-".into())];
    assert_eq!(said.include, include);
    assert_eq!(said.upstream, [TextMatch::Presence]);
    assert_eq!(said.add, [(HeaderName::from_static("x-mesh"), "shop".parse().unwrap())]);
    assert_eq!(said.downstream_on_deny, [TextMatch::Exact("set-cookie".into())]);
    let action = &mesh.http.policies.authorizations[0].policy.action;
    assert_eq!(*action, Action::Custom("by-http".into()));
    let warnings = mesh.warnings.to_string();
    assert!(warnings.contains("`zipkin` has no effect"), "{warnings}");
}

#[test]
fn limits_that_a_service_keeps() {
    let mesh = policy(
        "ringway.dev/v1alpha1, kind: RateLimitPolicy",
        "{targetRefs: [{kind: Service, name: reviews}], global: {service: reviews, port: 80, domain: shop, failOpen: false,
          descriptors: [{entries: [sourceIdentity, {header: X-User}]},
                        {entries: [{value: all}, {key: who, claim: sub.id}, {key: way, attribute: path}, {pathMatch: '/a/*'}]}]}}",
    );
    let limits = &mesh.http.policies.rate_limits[0].policy;
    assert!(limits.local.is_empty());
    let global = limits.global.as_ref().expect("there is one");
    assert_eq!(at(&global.service), "reviews.shop.svc.cluster.local:80");
    let said = (&*global.domain, global.timeout, global.fail_open);
    assert_eq!(said, ("shop", Duration::from_millis(100), false));
    let names = global
        .descriptors
        .iter()
        .map(|entries| entries.iter().map(|entry| &*entry.name).collect::<Vec<_>>());
    let want = [vec!["sourceIdentity", "x-user"], vec!["generic_key", "who", "way", "path"]];
    assert_eq!(names.collect::<Vec<_>>(), want);
    let claim = vec!["sub".into(), "id".into()];
    assert_eq!(global.descriptors[1][1].value, DescriptorValue::Claim(claim));
    assert_eq!(global.descriptors[1][2].value, DescriptorValue::Path);
}

#[test]
fn keys_that_are_fetched() {
    let rules = "[{issuer: a, jwksUri: 'https://a/keys'}, {issuer: b, jwks_uri: 'file:///etc/keys.json', timeout: 1s},
        {issuer: 'https://login.example/realm/'}]";
    let mesh = policy(
        "security.istio.io/v1, kind: RequestAuthentication",
        &format!("{{targetRefs: [{{kind: Service, name: reviews}}], jwtRules: {rules}}}"),
    );
    let rules = &mesh.http.policies.authentications[0].policy.rules;
    let keys: Vec<&Keys> = rules.iter().map(|rule| &rule.keys).collect();
    let fetched =
        |from, seconds| Keys::Fetched { from, timeout: Duration::from_secs(seconds), text: None };
    let want = [
        fetched(KeySource::Url("https://a/keys".into()), 5),
        fetched(KeySource::Url("file:///etc/keys.json".into()), 1),
        fetched(KeySource::Issuer("https://login.example/realm/".into()), 5),
    ];
    assert_eq!(keys, want.iter().collect::<Vec<_>>());
}

/// An authority's list that revokes nothing, in PEM.
fn revocation_list(key: &rcgen::KeyPair) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2024, 2, 1),
        crl_number: rcgen::SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&rcgen::Issuer::new(params, key)).unwrap().pem().unwrap()
}

#[test]
fn destination_rules_begin_tls() {
    use ringway_http::model::traffic::{AlternativeName, Belief, TlsOrigination};
    let home = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let files = [
        ("ca.pem", certificate),
        ("own.key", key.serialize_pem()),
        ("empty", String::new()),
        ("ca.crl", revocation_list(&key)),
    ];
    for (name, text) in &files {
        std::fs::write(home.path().join(name), text).unwrap();
    }
    let at = |name: &str| home.path().join(name).display().to_string();
    let (ca, own, empty, crl) = (at("ca.pem"), at("own.key"), at("empty"), at("ca.crl"));
    let read = |host: &str, tls: &str| {
        let text = format!(
            "{MESH}{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: p, namespace: shop}}, \
             spec: {{host: {host}, trafficPolicy: {{tls: {{{tls}}}}}}}}}"
        );
        let source = Source::Text { name: "mesh.yaml".to_owned(), text };
        load(&[source], None).map_err(|diagnostics| diagnostics.to_string())
    };
    let origination = |host: &str, tls: &str| {
        let mesh = read(host, tls).unwrap_or_else(|told| panic!("{tls}: {told}"));
        mesh.http.policies.traffic[0].policy.tls.clone()
    };
    for none in ["mode: DISABLE", "mode: ISTIO_MUTUAL"] {
        assert_eq!(origination("reviews", none), None, "{none}");
    }
    let host = |name: &str| AlternativeName::Host(name.into());
    let uri = AlternativeName::Uri("spiffe://a/b".into());
    //  tls, beside authorities                          called                 believed by                          shows a certificate
    let rows = [
        ("mode: SIMPLE, sni: a.example".to_owned(), "a.example", Belief::ServerName, false),
        ("mode: SIMPLE".to_owned(), "reviews.shop.svc", Belief::ServerName, false),
        (
            "mode: SIMPLE, subjectAltNames: [b.example, 'spiffe://a/b']".to_owned(),
            "reviews.shop.svc",
            Belief::OneOf(vec![host("b.example"), uri]),
            false,
        ),
        (
            "mode: SIMPLE, insecureSkipVerify: true".to_owned(),
            "reviews.shop.svc",
            Belief::Anybody,
            false,
        ),
        (
            format!("mode: MUTUAL, clientCertificate: '{ca}', privateKey: '{own}'"),
            "reviews.shop.svc",
            Belief::ServerName,
            true,
        ),
    ];
    for (tls, called, belief, shows) in rows {
        let tls = format!("{tls}, caCertificates: '{ca}'");
        let Some(TlsOrigination::By(settings)) = origination("reviews.shop.svc", &tls) else {
            panic!("{tls}")
        };
        assert_eq!((&*settings.server_name, &settings.belief), (called, &belief), "{tls}");
        assert_eq!(settings.client.is_some(), shows, "{tls}");
        assert_eq!(&*settings.authorities, files[0].1.as_bytes(), "{tls}");
        assert_eq!(settings.revoked, None, "{tls}");
    }
    for (list, want) in [(&crl, &files[3].1), (&empty, &files[2].1)] {
        let tls = format!("mode: SIMPLE, sni: a.example, caCertificates: '{ca}', caCrl: '{list}'");
        let Some(TlsOrigination::By(settings)) = origination("reviews", &tls) else {
            panic!("{tls}")
        };
        assert_eq!(settings.revoked.as_deref(), Some(want.as_bytes()), "{tls}");
    }
    //  tls                                                        told
    let mistakes = [
        ("mode: MUTUAL".to_owned(), "goes with `clientCertificate`"),
        (
            format!("mode: SIMPLE, clientCertificate: '{ca}', privateKey: '{own}'"),
            "goes with `clientCertificate`",
        ),
        ("mode: SIMPLE".to_owned(), "as `sni`"),
        (
            "mode: SIMPLE, sni: a.example, credentialName: c".to_owned(),
            "`credentialName` is not supported",
        ),
        (
            format!("mode: SIMPLE, sni: a.example, caCertificates: '{empty}'"),
            "holds nothing in PEM",
        ),
        ("mode: SIMPLE, sni: a.example, caCertificates: /gone".to_owned(), "cannot be read"),
        (format!("mode: SIMPLE, sni: a.example, caCrl: '{ca}'"), "no `X509 CRL` section"),
        ("mode: SIMPLE, sni: a.example, caCrl: /gone".to_owned(), "cannot be read"),
        ("mode: TLS".to_owned(), "SIMPLE"),
    ];
    for (tls, want) in mistakes {
        let told = read("reviews", &tls).err().unwrap_or_else(|| panic!("{tls} passes"));
        assert!(told.contains(want), "{tls}: {told}");
    }
}

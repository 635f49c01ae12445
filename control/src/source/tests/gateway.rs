//! What documents of the Gateway API come to.

use ringway_http::model::{
    BackendTarget, Filter, HeaderChanges, HostPattern, ListenerProtocol, Parent, PathChange,
    PathMatch, Rule, ServiceName, ValueMatch,
};

use crate::source::{MeshConfig, ObjectStatus, Source, load};

/// Services a, b and c of the namespace `shop`, d of `other`.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: admin, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {clusterIP: 10.0.0.2, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: d, namespace: other}
spec: {clusterIP: 10.0.0.4, ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  gatewayClassName: ringway
  listeners:
    - {name: plain, port: 80, protocol: HTTP}
    - {name: example, port: 80, protocol: HTTP, hostname: '*.example.com', allowedRoutes: {namespaces: {from: All}}}
---
";

fn read(text: &str) -> MeshConfig {
    let text = format!("{SERVICES}{text}");
    let source = Source::Text { name: "mesh.yaml".to_owned(), text };
    load(&[source], None).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn route(spec: &str) -> MeshConfig {
    read(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\nspec: {spec}\n"
    ))
}

fn service(namespace: &str, name: &str) -> ServiceName {
    let hostname = format!("{name}.{namespace}.svc.cluster.local");
    ServiceName { namespace: namespace.into(), hostname: hostname.into() }
}

fn only_rule(mesh: &MeshConfig) -> &Rule {
    let [route] = &mesh.http.routes[..] else { panic!("{:?}", mesh.http.routes) };
    let [rule] = &route.rules[..] else { panic!("{:?}", route.rules) };
    rule
}

fn status<'m>(mesh: &'m MeshConfig, kind: &str) -> &'m ObjectStatus {
    mesh.status.iter().find(|status| status.kind == kind).unwrap()
}

/// `Accepted True Accepted`, of every parent.
fn conditions(mesh: &MeshConfig) -> Vec<String> {
    let all = status(mesh, "HTTPRoute").all_conditions();
    all.map(|(_, one)| format!("{} {} {}", one.kind, one.status(), one.reason)).collect()
}

#[test]
fn a_route_of_a_service_leads_to_services() {
    let mesh = route(
        "{parentRefs: [{group: '', kind: Service, name: a, port: 80}],
          rules: [{backendRefs: [{name: a, port: 80, weight: 90}, {name: b, port: 80, weight: 10}]}]}",
    );
    let parent =
        Parent::Service { service: service("shop", "a"), port: Some(80), clients_of: None };
    assert_eq!(mesh.http.routes[0].parents, [parent]);
    let backends: Vec<_> = only_rule(&mesh)
        .backends
        .iter()
        .map(|each| (each.backend.target.clone(), each.weight))
        .collect();
    let to = |name| BackendTarget::Service { service: service("shop", name), port: 80 };
    assert_eq!(backends, [(to("a"), 90), (to("b"), 10)]);
    assert_eq!(conditions(&mesh), ["Accepted True Accepted", "ResolvedRefs True ResolvedRefs"]);
    assert!(mesh.warnings.is_empty(), "{}", mesh.warnings);
}

#[test]
fn a_route_of_another_namespace_binds_the_clients_there() {
    let mesh = read(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: other}
spec: {parentRefs: [{group: '', kind: Service, name: a, namespace: shop}], rules: [{backendRefs: [{name: d, port: 80}]}]}",
    );
    let [Parent::Service { clients_of, port: None, .. }] = &mesh.http.routes[0].parents[..] else {
        panic!("{:?}", mesh.http.routes)
    };
    assert_eq!(clients_of.as_deref(), Some("other"));
}

#[test]
fn matches_say_what_the_document_says() {
    let mesh = route(
        "
  parentRefs: [{name: web}]
  rules:
    - name: all
      matches:
        - path: {type: Exact, value: /one}
          headers: [{name: Version, value: two}, {name: version, value: ignored}]
          queryParams: [{name: Animal, value: 'wh.*', type: RegularExpression}]
          method: POST
        - path: {value: /two/}
        - path: {}
        - {}
      backendRefs: [{name: b, port: 80}]",
    );
    let rule = only_rule(&mesh);
    assert_eq!(rule.name.as_deref(), Some("all"));
    let [first, second, third, fourth] = &rule.matches[..] else { panic!("{rule:?}") };
    assert!(matches!(&first.path, Some(PathMatch::Exact(path)) if &**path == "/one"));
    let [header] = &first.headers[..] else { panic!("the first of one name counts: {first:?}") };
    assert_eq!(header.name, "version");
    assert!(matches!(&header.value, ValueMatch::Exact(value) if &**value == "two"));
    let [query] = &first.query[..] else { panic!("{first:?}") };
    assert_eq!(&*query.name, "Animal");
    let ValueMatch::Regex(regex) = &query.value else { panic!("{query:?}") };
    assert!(regex.is_match("whale") && !regex.is_match("a whale") && !regex.is_match("w"));
    assert_eq!(first.method, Some(http::Method::POST));
    assert!(matches!(&second.path, Some(PathMatch::Prefix(path)) if &**path == "/two"));
    assert!(matches!(&third.path, Some(PathMatch::Prefix(path)) if &**path == "/"));
    assert!(fourth.path.is_none() && fourth.headers.is_empty());
}

#[test]
fn filters_timeouts_and_retries_say_what_the_document_says() {
    let mesh = route(
        "
  parentRefs: [{name: web}]
  rules:
    - matches: [{path: {value: /old}}]
      timeouts: {request: 10s, backendRequest: 500ms}
      retry: {attempts: 3, backoff: 100ms, codes: [500, 503]}
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: A, value: '1'}], add: [{name: B, value: '2'}], remove: [C]}
        - type: URLRewrite
          urlRewrite: {hostname: new.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
        - type: RequestMirror
          requestMirror: {backendRef: {name: b, port: 80}, percent: 20}
        - type: CORS
          cors: {allowOrigins: ['https://*.example.com'], allowCredentials: true, maxAge: 60}
      backendRefs:
        - name: b
          port: 80
          filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}]",
    );
    let rule = only_rule(&mesh);
    assert_eq!(rule.timeouts.request.unwrap().as_secs(), 10);
    assert_eq!(rule.timeouts.backend_request.unwrap().as_millis(), 500);
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, &retry.codes[..]), (3, &[500, 503][..]));
    let [
        Filter::RequestHeaders(changes),
        Filter::Rewrite(rewrite),
        Filter::Mirror(mirror),
        Filter::Cors(cors),
    ] = &rule.filters[..]
    else {
        panic!("{:?}", rule.filters)
    };
    let HeaderChanges { set, add, remove } = changes;
    assert_eq!((set[0].name.as_str(), add[0].value.to_str().unwrap()), ("a", "2"));
    assert_eq!(remove[0], "c");
    assert_eq!(rewrite.host.as_deref(), Some("new.example.com"));
    assert_eq!(rewrite.path, Some(PathChange::Prefix("/new".into())));
    assert_eq!((mirror.numerator, mirror.denominator), (20, 100));
    assert!(cors.credentials && cors.max_age.unwrap().as_secs() == 60);
    assert!(matches!(&rule.backends[0].filters[..], [Filter::ResponseHeaders(_)]));
}

#[test]
fn zero_is_no_limit() {
    let mesh = route(
        "{parentRefs: [{name: web}], rules: [{timeouts: {request: 0s, backendRequest: 5s}, backendRefs: [{name: b, port: 80}]}]}",
    );
    let timeouts = only_rule(&mesh).timeouts;
    assert_eq!((timeouts.request, timeouts.backend_request.unwrap().as_secs()), (None, 5));
}

#[test]
fn references_that_lead_nowhere_take_their_share() {
    //  name, reference, reason
    for (name, reference, reason) in [
        ("not there", "{name: gone, port: 80}", "BackendNotFound"),
        ("no such port", "{name: b, port: 81}", "BackendNotFound"),
        (
            "of several ports none named",
            "{group: networking.istio.io, kind: Hostname, name: a.shop.svc.cluster.local}",
            "BackendNotFound",
        ),
        ("unknown kind", "{group: storage.example.com, kind: Bucket, name: b}", "InvalidKind"),
        ("another namespace", "{name: d, namespace: other, port: 80}", "RefNotPermitted"),
        (
            "no such hostname",
            "{group: networking.istio.io, kind: Hostname, name: x.com, port: 1}",
            "BackendNotFound",
        ),
    ] {
        let mesh = route(&format!(
            "{{parentRefs: [{{name: web}}], rules: [{{backendRefs: [{reference}, {{name: b, port: 80}}]}}]}}"
        ));
        let [invalid, valid] = &only_rule(&mesh).backends[..] else { panic!("{name}") };
        assert!(matches!(invalid.backend.target, BackendTarget::Invalid(_)), "{name}");
        assert!(matches!(valid.backend.target, BackendTarget::Service { .. }), "{name}");
        let want = ["Accepted True Accepted".to_owned(), format!("ResolvedRefs False {reason}")];
        assert_eq!(conditions(&mesh), want, "{name}");
        assert_eq!(mesh.warnings.warnings(), 1, "{name}: {}", mesh.warnings);
    }
}

#[test]
fn a_hostname_is_the_service_that_has_it() {
    let mesh = route(
        "{parentRefs: [{name: web}], rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: d.other.svc.cluster.local, port: 80}]}]}",
    );
    let target = &only_rule(&mesh).backends[0].backend.target;
    assert_eq!(*target, BackendTarget::Service { service: service("other", "d"), port: 80 });
}

#[test]
fn a_grant_lets_refer_to_what_it_names() {
    let granted = |from: &str, to: &str| {
        let mesh = read(&format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: other}}
spec: {{from: [{from}], to: [{to}]}}
---
apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}
spec: {{parentRefs: [{{name: web}}], rules: [{{backendRefs: [{{name: d, namespace: other, port: 80}}]}}]}}"
        ));
        matches!(only_rule(&mesh).backends[0].backend.target, BackendTarget::Service { .. })
    };
    const FROM: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
    const TO: &str = "{group: '', kind: Service}";
    assert!(granted(FROM, TO));
    assert!(granted(FROM, "{group: '', kind: Service, name: d}"));
    assert!(!granted(FROM, "{group: '', kind: Service, name: e}"));
    assert!(!granted(FROM, "{group: '', kind: Secret}"));
    assert!(!granted("{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}", TO));
    assert!(!granted("{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}", TO));
}

#[test]
fn listeners_admit_and_refuse_routes() {
    const RULES: &str = "rules: [{backendRefs: [{name: b, port: 80}]}]";
    //  name, namespace, spec, reason, listeners
    let rows: &[(&str, &str, &str, &str, &[&str])] = &[
        ("all listeners", "shop", "parentRefs: [{name: web}]", "Accepted", &["plain", "example"]),
        (
            "by name",
            "shop",
            "parentRefs: [{name: web, sectionName: plain}]",
            "Accepted",
            &["plain"],
        ),
        (
            "by port",
            "shop",
            "parentRefs: [{name: web, port: 80}]",
            "Accepted",
            &["plain", "example"],
        ),
        (
            "another hostname",
            "shop",
            "parentRefs: [{name: web}], hostnames: [x.org]",
            "Accepted",
            &["plain"],
        ),
        (
            "a hostname of both",
            "shop",
            "parentRefs: [{name: web}], hostnames: [a.b.example.com]",
            "Accepted",
            &["plain", "example"],
        ),
        (
            "not the apex",
            "shop",
            "parentRefs: [{name: web, sectionName: example}], hostnames: [example.com]",
            "NoMatchingListenerHostname",
            &[],
        ),
        (
            "a wider hostname",
            "shop",
            "parentRefs: [{name: web, sectionName: example}], hostnames: ['*.com']",
            "Accepted",
            &["example"],
        ),
        (
            "another namespace",
            "other",
            "parentRefs: [{name: web, namespace: shop}]",
            "Accepted",
            &["example"],
        ),
        (
            "another namespace, not admitted",
            "other",
            "parentRefs: [{name: web, namespace: shop, sectionName: plain}]",
            "NotAllowedByListeners",
            &[],
        ),
        ("no such Gateway", "shop", "parentRefs: [{name: wbe}]", "NoMatchingParent", &[]),
        (
            "no such listener",
            "shop",
            "parentRefs: [{name: web, sectionName: gone}]",
            "NoMatchingParent",
            &[],
        ),
        ("no such port", "shop", "parentRefs: [{name: web, port: 81}]", "NoMatchingParent", &[]),
        (
            "no such Service",
            "shop",
            "parentRefs: [{kind: Service, group: '', name: gone}]",
            "NoMatchingParent",
            &[],
        ),
        (
            "no such port of a Service",
            "shop",
            "parentRefs: [{kind: Service, group: '', name: b, port: 81}]",
            "NoMatchingParent",
            &[],
        ),
    ];
    for (name, namespace, spec, reason, listeners) in rows {
        let mesh = read(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: {namespace}}}\nspec: {{{spec}, {RULES}}}"
        ));
        let accepted = &status(&mesh, "HTTPRoute").parents[0].conditions[0];
        assert_eq!((accepted.kind, accepted.reason), ("Accepted", *reason), "{name}");
        assert_eq!(accepted.holds, *reason == "Accepted", "{name}");
        let parents = mesh.http.routes.first().map_or(&[][..], |route| &route.parents);
        let keys: Vec<&str> = parents
            .iter()
            .filter_map(|parent| match parent {
                Parent::Listener(key) => Some(&*key.listener),
                Parent::Service { .. } => None,
            })
            .collect();
        assert_eq!(keys, *listeners, "{name}");
        let of_gateway = &status(&mesh, "Gateway").listeners;
        let attached: Vec<&str> = of_gateway
            .iter()
            .filter(|listener| listener.attached_routes == 1)
            .map(|listener| &*listener.name)
            .collect();
        assert_eq!(attached, *listeners, "{name}");
    }
}

#[test]
fn listeners_are_listed_with_their_hosts() {
    let mesh = read("");
    let listed: Vec<_> = mesh
        .http
        .listeners
        .iter()
        .map(|each| (each.key.to_string(), each.port, each.protocol, each.hostname.clone()))
        .collect();
    let suffix = HostPattern::Suffix("example.com".into());
    assert_eq!(
        listed,
        [
            ("shop/web.plain".to_owned(), 80, ListenerProtocol::Http, None),
            ("shop/web.example".to_owned(), 80, ListenerProtocol::Http, Some(suffix)),
        ]
    );
}

#[test]
fn a_filter_that_is_not_there_takes_its_requests_with_it() {
    let mesh = route(
        "{parentRefs: [{name: web}], rules: [
           {filters: [{type: ExtensionRef, extensionRef: {group: g, kind: K, name: n}}], backendRefs: [{name: b, port: 80}]},
           {matches: [{path: {value: /x}}], backendRefs: [{name: b, port: 80}]}]}",
    );
    let rules = &mesh.http.routes[0].rules;
    assert!(matches!(rules[0].backends[0].backend.target, BackendTarget::Invalid(_)));
    assert!(matches!(rules[1].backends[0].backend.target, BackendTarget::Service { .. }));
    let want = [
        "Accepted True Accepted",
        "ResolvedRefs True ResolvedRefs",
        "PartiallyInvalid True UnsupportedValue",
    ];
    assert_eq!(conditions(&mesh), want);
}

#[test]
fn the_oldest_route_comes_first() {
    let one = |name: &str, created: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop{created}}}\nspec: {{parentRefs: [{{name: web}}]}}\n---\n"
        )
    };
    let mesh = read(
        &[
            one("undated-2", ""),
            one("undated-1", ""),
            one("young", ", creationTimestamp: \"2026-01-02T00:00:00Z\""),
            one("old-b", ", creationTimestamp: \"2026-01-01T00:00:00Z\""),
            one("old-a", ", creationTimestamp: \"2026-01-01T00:00:00Z\""),
        ]
        .concat(),
    );
    let names: Vec<&str> = mesh.http.routes.iter().map(|route| &*route.name.name).collect();
    assert_eq!(names, ["old-a", "old-b", "young", "undated-2", "undated-1"]);
}

#[test]
fn bookinfo_with_a_waypoint_shares_out_its_reviews() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo-waypoint");
    let mesh =
        load(&[Source::Path(path)], Some("host-a")).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(mesh.warnings.is_empty(), "{}", mesh.warnings);
    let reviews = mesh.snapshot.services().find(|service| &*service.name == "reviews").unwrap();
    assert_eq!(reviews.waypoint.as_ref().unwrap().destination.to_string(), "/10.1.0.40");
    let [route] = &mesh.http.routes[..] else { panic!("{:?}", mesh.http.routes) };
    let weights: Vec<u32> = route.rules[2].backends.iter().map(|each| each.weight).collect();
    assert_eq!(weights, [90, 10]);
    assert_eq!(conditions(&mesh), ["Accepted True Accepted", "ResolvedRefs True ResolvedRefs"]);
}

#[test]
fn keys_may_stay_in_their_files() {
    let directory = tempfile::TempDir::new().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["a.b".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(directory.path().join("own.key"), key.serialize_pem()).unwrap();
    std::fs::write(directory.path().join("own.crt"), certificate.pem()).unwrap();
    let mesh = "
apiVersion: v1
kind: Secret
metadata:
  name: own
  annotations: {ringway.dev/file.tls.key: own.key, ringway.dev/file.tls.crt: own.crt}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: ringway
  listeners: [{name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: own}]}}]
";
    std::fs::write(directory.path().join("mesh.yaml"), mesh).unwrap();
    let path = directory.path().join("mesh.yaml");
    let loaded =
        load(&[Source::Path(path.clone())], None).unwrap_or_else(|wrong| panic!("{wrong}"));
    let Some(ringway_http::model::ListenerTls::Terminate { private_key, .. }) =
        &loaded.http.listeners[0].tls
    else {
        panic!("{:?}", loaded.http.listeners)
    };
    assert_eq!(&**private_key, key.serialize_pem().as_bytes());
    std::fs::remove_file(directory.path().join("own.key")).unwrap();
    let refused = load(&[Source::Path(path)], None).unwrap_err().to_string();
    assert!(refused.contains("own.key: cannot be read"), "{refused}");
}

#[test]
fn the_hosts_of_a_service_entry_are_parents_and_backends() {
    let mesh = read(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec:
  hosts: [one.example.com, two.example.com]
  addresses: [10.7.0.1]
  ports: [{number: 443, name: tls, protocol: TLS}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: outside}]
  rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: two.example.com, port: 443}]}]
",
    );
    let hosts: Vec<&str> = mesh.http.routes[0]
        .parents
        .iter()
        .map(|parent| match parent {
            Parent::Service { service, .. } => &*service.hostname,
            Parent::Listener(key) => &*key.listener,
        })
        .collect();
    assert_eq!(hosts, ["one.example.com", "two.example.com"]);
    let two = ServiceName { namespace: "shop".into(), hostname: "two.example.com".into() };
    let target = &only_rule(&mesh).backends[0].backend.target;
    assert_eq!(*target, BackendTarget::Service { service: two, port: 443 });
}

#[test]
fn listeners_that_cannot_be_told_apart_are_not_served() {
    //  name, listeners, condition of both
    for (name, listeners, reason) in [
        (
            "hosts",
            "{name: a, port: 90, protocol: HTTP}, {name: b, port: 90, protocol: HTTP}",
            "HostnameConflict",
        ),
        (
            "protocols",
            "{name: a, port: 90, protocol: HTTP}, {name: b, port: 90, protocol: TCP}",
            "ProtocolConflict",
        ),
    ] {
        let mesh = read(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: own, namespace: shop}}\nspec: {{gatewayClassName: ringway, listeners: [{listeners}]}}"
        ));
        let own = mesh.status.iter().find(|status| &*status.name == "own").unwrap();
        for listener in &own.listeners {
            let conflicted = &listener.conditions[1];
            assert_eq!(
                (conflicted.kind, conflicted.holds, conflicted.reason),
                ("Conflicted", true, reason),
                "{name}"
            );
        }
        assert!(
            mesh.http.listeners.iter().all(|listener| &*listener.key.gateway != "own"),
            "{name}"
        );
        let programmed = &own.conditions[1];
        assert_eq!((programmed.holds, programmed.reason), (false, "Invalid"), "{name}");
    }
}

#[test]
fn what_is_not_supported_is_said_of_the_route_and_of_the_gateway() {
    let whole = route(
        "{parentRefs: [{name: web}], rules: [{filters: [{type: ExternalAuth}], backendRefs: [{name: b, port: 80}]}]}",
    );
    assert_eq!(conditions(&whole)[0], "Accepted False UnsupportedValue");
    let section = route("{parentRefs: [{group: '', kind: Service, name: b, sectionName: http}]}");
    assert_eq!(conditions(&section)[0], "Accepted False UnsupportedValue");
    let addressed = read(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: own, namespace: shop}
spec: {gatewayClassName: ringway, addresses: [{type: example.com/rack, value: '7'}], listeners: [{name: a, port: 90, protocol: HTTP}]}",
    );
    let own = addressed.status.iter().find(|status| &*status.name == "own").unwrap();
    assert_eq!((own.conditions[0].holds, own.conditions[0].reason), (false, "UnsupportedAddress"));
}

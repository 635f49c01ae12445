//! What policies of waypoints come to.

use http::HeaderName;
use ringway_http::model::policy::{
    Action, AuthorizationRule, Condition, DescriptorValue, PathPattern, Target, TextMatch,
};
use ringway_http::model::traffic::Share;

use crate::source::{MeshConfig, Source, load};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
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

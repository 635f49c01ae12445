//! What is in force where.

use std::time::Duration;

use http::{HeaderName, Method};

use super::*;
use crate::authorize::RequestFacts;
use crate::model::RouteKind;
use crate::model::policy::{
    AuthorizationRule, Descriptor, DescriptorValue, LocalRateLimit, Operation, Wanted,
};
use crate::model::traffic::{Balancing, FaultDelay, RetryBudget, Share};

fn named<P>(name: &str, targets: Vec<Target>, policy: P) -> Attached<P> {
    let name = PolicyName { namespace: "shop".into(), name: name.into() };
    Attached { name, targets, policy }
}

fn deny_all(name: &str, target: Target) -> Attached<AuthorizationPolicy> {
    let rules = vec![AuthorizationRule::default()];
    named(name, vec![target], AuthorizationPolicy { action: Action::Deny, rules, dry_run: false })
}

fn gateway() -> GatewayName {
    GatewayName { namespace: "shop".into(), name: "waypoint".into() }
}

fn service(name: &str) -> ServiceName {
    ServiceName { namespace: "shop".into(), hostname: name.into() }
}

fn route() -> RouteName {
    RouteName { kind: RouteKind::Http, namespace: "shop".into(), name: "route".into() }
}

fn facts() -> Facts<'static> {
    Facts::new(None, "10.0.0.1".parse().unwrap(), "10.9.0.1:80".parse().unwrap())
}

#[test]
fn every_target_is_a_layer() {
    let gateway_target = |listener: Option<&str>| Target::Gateway {
        namespace: "shop".into(),
        name: "waypoint".into(),
        listener: listener.map(Into::into),
    };
    let service_target = |port| Target::Service { service: service("a"), port };
    let route_target =
        |rule: Option<&str>| Target::Route { route: route(), rule: rule.map(Into::into) };
    let (own, other) = (gateway(), GatewayName { name: "other".into(), ..gateway() });
    let (a, b, listener, rule) = (service("a"), service("b"), "mesh".into(), "one".into());
    let route = route();
    let place = Place {
        gateway: Some(&own),
        listener: Some(&listener),
        service: Some((&a, 80)),
        route: Some((&route, Some(&rule))),
    };
    let elsewhere =
        Place { gateway: Some(&other), listener: None, service: Some((&b, 80)), route: None };
    let other_port = Place { service: Some((&a, 81)), route: Some((&route, None)), ..elsewhere };
    #[rustfmt::skip]
    let rows = [
        ("class",      Target::Class,                  [true, true, true]),
        ("gateway",    gateway_target(None),           [true, false, false]),
        ("listener",   gateway_target(Some("mesh")),   [true, false, false]),
        ("another",    gateway_target(Some("x")),      [false, false, false]),
        ("service",    service_target(None),           [true, false, true]),
        ("its port",   service_target(Some(80)),       [true, false, false]),
        ("route",      route_target(None),             [true, false, true]),
        ("its rule",   route_target(Some("one")),      [true, false, false]),
    ];
    for (name, target, want) in rows {
        let policies =
            Policies { authorizations: vec![deny_all("p", target)], ..Policies::default() };
        let tables = PolicyTables::compile(&policies, PathMode::Base).unwrap();
        let denied = [place, elsewhere, other_port]
            .map(|place| tables.in_force(&place).authorize(&facts()).outcome.is_err());
        assert_eq!(denied, want, "{name}");
        assert_eq!(tables.has_routes(), name == "route" || name == "its rule");
    }
    assert!(PolicyTables::default().in_force(&place).is_empty());
}

#[test]
fn the_narrowest_layer_says_how_requests_are_passed_on() {
    let wide = TrafficPolicy {
        balancing: Some(Balancing::Random),
        retry_budget: Some(RetryBudget::default()),
        ..TrafficPolicy::default()
    };
    let narrow =
        TrafficPolicy { balancing: Some(Balancing::RoundRobin), ..TrafficPolicy::default() };
    let younger =
        TrafficPolicy { balancing: Some(Balancing::LeastRequest), ..TrafficPolicy::default() };
    let fault = |seconds| FaultPolicy {
        delay: Some(FaultDelay { pause: Duration::from_secs(seconds), share: Share::ALL }),
        abort: None,
    };
    let port = || vec![Target::Service { service: service("a"), port: Some(80) }];
    let policies = Policies {
        traffic: vec![
            named("wide", vec![Target::Class], wide),
            named("narrow", port(), narrow),
            named("younger", port(), younger),
        ],
        faults: vec![
            named("wide", vec![Target::Class], fault(1)),
            named("narrow", port(), fault(2)),
        ],
        ..Policies::default()
    };
    let tables = PolicyTables::compile(&policies, PathMode::Base).unwrap();
    let a = service("a");
    let at = |port| tables.in_force(&Place { service: Some((&a, port)), ..Place::default() });
    assert_eq!(at(80).traffic().balancing, Some(Balancing::RoundRobin));
    assert_eq!(at(80).traffic().retry_budget, Some(RetryBudget::default()));
    assert_eq!(at(81).traffic().balancing, Some(Balancing::Random));
    assert_eq!(at(80).fault(), Some(&fault(2)));
    assert_eq!(at(81).fault(), Some(&fault(1)));
}

#[test]
fn limits_by_what_a_request_is() {
    let descriptor = |value| Descriptor { name: "d".into(), value };
    let limit =
        |key| LocalRateLimit { key, burst: 1, requests: 1, interval: Duration::from_secs(60) };
    let user = DescriptorValue::Header(HeaderName::from_static("x-user"));
    let policy = RateLimitPolicy {
        local: vec![limit(vec![descriptor(user), descriptor(DescriptorValue::Path)])],
        global: None,
    };
    let targets = vec![Target::Class, Target::Service { service: service("a"), port: None }];
    let policies =
        Policies { rate_limits: vec![named("p", targets, policy)], ..Policies::default() };
    let tables = PolicyTables::compile(&policies, PathMode::Base).unwrap();
    let in_force = tables.in_force(&Place::default());
    let passes = |user: Option<&'static str>, path: &str| {
        let mut headers = HeaderMap::new();
        if let Some(user) = user {
            headers.insert("x-user", http::HeaderValue::from_static(user));
        }
        let request = RequestFacts {
            method: &Method::GET,
            path,
            authority: None,
            headers: &headers,
            token: None,
        };
        let facts = facts().with_request(request);
        let rulings = in_force.limits().map(|limits| limits.take(&facts, Duration::ZERO));
        rulings.into_iter().all(|ruling| matches!(ruling, Ruling::Passes { .. }))
    };
    assert!(passes(Some("ann"), "/a"));
    assert!(!passes(Some("ann"), "/a"));
    assert!(passes(Some("ann"), "/b"));
    assert!(passes(Some("bob"), "/a"));
    // Without what is told apart the limit is not for it.
    assert!(passes(None, "/a") && passes(None, "/a"));
}

#[test]
fn paths_that_no_request_has() {
    let text = |text: TextMatch| PathPattern::Text(text);
    let template = |text: &str| PathPattern::Template(text.into());
    #[rustfmt::skip]
    let rows = [
        (text(TextMatch::Exact("/a".into())),           true),
        (text(TextMatch::Exact("/a/../b".into())),      false),
        (text(TextMatch::Exact("/%61".into())),         false),
        (text(TextMatch::Exact("a".into())),            false),
        (text(TextMatch::Exact("/a?b".into())),         false),
        (text(TextMatch::Exact("*".into())),            true),
        (text(TextMatch::Prefix("/a/".into())),         true),
        (text(TextMatch::Prefix("/a/.".into())),        true),
        (text(TextMatch::Prefix("/a/./".into())),       false),
        (text(TextMatch::Prefix("/%7Eann".into())),     false),
        (text(TextMatch::Suffix(".txt".into())),        true),
        (text(TextMatch::Suffix("/../b".into())),       false),
        (text(TextMatch::Presence),                     true),
        (template("/a/{*}/b"),                          true),
        (template("/a/../{*}"),                         false),
        (template("/{*}x"),                             false),
    ];
    for (path, want) in rows {
        let paths = Wanted { any: Vec::new(), none: vec![path.clone()] };
        let to = vec![Operation { paths, ..Operation::default() }];
        let rules = vec![AuthorizationRule { to, ..AuthorizationRule::default() }];
        let policy = AuthorizationPolicy { action: Action::Deny, rules, dry_run: false };
        let authorizations = vec![named("p", vec![Target::Class], policy)];
        let policies = Policies { authorizations, ..Policies::default() };
        let compiled = PolicyTables::compile(&policies, PathMode::Base);
        assert_eq!(compiled.is_ok(), want, "{path:?}: {compiled:?}");
    }
}

#[test]
fn providers_must_be_known() {
    let policy = AuthorizationPolicy {
        action: Action::Custom("login".into()),
        rules: vec![AuthorizationRule::default()],
        dry_run: false,
    };
    let authorizations = vec![named("p", vec![Target::Class], policy)];
    let policies = Policies { authorizations, ..Policies::default() };
    let errors = PolicyTables::compile(&policies, PathMode::Base).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(
        errors[0].to_string(),
        "AuthorizationPolicy shop/p: there is no external authorizer \"login\""
    );
}

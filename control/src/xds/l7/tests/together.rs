//! What resources come to together.

use ringway_http::model::policy::Target;
use ringway_http::model::{BackendTarget, Filter, Parent, PathMatch, Route, Rule};
use ringway_http::tables::Tables;

use super::words::{
    MESH, WEB, bind, does, for_service, listener, path_prefix, reference, route, to, together,
    waypoint,
};
use crate::proto::agent as told;
use crate::proto::agent::bind::TunnelProtocol;
use crate::proto::agent::resource::Kind;
use crate::proto::agent::traffic_policy_spec::Kind as Traffic;
use crate::xds::l7::ToldRole;

fn of_waypoint(routes: Vec<told::Route>) -> super::super::Compiled {
    let routes = routes.into_iter().map(Kind::Route);
    together(waypoint().into_iter().chain(routes).collect())
}

fn parents(route: &Route) -> Vec<String> {
    let mut parents: Vec<String> = route
        .parents
        .iter()
        .map(|parent| match parent {
            Parent::Service { service, port, clients_of } => {
                format!("{service} {port:?} {clients_of:?}")
            }
            Parent::Listener(key) => key.to_string(),
        })
        .collect();
    parents.sort();
    parents
}

/// The paths of each rule.
fn paths(route: &Route) -> Vec<Vec<String>> {
    let of = |rule: &Rule| {
        let path = |path: &Option<PathMatch>| match path {
            Some(PathMatch::Prefix(path) | PathMatch::Exact(path)) => path.to_string(),
            other => format!("{other:?}"),
        };
        rule.matches.iter().map(|one| path(&one.path)).collect()
    };
    route.rules.iter().map(of).collect()
}

fn is_dead(rule: &Rule) -> bool {
    rule.backends.iter().all(|each| matches!(each.backend.target, BackendTarget::Invalid(_)))
}

#[test]
fn a_route_of_a_waypoint_is_for_the_services_of_its_namespace() {
    let compiled = of_waypoint(vec![route(0, 0)]);
    assert_eq!(compiled.role, Some(ToldRole::Waypoint));
    let [web] = &compiled.http.routes[..] else { panic!() };
    assert_eq!(parents(web), ["shop/db.example None None", "shop/web.example None None"]);
    assert_eq!(compiled.unscoped, 1, "two services, and nobody says which");
    assert!(compiled.warnings[0].contains("all 2 of shop"), "{:?}", compiled.warnings);
    assert_eq!(compiled.http.waypoints[0].1.to_string(), "shop/wp");

    let in_namespace = |namespace: &str| {
        let mut told = route(0, 0);
        told.name.as_mut().unwrap().namespace = namespace.to_owned();
        told.key = format!("{namespace}/web.0.0.mesh");
        told
    };
    let alone = of_waypoint(vec![in_namespace("bank")]);
    assert_eq!(parents(&alone.http.routes[0]), ["bank/pay.example None None"]);
    assert_eq!((alone.unscoped, alone.warnings.len()), (0, 0));
    let nothing = of_waypoint(vec![in_namespace("elsewhere")]);
    assert!(nothing.http.routes.is_empty() && nothing.warnings[0].contains("is for nothing"));
    // Who says it is believed.
    let key = |namespace: &str| crate::proto::workload::NamespacedHostname {
        namespace: namespace.to_owned(),
        hostname: "web.example".to_owned(),
    };
    let own = told::Route { service_key: Some(key("shop")), service_port: 80, ..route(0, 0) };
    let clients = told::Route { service_key: Some(key("bank")), ..route(1, 0) };
    let told = of_waypoint(vec![own, clients]);
    let all: Vec<_> = told.http.routes.iter().flat_map(parents).collect();
    assert_eq!(
        all,
        ["shop/web.example Some(80) None", "bank/web.example None Some(\"shop\")"]
            .iter()
            .map(ToString::to_string)
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(told.unscoped, 0);
}

#[test]
fn rules_come_by_number_and_their_matches_together() {
    let compiled =
        of_waypoint(vec![route(10, 0), route(2, 1), route(2, 0), route(2, 10), route(0, 0)]);
    let [web] = &compiled.http.routes[..] else { panic!() };
    let want = [vec!["/0/0"], vec!["/2/0", "/2/1", "/2/10"], vec!["/10/0"]];
    assert_eq!(paths(web), want);
    // What is not the same is not one rule, whatever its number.
    let other = told::Route { backends: vec![to("web-2", 1)], ..route(2, 1) };
    let compiled = of_waypoint(vec![route(2, 0), other]);
    assert_eq!(paths(&compiled.http.routes[0]), [vec!["/2/0"], vec!["/2/1"]]);
    Tables::compile(compiled.http).unwrap();
}

#[test]
fn a_rule_with_a_lost_backend_answers_500_and_stays_behind_the_others() {
    let hosts = vec!["a.example".to_owned()];
    let lost = |namespace: &str, listener: &str, rule| {
        let mut told = told::Route { backends: Vec::new(), ..route(rule, 0) };
        told.listener_key = listener.to_owned();
        told.name.as_mut().unwrap().namespace = namespace.to_owned();
        told.key = format!("{namespace}/web.{rule}.0.web");
        told
    };
    let whole = told::Route { hostnames: hosts, ..lost("zoo", WEB, 0) };
    let whole = told::Route { backends: vec![to("web-1", 1)], ..whole };
    let kinds = vec![
        Kind::Bind(bind(80, TunnelProtocol::Direct)),
        Kind::Listener(listener("web", 80, told::Protocol::Http)),
        Kind::Route(whole),
        Kind::Route(lost("zoo", WEB, 1)),
        Kind::Route(lost("aaa", WEB, 0)),
    ];
    let compiled = together(kinds);
    assert_eq!(compiled.role, Some(ToldRole::Gateway(vec![80])));
    let [whole, lost] = &compiled.http.routes[..] else { panic!("{:?}", compiled.http.routes) };
    assert_eq!((&*whole.name.namespace, &*lost.name.namespace), ("zoo", "aaa"));
    assert_eq!(whole.hostnames.len(), 1, "it has the hosts of its route");
    assert!(whole.rules.len() == 2 && is_dead(&whole.rules[1]) && is_dead(&lost.rules[0]));
    assert_eq!(parents(lost), ["shop/wp.web"]);
    Tables::compile(compiled.http).unwrap();
}

#[test]
fn listeners_have_the_ports_that_were_told() {
    let kinds = vec![
        Kind::Bind(bind(8443, TunnelProtocol::Direct)),
        Kind::Bind(bind(80, TunnelProtocol::Direct)),
        Kind::Listener(listener("b", 8443, told::Protocol::Http)),
        Kind::Listener(listener("a", 80, told::Protocol::Http)),
        Kind::Listener(listener("nowhere", 81, told::Protocol::Http)),
        Kind::Listener(listener("wrong", 80, told::Protocol::Hbone)),
    ];
    let compiled = together(kinds);
    assert_eq!(compiled.role, Some(ToldRole::Gateway(vec![80, 8443])));
    let ports: Vec<u16> = compiled.http.listeners.iter().map(|one| one.port).collect();
    assert_eq!(ports, [80, 8443]);
    assert_eq!(compiled.warnings.len(), 2, "{:?}", compiled.warnings);
    assert_eq!(together(Vec::new()).role, None);
    let lonely = together(vec![Kind::Route(route(0, 0))]);
    assert!(lonely.http.routes.is_empty() && lonely.warnings[0].contains(MESH));
}

#[test]
fn policies_of_a_rule_are_attached_to_it_once() {
    let asked = told::ExternalAuth {
        target: Some(reference("auth")),
        protocol: Some(told::external_auth::Protocol::Grpc(Default::default())),
        ..told::ExternalAuth::default()
    };
    let with = |matched| told::Route {
        traffic_policies: vec![does(Traffic::ExtAuthz(asked.clone()))],
        ..route(3, matched)
    };
    let compiled = of_waypoint(vec![with(0), with(1), route(4, 0)]);
    let policies = &compiled.http.policies;
    let [attached] = &policies.external[..] else { panic!("{:?}", policies.external) };
    let [Target::Route { rule, .. }] = &attached.targets[..] else { panic!() };
    assert_eq!(rule.as_deref(), Some("rule-3"));
    assert_eq!(compiled.http.routes[0].rules[0].name.as_deref(), Some("rule-3"));
    assert_eq!(policies.providers[0].name, attached.policy.provider);
    Tables::compile(compiled.http).unwrap();
}

#[test]
fn what_a_refused_policy_is_for_is_closed() {
    let jwt = || Some(told::policy::Kind::Traffic(does(Traffic::Jwt(Vec::new()))));
    // A service: nobody may ask for it, nobody is led to it, nobody copies to it.
    let mut of_service = for_service();
    of_service.kind = Some(told::policy::Kind::Backend(told::BackendPolicySpec {
        kind: Some(told::backend_policy_spec::Kind::Auth(Vec::new())),
    }));
    let Some(told::policy_target::Kind::Service(service)) =
        &mut of_service.target.as_mut().unwrap().kind
    else {
        panic!()
    };
    service.hostname = "web-1.example".to_owned();
    service.port = None;
    let mirror = told::RequestMirrors {
        mirrors: ["web-1", "web-2"]
            .map(|service| told::request_mirrors::Mirror {
                backend: Some(reference(service)),
                percentage: 100.0,
            })
            .into(),
    };
    let led = told::Route {
        backends: vec![to("web-1", 1), to("web-2", 1)],
        traffic_policies: vec![does(Traffic::RequestMirror(mirror))],
        ..route(0, 0)
    };
    let mut kinds = waypoint();
    kinds.extend([Kind::Route(led), Kind::Policy(of_service)]);
    let compiled = together(kinds);
    let rule = &compiled.http.routes[0].rules[0];
    let targets: Vec<_> = rule.backends.iter().map(|each| &each.backend.target).collect();
    assert!(matches!(targets[..], [BackendTarget::Invalid(_), BackendTarget::Service { .. }]));
    assert!(matches!(&rule.filters[..], [Filter::Mirror(_)]));
    let denial = &compiled.http.policies.authorizations[0];
    assert!(denial.policy.rules.is_empty() && !denial.policy.dry_run, "nobody is allowed");
    assert!(matches!(&denial.targets[0], Target::Service { port: None, .. }));
    Tables::compile(compiled.http).unwrap();

    // A rule of a route, and a whole one.
    for (rule, dead) in [(Some("first"), 1), (None, 2)] {
        let target = told::policy_target::Route {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            route_rule: rule.map(str::to_owned),
            kind: "HTTPRoute".to_owned(),
        };
        let target =
            Some(told::PolicyTarget { kind: Some(told::policy_target::Kind::Route(target)) });
        let mut first = route(0, 0);
        first.name.as_mut().unwrap().rule_name = Some("first".to_owned());
        let mut second = route(1, 0);
        second.matches = vec![path_prefix("/")];
        let closed = told::Policy { target, kind: jwt(), ..for_service() };
        let mut kinds = waypoint();
        kinds.extend([Kind::Route(first), Kind::Route(second), Kind::Policy(closed)]);
        let compiled = together(kinds);
        let rules = &compiled.http.routes[0].rules;
        assert_eq!(rules.iter().filter(|rule| is_dead(rule)).count(), dead, "{rule:?}");
    }
}

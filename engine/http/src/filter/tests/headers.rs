use http::Method;

use super::super::{Backward, apply, change};
use super::{entrance, header_map, lines, request};
use crate::model::{Filter, HeaderChange, HeaderChanges, Route, RouteKind, RouteName, Rule};
use crate::tables::Tables;

/// `set a: b`, `add a: b`, `remove a`.
fn changes(orders: &[&str]) -> HeaderChanges {
    let mut all = HeaderChanges::default();
    for order in orders {
        let (verb, rest) = order.split_once(' ').expect("a verb");
        if verb == "remove" {
            all.remove.push(rest.parse().expect("a name"));
            continue;
        }
        let (name, value) = rest.split_once(": ").expect("a header");
        let change = HeaderChange {
            name: name.parse().expect("a name"),
            value: value.parse().expect("a value"),
        };
        if verb == "set" { all.set.push(change) } else { all.add.push(change) }
    }
    all
}

#[test]
fn http_route_request_header_modifier() {
    type Row =
        (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("set a new one",         &["set X-Header-Set: set"],  &["some: other"],                  &["some: other", "x-header-set: set"]),
        ("set one that is there", &["set X-Header-Set: set"],  &["x-header-set: a", "x-header-set: b"], &["x-header-set: set"]),
        ("add a new one",         &["add X-Header-Add: add"],  &[],                               &["x-header-add: add"]),
        ("add to one that is",    &["add X-Header-Add: add"],  &["X-Header-Add: before"],         &["x-header-add: before,add"]),
        ("add to two that are",   &["add X-Header-Add: add"],  &["x-header-add: a", "x-header-add: b"], &["x-header-add: a,b,add"]),
        ("add twice",             &["add a: 1", "add a: 2"],   &[],                               &["a: 1,2"]),
        ("remove",                &["remove X-Header-Remove"], &["x-header-REMOVE: x", "a: b"],   &["a: b"]),
        ("all three",             &["set a: s", "add b: t", "remove c"], &["a: 1", "b: 2", "c: 3"], &["a: s", "b: 2,t"]),
        ("set, add, then remove", &["set a: s", "add a: t", "remove a"], &[],                     &[]),
        ("set, then add",         &["add a: t", "set a: s"],   &["a: 0"],                         &["a: s,t"]),
        ("cookies of answers are not joined", &["add set-cookie: b=2"], &["set-cookie: a=1"],     &["set-cookie: a=1", "set-cookie: b=2"]),
        ("cookies are joined their way", &["add cookie: b=2"], &["cookie: a=1"],                  &["cookie: a=1; b=2"]),
        ("framing is left alone", &["set transfer-encoding: x", "add content-length: 9", "remove host", "remove connection"],
                                  &["content-length: 1", "host: a"],                              &["content-length: 1", "host: a"]),
    ];
    for (name, orders, before, want) in rows {
        let mut headers = header_map(before);
        change(&changes(orders), &mut headers);
        assert_eq!(lines(&headers), *want, "HTTPRouteRequestHeaderModifier: {name}");
    }
}

#[test]
fn filters_of_the_rule_go_first_and_come_back_last() {
    let on_request = |orders: &[&str]| Filter::RequestHeaders(changes(orders));
    let on_response = |orders: &[&str]| Filter::ResponseHeaders(changes(orders));
    let mut rule = Rule {
        filters: vec![
            on_request(&["add a: rule"]),
            on_response(&["add b: rule"]),
            on_request(&["add a: rule2"]),
        ],
        ..super::share::rule(&[1, 1])
    };
    rule.backends[1].filters =
        vec![on_request(&["add a: backend"]), on_response(&["add b: backend"])];
    let mut parts = request(Method::GET, "/x", &["a: client"]);
    let entrance = entrance("/x", None);
    assert_eq!(apply(&rule.filters, &mut parts, &entrance), None);
    assert_eq!(apply(&rule.backends[1].filters, &mut parts, &entrance), None);
    assert_eq!(lines(&parts.headers), ["a: client,rule,rule2,backend"]);

    let name = RouteName { kind: RouteKind::Http, namespace: "d".into(), name: "r".into() };
    let route = Route { name, parents: Vec::new(), hostnames: Vec::new(), rules: vec![rule] };
    let config = crate::model::HttpConfig { routes: vec![route], ..Default::default() };
    let tables = Tables::compile(config).expect("a good configuration");
    let mut backward = Backward::new(&tables.rules()[0], &parts);
    backward.chosen(1);
    let mut response = header_map(&["b: server"]);
    backward.apply(&mut response);
    assert_eq!(lines(&response), ["b: server,backend,rule"], "ResponseHeaderModifier");
}

//! What a look-up does not depend on: the routes of other hosts, services and paths.

use super::STEPS;
use super::build::{compile, gateway, http_listener, on, request, route, rule, service, to};
use crate::model::Route;
use crate::tables::{Attached, Tables};

/// A service, a host and some paths for each number.
fn many(count: usize) -> Tables {
    let routes: Vec<Route> = (0..count)
        .flat_map(|n| {
            let rules = [rule(&["/*"], "v0"), rule(&["/api/v1*"], "v1"), rule(&["/api/x"], "v2")];
            [
                route(&format!("mesh-{n}"), &[to(&format!("service-{n}"))], &[], &rules),
                route(
                    &format!("host-{n}"),
                    &[on("http")],
                    &[&format!("host-{n}.example.com")],
                    &rules,
                ),
                route(
                    &format!("wild-{n}"),
                    &[on("http")],
                    &[&format!("*.wild-{n}.example.com")],
                    &rules,
                ),
                route(
                    &format!("path-{n}"),
                    &[on("http")],
                    &["paths.example.com"],
                    &[rule(&[&format!("/path-{n}/x*")], "v3")],
                ),
            ]
        })
        .collect();
    compile(vec![http_listener("http", 80, "")], routes)
}

fn steps_of(look_up: impl FnOnce() -> bool) -> usize {
    let before = STEPS.get();
    assert!(look_up(), "there is a rule for it");
    STEPS.get() - before
}

#[test]
fn a_look_up_costs_the_same_among_many() {
    let (few, many) = (many(2), many(2_000));
    let by_service = |tables: &Tables| {
        steps_of(|| {
            let request = request("GET e/api/v1/things");
            let Attached::Routes(table) = tables.for_service(&service("service-1"), 80, None)
            else {
                return false;
            };
            table.find(&request.head()).is_some()
        })
    };
    let by_host = |tables: &Tables, text: &str| {
        steps_of(|| {
            let request = request(text);
            let head = request.head();
            let listener = tables.for_listener(&gateway(), 80, head.host()).expect("a listener");
            listener.routes().find(&head).is_some()
        })
    };
    assert_eq!(by_service(&few), by_service(&many));
    for text in [
        "GET host-1.example.com/api/v1/things",
        "GET a.b.wild-1.example.com/api/x",
        "GET paths.example.com/path-1/x/y",
    ] {
        assert_eq!(by_host(&few, text), by_host(&many, text), "{text}");
    }
    assert!(by_host(&many, "GET host-1.example.com/api/v1/things") < 20);
}

#[test]
fn what_a_client_sends_does_not_make_a_look_up_long() {
    let tables = many(10);
    let dots = format!("{}.example.com", "a.".repeat(8_000));
    let slashes = format!("/{}", "api/".repeat(4_000));
    for (host, path) in [(&*dots, "/"), ("host-1.example.com", &*slashes)] {
        let request = request(&format!("GET {host}{path}"));
        let head = request.head();
        let before = STEPS.get();
        let listener = tables.for_listener(&gateway(), 80, head.host()).expect("a listener");
        listener.routes().find(&head);
        assert!(STEPS.get() - before < 20, "{}", STEPS.get() - before);
    }
}

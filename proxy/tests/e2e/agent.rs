//! A waypoint, and a gateway, that istiod tells what to do: started as istiod starts them, under the plane for tests.

use std::net::SocketAddr;

use ringway_bench::lab::wait_until;
use serde_json::{Value, json};

use crate::support::waypoint::{Load, PLACE, WEB, WaypointMesh, ask, start_told};
use crate::support::{PATIENCE, http_get};
use crate::{under_a_control_plane, under_a_control_plane_on_epoll};

under_a_control_plane! {
    a_waypoint_serves_what_istiod_tells,
    a_route_changes_while_it_is_used,
    a_plane_that_is_lost_and_comes_back_costs_no_request,
    a_gateway_listens_where_istiod_says,
}

under_a_control_plane_on_epoll! {
    a_waypoint_serves_what_istiod_tells,
    a_route_changes_while_it_is_used,
    a_plane_that_is_lost_and_comes_back_costs_no_request,
    a_gateway_listens_where_istiod_says,
}

const ROUTES: &str = "  - matches: [{headers: [{name: x-version, value: v2}]}]
    backendRefs: [{name: web-v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /slow}}]
    timeouts: {request: 300ms}
    backendRefs: [{name: web-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /only}}]
    backendRefs: [{name: web-v1, port: 80}]";

const ALL_TO_V2: &str = "  - backendRefs: [{name: web-v2, port: 80}]";

fn a_waypoint_serves_what_istiod_tells(plane: &str) {
    let story = WaypointMesh::told(plane, ROUTES, "");
    //  path       header line            want  who answers
    let rows = [
        ("/only", "", 200, "v1\n"),
        ("/", "x-version: v2\r\n", 200, "v2\n"),
        ("/slow", "", 504, ""),
        // There are routes, and none is for it.
        ("/", "", 404, ""),
    ];
    for (path, header, want, version) in rows {
        let (status, body) = story.ask(path, header);
        assert_eq!(status, want, "{path} {header}: {body}\n{}", story.logs());
        assert!(body.starts_with(version), "{path} {header}: {body}");
    }
    let asked = |request: &Value| {
        request["node"]["id"].as_str().is_some_and(|id| id.starts_with("agentgateway~"))
            && request["type"] == ringway_test_plane::AGENT
    };
    let request = story.mesh.plane().wait_for("xds-request", asked);
    let metadata = &request["node"]["metadata"];
    assert_eq!(metadata["role"], "default~web-waypoint", "{request}");
    assert_eq!(metadata["GATEWAY_NAME"], "web-waypoint");
    // The node of its host may have one for it, too, in its name; it asks for itself.
    story.mesh.plane().wait_for("certificate", |line| {
        line["identity"] == "spiffe://cluster.local/ns/default/sa/web-waypoint"
            && line["impersonated"].is_null()
    });
    let status = status(&story);
    assert_eq!((&status["role"], &status["valid"]), (&json!("waypoint"), &json!(true)), "{status}");
    assert_eq!(status["refused"], json!([]), "{status}");
}

fn a_route_changes_while_it_is_used(plane: &str) {
    let story = WaypointMesh::told(plane, ALL_TO_V2, "");
    assert!(story.ask("/", "").1.starts_with("v2\n"), "{}", story.logs());
    let load = Load::start(story.mesh.at("client"), WEB, 2);
    for (before, rules, want) in [
        (ALL_TO_V2, ALL_TO_V2.replace("v2", "v1"), "v1\n"),
        (ALL_TO_V2, ALL_TO_V2.to_owned(), "v2\n"),
    ] {
        story.route(before, &rules);
        let is_there = || story.ask("/", "").1.starts_with(want);
        wait_until("the route has changed", PATIENCE, is_there)
            .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
        load.go_on_for(20);
    }
    let failures = load.failures();
    assert!(failures.is_empty(), "{} failed: {failures:?}\n{}", failures.len(), story.logs());
}

fn a_plane_that_is_lost_and_comes_back_costs_no_request(plane: &str) {
    let story = WaypointMesh::told(plane, ALL_TO_V2, "");
    let load = Load::start(story.mesh.at("client"), WEB, 2);
    load.go_on_for(20);
    story.mesh.plane().kill();
    load.go_on_for(50);
    story.mesh.plane().restart(&story.mesh.lab);
    // It is listened to again.
    story.route(ALL_TO_V2, &ALL_TO_V2.replace("v2", "v1"));
    let is_there = || story.ask("/", "").1.starts_with("v1\n");
    wait_until("what is told now is in force", PATIENCE * 2, is_there)
        .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
    load.go_on_for(20);
    let failures = load.failures();
    assert!(failures.is_empty(), "{} failed: {failures:?}\n{}", failures.len(), story.logs());
}

const EDGE: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  gatewayClassName: istio-agentgateway
  listeners:
  - {name: plain, port: 8080, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /in}}]
    backendRefs: [{name: web-v2, port: 80}]
";

/// The same program, told of another Gateway; and a port that comes while it runs.
fn a_gateway_listens_where_istiod_says(plane: &str) {
    let mut story = WaypointMesh::told(plane, ALL_TO_V2, EDGE);
    story.waypoint.process.signal(rustix::process::Signal::TERM).unwrap();
    story.waypoint.process.wait(PATIENCE).unwrap();
    story.waypoint = start_told(&story.mesh, plane, "edge");
    let to = |port| SocketAddr::new(story.mesh.at(PLACE).address(), port);
    let outside = story.mesh.at("host-a");
    let (answer, body) = ask(outside, to(8080), "/in", "").unwrap();
    assert_eq!(answer, 200, "{body}\n{}", story.logs());
    assert!(body.starts_with("v2\nGET /in "), "{body}");
    assert_eq!(ask(outside, to(8080), "/out", "").unwrap().0, 404);
    assert_eq!(status(&story)["role"], json!({"gateway": [8080]}));
    let another =
        "- {name: plain, port: 8080, protocol: HTTP}\n  - {name: more, port: 8081, protocol: HTTP}";
    story.route("- {name: plain, port: 8080, protocol: HTTP}", another);
    let is_there = || ask(outside, to(8081), "/in", "").is_ok_and(|(answer, _)| answer == 200);
    wait_until("the new port is there", PATIENCE, is_there)
        .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
    assert_eq!(ask(outside, to(8080), "/in", "").unwrap().0, 200, "the other goes on");
}

/// What the process says of what it was told.
fn status(story: &WaypointMesh) -> Value {
    let address = ([127, 0, 0, 1], 15000).into();
    let (code, told) = http_get(story.mesh.at(PLACE), address, "/config/status").unwrap();
    assert_eq!(code, 200, "{told}");
    serde_json::from_str(&told).unwrap()
}

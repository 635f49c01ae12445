//! A new version behind a waypoint: weights that change, copies of requests, a verdict; and one id in everybody's log.

use std::time::Duration;

use ringway_bench::lab::wait_until;
use serde_json::Value;

use crate::on_both_reactors;
use crate::support::waypoint::{Load, PLACE, WEB, WEB_TCP, WaypointMesh};
use crate::support::{Application, Metrics, PATIENCE, connect, http_get};

on_both_reactors! {
    one_id_is_in_everybodys_log,
    weights_change_live_and_the_canary_is_no_worse,
    a_canary_that_fails_is_found,
    mirrors_are_compared_with_what_clients_get,
    backends_are_told_who_asks_where_the_gateway_says_so,
}

/// 10 % of the requests go to the second version.
const WEIGHTS: &str =
    "  - backendRefs: [{name: web-v1, port: 80, weight: 90}, {name: web-v2, port: 80, weight: 10}]";

fn one_id_is_in_everybodys_log(reactor: &str) {
    let mut story = WaypointMesh::start(reactor, "");
    assert_eq!(story.ask("/joined", "").0, 200);
    let record = story.record("/joined");
    let request = record["tunnel_trace_id"].as_str().expect("it has one").to_owned();
    assert_eq!(record["upstream_tunnel_trace_id"], *request, "it was opened for this request");
    // Kept connections have the id of the request that they were opened for; the line tells both.
    assert_eq!(story.ask("/again", "").0, 200);
    let again = story.record("/again");
    assert_ne!(again["tunnel_trace_id"], *request);
    let opened = [&record, &again].map(|line| &line["tunnel_trace_id"]);
    assert!(opened.contains(&&again["upstream_tunnel_trace_id"]), "{again}");

    let _echoes = ["server", "server-2"].map(|pod| Application::echo(story.mesh.at(pod), 7000));
    drop(connect(story.mesh.at("client"), WEB_TCP.parse().unwrap()));
    let plain = wait_for_id(&story, |line| line.contains("dst.hbone_addr=10.96.1.1:7000"));

    // Connections that are kept for further requests end with it.
    let status = story.waypoint.process.terminate(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    for (id, is_plain) in [(&request, false), (&plain, true)] {
        let has = |log: &str, direction: &str| {
            let id = format!("trace_id=\"{id}\"");
            log.lines().any(|line| line.contains(&id) && line.contains(direction))
        };
        wait_until("the nodes' lines", PATIENCE, || {
            has(&story.mesh.a.process.log(), "direction=\"outbound\"")
                && has(&story.mesh.b.process.log(), "direction=\"inbound\"")
        })
        .unwrap_or_else(|error| panic!("{id}: {error}\n{}", story.logs()));
        let log = story.waypoint.process.log();
        let mut lines = log.lines().filter(|line| line.contains(id.as_str()));
        assert!(lines.any(|line| line.contains("direction=") == is_plain), "{id}\n{log}");
    }
}

/// The id in the line of client's node that fits.
fn wait_for_id(story: &WaypointMesh, fits: impl Fn(&str) -> bool) -> String {
    let mut found = None;
    wait_until("the line of client's node", PATIENCE, || {
        let log = story.mesh.a.process.log();
        let line = log.lines().find(|line| line.contains("\taccess\t") && fits(line));
        let id = line.and_then(|line| line.split("trace_id=\"").nth(1)?.split('"').next());
        found = id.map(str::to_owned);
        found.is_some()
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
    found.expect("it was just seen")
}

/// Arguments of `ringway canary` for the two versions here.
fn judge<'a>(duration: &'a str, least: &'a str) -> [&'a str; 13] {
    [
        "canary",
        "--baseline",
        "server",
        "--canary",
        "neighbour",
        "--service",
        "default/web",
        "--duration",
        duration,
        "--interval",
        "400ms",
        "--min-requests",
        least,
    ]
}

fn weights_change_live_and_the_canary_is_no_worse(reactor: &str) {
    let story = WaypointMesh::start(reactor, WEIGHTS);
    let load = Load::start(story.mesh.at("client"), WEB, 4);
    load.go_on_for(20);
    let (code, told) = std::thread::scope(|scope| {
        let judging = scope.spawn(|| {
            let mut arguments = judge("6s", "20").to_vec();
            arguments.extend(["--slow", "30s", "-o", "json"]);
            story.ringway(&arguments, PATIENCE)
        });
        for weights in [(50, 50), (10, 90), (0, 100), (90, 10)] {
            std::thread::sleep(Duration::from_millis(1000));
            let (one, two) = weights;
            let by = format!("weight: {one}}}, {{name: web-v2, port: 80, weight: {two}");
            story.rewrite("weight: 90}, {name: web-v2, port: 80, weight: 10", &by);
            load.go_on_for(50);
        }
        judging.join().unwrap()
    });
    let failures = load.failures();
    assert!(failures.is_empty(), "{} failed: {failures:?}\n{}", failures.len(), story.logs());
    assert_eq!(code, 0, "{told}\n{}", story.logs());
    let report: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"));
    assert_eq!(report["verdict"], "no-difference", "{report}");
    assert_eq!(report["canary"]["successRate"], 1.0);
    let seen = ["baseline", "canary"].map(|side| report[side]["requests"].as_u64().unwrap());
    assert!(seen.iter().all(|seen| *seen >= 20), "{report}");
}

fn a_canary_that_fails_is_found(reactor: &str) {
    let story = WaypointMesh::start(reactor, &WEIGHTS.replace("10}", "90}"));
    // Nobody has asked for anything.
    let (code, told) = story.ringway(&judge("1s", "20"), PATIENCE);
    assert_eq!(code, 2, "{told}");
    let (code, told) = std::thread::scope(|scope| {
        let judging = scope.spawn(|| story.ringway(&judge("60s", "20"), PATIENCE * 4));
        while !judging.is_finished() {
            let (status, body) = story.ask("/tried", "x-fails: v2\r\n");
            assert_eq!(status, if body.starts_with("v2") { 500 } else { 200 }, "{body}");
        }
        judging.join().unwrap()
    });
    assert_eq!(code, 1, "{told}\n{}", story.logs());
    assert!(told.contains("the canary is worse"), "{told}");
    let mut nobody = judge("1s", "20").to_vec();
    nobody.extend(["--metrics", "127.0.0.1:1"]);
    let (code, told) = story.ringway(&nobody, PATIENCE);
    assert!(code == 69 && told.contains("port 15020"), "{code}: {told}");
}

fn mirrors_are_compared_with_what_clients_get(reactor: &str) {
    let rules = "  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: web-v2, port: 80}}}
    backendRefs: [{name: web-v1, port: 80}]";
    let story = WaypointMesh::start(reactor, rules);
    for path in ["/a?token=hidden", "/b", "/c"] {
        let (status, body) = story.ask(path, "x-fails: v2\r\n");
        assert_eq!((status, &body[..2]), (200, "v1"), "its failures are its own");
    }
    let mut told = Value::Null;
    wait_until("the copies are compared", PATIENCE, || {
        let (code, text) = story.ringway(&["mirrors", "-o", "json"], PATIENCE);
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains("hidden"), "{text}");
        told = serde_json::from_str(&text).unwrap();
        told["mirrors"][0]["compared"] == 3
    })
    .unwrap_or_else(|error| panic!("{error}: {told}\n{}", story.logs()));
    let mirror = &told["mirrors"][0];
    assert_eq!(mirror["differences"]["status_class"], 3, "{told}");
    assert_eq!(mirror["samples"][0]["path"], "/a");
    assert_eq!(mirror["samples"][0]["copy"]["status"], 500);
    let (_, table) = story.ringway(&["mirrors"], PATIENCE);
    assert!(
        table.contains("GET /a: 200, and the mirror 500; they differ in status_class"),
        "{table}"
    );
    let address = ([127, 0, 0, 1], 15020).into();
    let (_, text) = http_get(story.mesh.at(PLACE), address, "/stats/prometheus").unwrap();
    let different = [("outcome", "different"), ("mirror", "web-v2.default.svc.cluster.local:80")];
    assert_eq!(Metrics::parse(&text).sum("ringway_mirrored_requests_total", &different), 3.0);
    // A node has none.
    let address = ([127, 0, 0, 1], 15000).into();
    assert_eq!(http_get(story.mesh.at("host-a"), address, "/mirrors").unwrap().0, 404);
}

fn backends_are_told_who_asks_where_the_gateway_says_so(reactor: &str) {
    let story = WaypointMesh::start(reactor, WEIGHTS);
    let forged = "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/root\r\n";
    let told = || story.ask("/", forged).1;
    assert!(!told().contains("x-forwarded-client-cert"), "nobody is believed");
    let plain = "metadata: {name: web-waypoint, namespace: default}";
    let telling = "metadata: {name: web-waypoint, namespace: default, annotations: \
                   {ambient.istio.io/xfcc-include-client-identity: 'true'}}";
    story.rewrite(plain, telling);
    let want = "x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/web-waypoint;\
                URI=spiffe://cluster.local/ns/default/sa/client\r\n";
    wait_until("the waypoint tells it", PATIENCE, || told().contains(want))
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", told(), story.logs()));
    assert!(!told().contains("sa/root"));
}

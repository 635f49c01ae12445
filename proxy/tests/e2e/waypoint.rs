//! HTTP through a waypoint: client → its node → the waypoint → the server's node → server.

use std::io::{Read, Write};
use std::net::Shutdown;

use ringway_bench::lab::{Program, wait_until};
use rustix::process::Signal;

use crate::on_both_reactors;
use crate::support::waypoint::{Load, PLACE, WEB, WEB_TCP, WaypointMesh, start_waypoint};
use crate::support::{Application, Metrics, PATIENCE, connect, echo_once, http_get};

on_both_reactors! {
    requests_go_where_their_headers_and_paths_say,
    a_tenth_of_the_requests_goes_to_the_second_version,
    what_takes_too_long_ends_with_504,
    policies_say_who_may_ask_for_what,
    paths_are_rewritten_and_redirected,
    curl_speaks_every_version_of_http,
    metrics_and_log_tell_both_ends,
    traces_go_on_whoever_collects_them,
    what_is_no_http_passes,
    a_waypoint_comes_and_goes_under_load,
    a_waypoint_that_is_killed_or_stuck_touches_nobody_else,
}

const ROUTES: &str = "  - matches: [{headers: [{name: x-version, value: v2}]}]
    backendRefs: [{name: web-v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /slow}}]
    timeouts: {request: 300ms}
    backendRefs: [{name: web-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: web-v1, port: 80}]";

fn requests_go_where_their_headers_and_paths_say(reactor: &str) {
    let story = WaypointMesh::start(reactor, ROUTES);
    //  path       header line            want   first line, and the head's
    let rows = [
        ("/", "", 200, "v1", "GET / "),
        ("/", "x-version: v2\r\n", 200, "v2", "GET / "),
        ("/", "x-version: v3\r\n", 200, "v1", "GET / "),
    ];
    for (path, header, want, version, line) in rows {
        let (status, body) = story.ask(path, header);
        assert_eq!(status, want, "{path} {header}: {body}\n{}", story.logs());
        assert!(body.starts_with(&format!("{version}\n{line}")), "{path} {header}: {body}");
    }
    // A name that every request has from here on.
    assert!(story.ask("/", "").1.contains("x-request-id: "));
}

fn a_tenth_of_the_requests_goes_to_the_second_version(reactor: &str) {
    let rules = "  - backendRefs: [{name: web-v1, port: 80, weight: 90}, {name: web-v2, port: 80, weight: 10}]";
    let story = WaypointMesh::start(reactor, rules);
    let second = (0..300).filter(|_| story.ask("/", "").1.starts_with("v2\n")).count();
    // Five standard deviations to each side.
    assert!((4..=56).contains(&second), "{second} of 300 went to v2");
}

fn what_takes_too_long_ends_with_504(reactor: &str) {
    let story = WaypointMesh::start(reactor, ROUTES);
    let (status, _) = story.ask("/slow", "");
    assert_eq!(status, 504, "{}", story.logs());
    let record = story.record("/slow");
    assert_eq!(record["response_flags"], "UT", "{record}");
    assert_eq!(story.ask("/", "").0, 200, "others go on");
}

/// What is refused is refused in every spelling of its path, and never reaches the server; a policy that goes has no
/// effect from then on.
fn policies_say_who_may_ask_for_what(reactor: &str) {
    let story = WaypointMesh::policed(reactor, ROUTES, POLICIES);
    //  path             header               want
    let rows = [
        ("/", "", 200),
        ("/admin", "", 403),
        ("/admin/x", "", 403),
        ("/%61dmin", "", 403),
        ("/x/../admin", "", 403),
        ("/administration", "", 200),
        ("/forbidden", "x-token: secret\r\n", 403),
    ];
    for (path, header, want) in rows {
        let (status, body) = story.ask(path, header);
        assert_eq!(status, want, "{path}: {body}\n{}", story.logs());
        if want == 403 {
            assert_eq!(body, "RBAC: access denied", "{path}");
        }
    }
    let record = story.record("/admin");
    let details = record["response_code_details"].as_str().unwrap();
    let want = "rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]]";
    assert_eq!(details, want, "{record}");
    story.police("");
    let is_open = || story.ask("/admin", "").0 == 200;
    wait_until("the policies have gone", PATIENCE, is_open).unwrap();
}

const POLICIES: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: default}
spec:
  targetRefs: [{kind: Service, group: '', name: web}]
  action: DENY
  rules:
  - to: [{operation: {paths: [/admin, /admin/*]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients-read, namespace: default}
spec:
  targetRefs: [{kind: Service, group: '', name: web}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]
    to: [{operation: {methods: [GET], notPaths: [/forbidden]}}]
";

fn paths_are_rewritten_and_redirected(reactor: &str) {
    let rules = "  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - type: URLRewrite
      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-set, value: here}], remove: [x-gone]}
    backendRefs: [{name: web-v1, port: 80}]
  - matches: [{path: {type: Exact, value: /elsewhere}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {hostname: other.example, statusCode: 301}";
    let story = WaypointMesh::start(reactor, rules);
    let (status, body) = story.ask("/old/x?y=1", "x-gone: 1\r\n");
    assert_eq!(status, 200, "{}", story.logs());
    assert!(body.starts_with("v1\nGET /new/x?y=1 HTTP/1.1\r\n"), "{body}");
    assert!(body.contains("\r\nx-set: here\r\n") && !body.contains("x-gone"), "{body}");
    assert_eq!(story.ask("/elsewhere", "").0, 301);
    assert_eq!(story.ask("/nowhere", "").0, 404);
}

fn curl_speaks_every_version_of_http(reactor: &str) {
    let story = WaypointMesh::start(reactor, ROUTES);
    // The second asks for an upgrade, which HTTP/2 has no more (RFC 9113 §3.1), and is answered as it asked.
    for (flag, want) in [("--http1.1", "1.1"), ("--http2", "1.1"), ("--http2-prior-knowledge", "2")]
    {
        let program = Program::new("curl").arguments([
            "--silent",
            "--show-error",
            flag,
            "--header",
            "x-version: v2",
            "--write-out",
            "\n%{http_code} %{http_version}",
            "http://10.96.1.1/curl",
        ]);
        let mut curl = story.mesh.lab.start("client", &format!("curl{flag}"), &program).unwrap();
        let status = curl.wait(PATIENCE).unwrap();
        let told = curl.log();
        assert!(status.success(), "{flag}: {told}\n{}", story.logs());
        assert!(told.starts_with("v2\nGET /curl HTTP/1.1"), "{flag}: {told}");
        assert!(told.trim_end().ends_with(&format!("200 {want}")), "{flag}: {told}");
    }
}

fn metrics_and_log_tell_both_ends(reactor: &str) {
    let story = WaypointMesh::start(reactor, ROUTES);
    for _ in 0..3 {
        assert_eq!(story.ask("/told", "user-agent: tests\r\n").0, 200);
    }
    let record = story.record("/told");
    for (key, want) in [
        ("method", "GET"),
        ("protocol", "HTTP/1.1"),
        ("response_flags", "-"),
        ("response_code_details", "via_upstream"),
        ("user_agent", "tests"),
        ("authority", "web"),
        ("downstream_local_address", WEB),
    ] {
        assert_eq!(record[key], want, "{key}: {record}");
    }
    assert_eq!(record["response_code"], 200);
    assert!(record["downstream_remote_address"].as_str().unwrap().starts_with("10.1.0.10:"));
    assert_eq!(record["tunnel_trace_id"].as_str().map(str::len), Some(32), "{record}");

    let address = ([127, 0, 0, 1], 15020).into();
    let scraped = || {
        let at = story.mesh.at(PLACE);
        Metrics::parse(&http_get(at, address, "/stats/prometheus").unwrap().1)
    };
    let labels = [
        ("reporter", "waypoint"),
        ("source_workload", "client"),
        ("source_principal", "spiffe://cluster.local/ns/default/sa/client"),
        ("destination_workload_namespace", "default"),
        ("destination_principal", "spiffe://cluster.local/ns/default/sa/server"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("connection_security_policy", "mutual_tls"),
    ];
    wait_until("the requests are counted", PATIENCE, || {
        scraped().sum("istio_requests_total", &labels) == 3.0
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
    assert_eq!(scraped().sum("istio_request_duration_milliseconds_count", &labels), 3.0);

    let address = ([127, 0, 0, 1], 15000).into();
    let (status, told) = http_get(story.mesh.at(PLACE), address, "/config/status").unwrap();
    assert_eq!(status, 200);
    assert!(told.contains("\"HTTPRoute\"") && told.contains("\"Accepted\""), "{told}");
    // A node has nothing to say of that.
    assert_eq!(http_get(story.mesh.at("host-a"), address, "/config/status").unwrap().0, 404);
}

fn traces_go_on_whoever_collects_them(reactor: &str) {
    // Nobody listens there.
    let story = WaypointMesh::traced_to(reactor, ROUTES, "http://127.0.0.1:9");
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (status, body) = story.ask("/traced", &format!("traceparent: {parent}\r\n"));
    assert_eq!(status, 200);
    let sent = body.lines().find_map(|line| line.strip_prefix("traceparent: ")).expect(&body);
    assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent != parent, "{sent}");
    assert_eq!(story.record("/traced")["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(story.ask("/fresh", "").1.contains("traceparent: 00-"), "one begins here");
    let several = "x-b3-traceid: a3ce929d0e0e4736\r\nx-b3-spanid: 00f067aa0ba902b7\r\n";
    let body = story.ask("/zipkin", several).1;
    assert!(body.contains("x-b3-parentspanid: 00f067aa0ba902b7"), "{body}");
    let address = ([127, 0, 0, 1], 15020).into();
    let lost = || {
        let at = story.mesh.at(PLACE);
        let text = http_get(at, address, "/stats/prometheus").unwrap().1;
        Metrics::parse(&text).sum("ringway_spans_total", &[("outcome", "lost")])
    };
    wait_until("the spans are lost, and nothing else", PATIENCE, || lost() == 3.0).unwrap();
}

fn what_is_no_http_passes(reactor: &str) {
    let story = WaypointMesh::start(reactor, "");
    // Both: the service has two endpoints.
    let _echoes = ["server", "server-2"].map(|pod| Application::echo(story.mesh.at(pod), 7000));
    let mut stream = connect(story.mesh.at("client"), WEB_TCP.parse().unwrap());
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
    writing.join().unwrap();
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

fn a_waypoint_comes_and_goes_under_load(reactor: &str) {
    let story = WaypointMesh::start(reactor, ROUTES);
    let load = Load::start(story.mesh.at("client"), WEB, 4);
    load.go_on_for(50);
    for bound in [false, true, false, true] {
        story.bind(bound);
        wait_until("the node has read it", PATIENCE, || story.is_bound() == bound).unwrap();
        load.go_on_for(50);
    }
    let failures = load.failures();
    assert!(failures.is_empty(), "{} failed: {failures:?}\n{}", failures.len(), story.logs());
}

fn a_waypoint_that_is_killed_or_stuck_touches_nobody_else(reactor: &str) {
    let mut story = WaypointMesh::start(reactor, ROUTES);
    let echo = Application::echo(story.mesh.at("server"), 9000);
    let to = story.mesh.address("server", 9000);
    let mut open = connect(story.mesh.at("client"), to);
    let neighbour = |story: &WaypointMesh| {
        echo_once(story.mesh.at("client"), to).unwrap();
        // Another tenant's service, which has no waypoint.
        let other = Load::start(story.mesh.at("client"), "10.96.1.3:80", 2);
        other.go_on_for(20);
        assert_eq!(other.failures(), Vec::<String>::new());
    };
    story.waypoint.process.signal(Signal::STOP).unwrap();
    neighbour(&story);
    story.waypoint.process.signal(Signal::CONT).unwrap();
    assert_eq!(story.ask("/", "").0, 200, "it goes on where it was");
    story.waypoint.process.signal(Signal::KILL).unwrap();
    neighbour(&story);
    let mut answer = [0; 5];
    open.write_all(b"still").unwrap();
    open.read_exact(&mut answer).unwrap();
    assert_eq!((&answer, echo.accepted()), (b"still", 3), "what was open stays open");
    // It comes back, and so does its service.
    story.waypoint.process.wait(PATIENCE).unwrap();
    story.waypoint = start_waypoint(&story.mesh);
    let mut status = 0;
    wait_until("its service is back", PATIENCE, || {
        let asked =
            crate::support::waypoint::ask(story.mesh.at("client"), WEB.parse().unwrap(), "/", "");
        status = asked.map_or(0, |(status, _)| status);
        status == 200
    })
    .unwrap_or_else(|error| panic!("{error}: {status}\n{}", story.logs()));
}

//! Services outside that a waypoint asks about requests: gRPC's own library with Envoy's own messages, in Python.
//!
//! | pod       | what it is here                                                        |
//! |-----------|------------------------------------------------------------------------|
//! | neighbour | the authorizers and the rate limit service, behind its node            |
//! | stranger  | the same program, for the keys of tokens, which are fetched in plain   |

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ringway_bench::lab::{Process, Program, wait_until};

use crate::clients::tool;
use crate::on_both_reactors;
use crate::support::waypoint::{PLACE, WaypointMesh};
use crate::support::{Metrics, PATIENCE, http_get};

on_both_reactors! {
    services_outside_decide_about_requests,
}

/// Made with the key of RFC 8037, appendix A: of the issuer `https://issuer.example`, for `me`.
const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoibWUifQ.\
                     u7_m5du-GKQDBAWXCK_sUgsjzbJP3h-lZGMJW-rbot7LVbDLSdNbeOvGAqbepxGze7C7ngTbh6ioC5CU-adIBw";

const POLICIES: &str = "---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {clusterIP: 10.96.1.9, selector: {app: neighbour}, ports: [{name: grpc, port: 9000}, {name: http, port: 9001}]}
---
apiVersion: ringway.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  extensionProviders:
  - name: by-grpc
    envoyExtAuthzGrpc: {service: outside.default.svc.cluster.local, port: 9000, timeout: 20s}
  - name: by-grpc-or-open
    envoyExtAuthzGrpc: {service: outside.default.svc.cluster.local, port: 9000, timeout: 20s, failOpen: true}
  - name: by-http
    envoyExtAuthzHttp:
      service: default/outside.default.svc.cluster.local
      port: 9001
      timeout: 20s
      pathPrefix: /check
      includeRequestHeadersInCheck: [x-pass]
      headersToUpstreamOnAllow: [x-user]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: account, namespace: default}
spec:
  targetRefs: [{kind: Service, group: '', name: web}]
  action: CUSTOM
  provider: {name: by-grpc}
  rules: [{to: [{operation: {paths: [/account/*]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: inbox, namespace: default}
spec:
  targetRefs: [{kind: Service, group: '', name: web}]
  action: CUSTOM
  provider: {name: by-http}
  rules: [{to: [{operation: {paths: [/inbox]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: help, namespace: default}
spec:
  targetRefs: [{kind: Service, group: '', name: web}]
  action: CUSTOM
  provider: {name: by-grpc-or-open}
  rules: [{to: [{operation: {paths: [/help]}}]}]
---
apiVersion: ringway.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: searches, namespace: default}
spec:
  targetRefs: [{kind: Service, name: web}]
  global:
    service: outside
    port: 9000
    domain: shop
    timeout: 20s
    failOpen: false
    descriptors: [{entries: [{key: user, header: x-user}, {pathMatch: /search}, sourceIdentity]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: default}
spec:
  targetRefs: [{kind: Service, group: '', name: web}]
  jwtRules:
  - {issuer: https://issuer.example, jwksUri: 'http://10.1.0.99:9002/keys', outputClaimToHeaders: [{header: x-subject, claim: sub}]}
";

fn services_outside_decide_about_requests(reactor: &str) {
    let mut story = WaypointMesh::policed(reactor, "", POLICIES);
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    let (status, body) = story.ask("/", &token);
    assert_eq!((status, &*body), (401, "Jwks remote fetch is failed"), "nobody has its keys yet");

    let services = start(&story, "neighbour");
    let _keys = start(&story, "stranger");
    let asked = |what: &str| services.log().contains(what);

    // By gRPC: who it is decides, and what the answer says is done.
    let (status, body) = story.ask("/x/../account/1?a=b", "");
    assert_eq!((status, &*body), (401, "who are you?"), "{}\n{}", services.log(), story.logs());
    let record = story.record("/x/../account/1?a=b");
    assert_eq!(record["response_flags"], "UAEX", "{record}");
    let details = record["response_code_details"].as_str().unwrap();
    assert_eq!(details, "ext_authz_denied{ns[default]-policy[account]-rule[0]}");
    let who = "\"check\": \"/account/1?a=b\", \"method\": \"GET\", \"source\": \"spiffe://cluster.local/ns/default/sa/client\", \
               \"destination\": \"spiffe://cluster.local/ns/default/sa/web-waypoint\"";
    assert!(asked(who), "{}", services.log());
    let (status, body) = story.ask("/account/2", "x-pass: yes\r\nx-user: root\r\n");
    assert_eq!(status, 200, "{body}\n{}", story.logs());
    assert!(body.contains("\r\nx-user: somebody\r\n") && !body.contains("x-pass"), "{body}");

    // By HTTP.
    let (status, body) = story.ask("/inbox", "");
    assert_eq!((status, &*body), (403, "not you"), "{}", services.log());
    let (status, body) = story.ask("/inbox", "x-pass: yes\r\nx-user: root\r\n");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\r\nx-user: somebody\r\n"), "{body}");
    assert!(asked("\"http\": \"/check/inbox\""), "{}", services.log());

    // Each user may search twice.
    for (user, want) in [("a", 200), ("a", 200), ("a", 429), ("b", 200)] {
        let (status, body) = story.ask("/search", &format!("x-user: {user}\r\n"));
        assert_eq!(status, want, "{user}: {body}\n{}", services.log());
    }
    let record = story.record("/search");
    assert_eq!(record["response_flags"], "-", "{record}");
    let who = "\"limit\": \"shop\", \"descriptors\": [[[\"user\", \"a\"], [\"path\", \"/search\"], [\"sourceIdentity\", \
               \"cluster.local/ns/default/sa/client\"]]]";
    assert!(asked(who), "{}", services.log());

    // Keys come without a reload.
    let is_believed = || story.ask("/", &token).0 == 200;
    wait_until("the issuer's keys are there", PATIENCE, is_believed).unwrap();
    let (_, body) = story.ask("/", &token);
    assert!(body.contains("\r\nx-subject: me\r\n"), "{body}");
    let broken = token.replace("u7_m5", "u7_m6");
    assert_eq!(story.ask("/", &broken), (401, "Jwt verification fails".to_owned()));

    assert_eq!(calls(&story, "authorization", "allowed"), 2.0);
    assert_eq!(calls(&story, "authorization", "denied"), 2.0);
    assert_eq!(calls(&story, "rate_limit", "denied"), 1.0);

    // Who does not answer says no.
    drop(services);
    let (status, _) = story.ask("/account/3", "x-pass: yes\r\n");
    assert_eq!(status, 403, "{}", story.logs());
    assert_eq!(story.ask("/search", "x-user: c\r\n").0, 500);
    assert_eq!(story.ask("/", "").0, 200, "who is not asked about goes on");

    // Unless it is said otherwise; and that is told, with the reason.
    let (status, body) = story.ask("/help", "");
    assert_eq!(status, 200, "{body}");
    let line = "requests pass without it";
    story.waypoint.process.wait_for_log(line, PATIENCE).unwrap();
    let log = story.waypoint.process.log();
    let line = log.lines().find(|told| told.contains(line)).unwrap();
    let web = "default/web.default.svc.cluster.local:80";
    for part in ["authorization", "by-grpc-or-open", web, "it cannot be reached: "] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(calls(&story, "authorization", "failed_open"), 1.0);
}

/// How often such services were asked, and this was the outcome.
fn calls(story: &WaypointMesh, service: &str, outcome: &str) -> f64 {
    let at = SocketAddr::from(([127, 0, 0, 1], 15020));
    let told = http_get(story.mesh.at(PLACE), at, "/stats/prometheus").unwrap().1;
    let labels = [("service", service), ("outcome", outcome)];
    Metrics::parse(&told).sum("ringway_outside_calls_total", &labels)
}

fn start(story: &WaypointMesh, pod: &str) -> Process {
    let program = Program::new(tool("clients-python/bin/python")).argument(services());
    // Each has a log of its own.
    let name = format!("services-{pod}");
    let mut process = story.mesh.lab.start(pod, &name, &program).unwrap();
    process.wait_for_log("\"ready\"", PATIENCE).unwrap();
    process
}

fn services() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside/services.py")
}

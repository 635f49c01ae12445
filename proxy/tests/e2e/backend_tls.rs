//! A waypoint before Python's own HTTPS servers, which are in the pod `neighbour`, behind its node.
//!
//! | port | its server                                    |
//! |------|-----------------------------------------------|
//! | 9000 | has a certificate for `secure.example`        |
//! | 9001 | has one for `other.example`                   |
//! | 9002 | has one that another authority has signed     |
//! | 9003 | has one that has ended                        |
//! | 9004 | never answers a handshake                     |
//! | 9005 | closes when it has heard the first of it      |
//! | 9006 | is as 9000, and asks clients for a certificate |

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use ringway_bench::lab::{Process, Program, wait_until};
use serde_json::{Value, json};

use crate::clients::tool;
use crate::support::waypoint::{PLACE, WaypointMesh};
use crate::support::{Metrics, PATIENCE, http_get};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    only_servers_that_the_policy_believes_get_requests,
    a_destination_rule_says_whom_to_believe_and_what_to_show,
}

under_a_control_plane! {
    only_servers_that_istiod_has_believed_get_requests,
}

const RULES: &str = "  - matches: [{path: {type: PathPrefix, value: /right}}]
    backendRefs: [{name: secure, port: 9000}]
  - matches: [{path: {type: PathPrefix, value: /name}}]
    backendRefs: [{name: secure, port: 9001}]
  - matches: [{path: {type: PathPrefix, value: /authority}}]
    backendRefs: [{name: secure, port: 9002}]
  - matches: [{path: {type: PathPrefix, value: /ended}}]
    backendRefs: [{name: secure, port: 9003}]
  - matches: [{path: {type: PathPrefix, value: /silent}}]
    timeouts: {request: 1s}
    backendRefs: [{name: secure, port: 9004}]
  - matches: [{path: {type: PathPrefix, value: /cut}}]
    backendRefs: [{name: secure, port: 9005}]
  - matches: [{path: {type: PathPrefix, value: /mutual}}]
    backendRefs: [{name: secure, port: 9006}]";

const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: secure}
spec:
  clusterIP: 10.96.1.9
  selector: {app: neighbour}
  ports:
  - {name: right, port: 9000}
  - {name: name, port: 9001}
  - {name: authority, port: 9002}
  - {name: ended, port: 9003}
  - {name: silent, port: 9004}
  - {name: cut, port: 9005}
  - {name: mutual, port: 9006}
";

const POLICY: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: secure}
spec:
  targetRefs: [{group: '', kind: Service, name: secure}]
  validation:
    caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}]
    hostname: secure.example
---
apiVersion: v1
kind: ConfigMap
metadata: {name: roots}
data:
  ca.crt: |
";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate for a name and its key, in one file.
    fn sign(&self, name: &str, until: i32, file: &Path) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // OpenSSL takes who has its issuer's name for signed by itself.
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(file, certificate.pem() + &key.serialize_pem()).unwrap();
    }
}

fn only_servers_that_the_policy_believes_get_requests(reactor: &str) {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let roots: String = ours.0.pem().lines().map(|line| format!("    {line}\n")).collect();
    let story = WaypointMesh::policed(reactor, RULES, &format!("{SERVICE}{POLICY}{roots}"));
    let _servers = serve(&story, &ours, &stranger);

    //  path          status  flags
    let rows = [
        ("/right/1", 200, "-"),
        ("/right/2", 200, "-"),
        ("/name", 503, "UF"),
        ("/authority", 503, "UF"),
        ("/ended", 503, "UF"),
        ("/silent", 504, "UT"),
        ("/cut", 503, "UF"),
        ("/right/3", 200, "-"),
    ];
    for (path, want, flags) in rows {
        let (status, body) = story.ask(path, "");
        assert_eq!(status, want, "{path}: {body}\n{}", story.logs());
        let record = story.record(path);
        assert_eq!(record["response_flags"], flags, "{record}");
        if want == 200 {
            assert_eq!(body, format!("9000 {path} TLSv1.3"));
        }
        if want == 503 {
            let why = record["upstream_transport_failure_reason"].as_str().unwrap_or_default();
            assert!(why.starts_with("backend tls error: "), "{record}");
        }
    }
    let at = SocketAddr::from(([127, 0, 0, 1], 15020));
    let told = http_get(story.mesh.at(PLACE), at, "/stats/prometheus").unwrap().1;
    let metrics = Metrics::parse(&told);
    let failures =
        |reason| metrics.sum("ringway_backend_tls_failures_total", &[("reason", reason)]);
    assert!(failures("untrusted") >= 3.0 && failures("cut") >= 1.0, "{told}");

    // Another name is wanted: nothing that was connected for the one before is used for it.
    story.rewrite("hostname: secure.example", "hostname: other.example");
    let becomes = |path: &str, status| {
        let is_so = || story.ask(path, "").0 == status;
        wait_until("the policy is in force", PATIENCE, is_so)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", story.logs()));
    };
    becomes("/right", 503);
    assert_eq!(story.ask("/name", "").1, "9001 /name TLSv1.3");

    // A policy that cannot be used closes what it is for.
    story.rewrite("name: roots}]", "name: gone}]");
    becomes("/name/closed", 503);
    assert_eq!(story.ask("/right/told", "").0, 503);
    let why = &story.record("/right/told")["upstream_transport_failure_reason"];
    let want = "the BackendTLSPolicy `default/secure` cannot be used: there is no ConfigMap `gone`";
    assert!(why.as_str().unwrap_or_default().contains(want), "{why}");
}

/// The same policy, told by a control plane.
fn only_servers_that_istiod_has_believed_get_requests(plane: &str) {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let roots: String = ours.0.pem().lines().map(|line| format!("    {line}\n")).collect();
    let story = WaypointMesh::told(plane, RULES, &format!("{SERVICE}{POLICY}{roots}"));
    let _servers = serve(&story, &ours, &stranger);
    for (path, want) in [("/right/1", 200), ("/name", 503), ("/authority", 503), ("/ended", 503)] {
        let (status, body) = story.ask(path, "");
        assert_eq!(status, want, "{path}: {body}\n{}", story.logs());
    }
    assert_eq!(story.ask("/right/2", "").1, "9000 /right/2 TLSv1.3");
    let becomes = |path: &str, status| {
        wait_until("what is told is in force", PATIENCE, || story.ask(path, "").0 == status)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", story.logs()));
    };
    // One whose authorities cannot be had closes what it is for.
    story.rewrite("name: roots}]", "name: gone}]");
    becomes("/right/3", 503);
    let other = "[{type: Hostname, hostname: other.example}]";
    let names = format!("hostname: secure.example\n    subjectAltNames: {other}");
    story.rewrite("hostname: secure.example", &names);
    becomes("/name", 200);
    assert_eq!(story.ask("/right/4", "").0, 503, "it has no name of those");
    let status: Value = {
        let address = SocketAddr::from(([127, 0, 0, 1], 15000));
        let told = http_get(story.mesh.at(PLACE), address, "/config/status").unwrap().1;
        serde_json::from_str(&told).unwrap()
    };
    assert_eq!(status["refused"], json!([]), "{status}");
}

fn a_destination_rule_says_whom_to_believe_and_what_to_show(reactor: &str) {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let files = tempfile::TempDir::new().unwrap();
    let file = |name: &str| files.path().join(name).display().to_string();
    fs::write(file("roots.pem"), ours.0.pem()).unwrap();
    ours.sign("waypoint.example", 2040, Path::new(&file("own.pem")));
    let mutual = format!("mode: MUTUAL, clientCertificate: {0}, privateKey: {0}", file("own.pem"));
    let rule = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: secure}}\nspec:\n  host: secure\n  \
         trafficPolicy:\n    tls: {{{mutual}, caCertificates: {}, sni: secure.example}}\n",
        file("roots.pem")
    );
    let story = WaypointMesh::policed(reactor, RULES, &format!("{SERVICE}{rule}"));
    let _servers = serve(&story, &ours, &stranger);

    //  path          what is answered
    let rows = [
        ("/right", Ok("9000 /right TLSv1.3")),
        ("/mutual", Ok("9006 /mutual TLSv1.3 waypoint.example")),
        ("/name", Err("UF")),
        ("/authority", Err("UF")),
        ("/ended", Err("UF")),
        ("/cut", Err("UF")),
    ];
    for (path, want) in rows {
        let (status, body) = story.ask(path, "");
        let flags = story.record(path)["response_flags"].as_str().unwrap_or_default().to_owned();
        match want {
            Ok(want) => assert_eq!((status, &*body), (200, want), "{path}\n{}", story.logs()),
            Err(want) => assert_eq!((status, &*flags), (503, want), "{path}: {body}"),
        }
    }

    // Without a certificate of its own it is refused by who asks for one, and believed by nobody else the less.
    story.rewrite(&mutual, "mode: SIMPLE");
    wait_until("the rule is in force", PATIENCE, || story.ask("/mutual", "").0 == 503)
        .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
    assert_eq!(story.ask("/right", "").1, "9000 /right TLSv1.3");
    assert_eq!(story.ask("/authority", "").0, 503);

    // Another name: what is kept for the one before is used no more.
    story.rewrite("sni: secure.example", "sni: other.example");
    wait_until("the name is in force", PATIENCE, || story.ask("/name", "").0 == 200)
        .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
    assert_eq!(story.ask("/right", "").0, 503);
}

fn serve(story: &WaypointMesh, ours: &Authority, stranger: &Authority) -> Process {
    let home = story.mesh.lab.directory();
    let file = |name: &str| home.join(format!("{name}.pem"));
    ours.sign("secure.example", 2040, &file("right"));
    ours.sign("other.example", 2040, &file("name"));
    stranger.sign("secure.example", 2040, &file("authority"));
    ours.sign("secure.example", 2021, &file("ended"));
    let certified = ["right", "name", "authority", "ended"];
    let arguments =
        (9000..).zip(certified).map(|(port, name)| format!("{port}={}", file(name).display()));
    let roots = file("clients");
    fs::write(&roots, ours.0.pem()).unwrap();
    let mutual = format!("9006={},{}", file("right").display(), roots.display());
    let arguments: Vec<String> =
        arguments.chain(["9004=silent".to_owned(), "9005=cut".to_owned(), mutual]).collect();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backends/https.py");
    let program =
        Program::new(tool("clients-python/bin/python")).argument(program).arguments(arguments);
    let mut process = story.mesh.lab.start("neighbour", "https", &program).unwrap();
    process.wait_for_log("\"ready\"", PATIENCE).unwrap();
    process
}

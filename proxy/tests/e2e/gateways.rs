//! A gateway with TLS, before curl: which certificate a server name gets, which requests it is for, and HTTP/2 from there on.

use std::fs;

use rcgen::{CertificateParams, KeyPair};
use ringway_bench::lab::Program;

use crate::on_both_reactors;
use crate::support::{Application, Mesh, PATIENCE, Proxy};

on_both_reactors! {
    curl_meets_the_listener_of_its_server_name,
}

/// Three listeners at one port: of a name, of all names below another, and of the rest.
const GATEWAY: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec:
  gatewayClassName: ringway
  listeners:
  - {name: one, port: 8443, protocol: HTTPS, hostname: one.example, tls: {certificateRefs: [{name: one}]}}
  - {name: below, port: 8443, protocol: HTTPS, hostname: '*.two.example', tls: {certificateRefs: [{name: below}]}}
  - {name: rest, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: rest}]}}
---
apiVersion: v1
kind: Pod
metadata:
  name: front
  labels: {gateway.networking.k8s.io/gateway-name: front}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: host-b, serviceAccountName: front}
status: {podIP: 10.2.0.12}
---
apiVersion: v1
kind: Service
metadata: {name: pages}
spec: {clusterIP: 10.96.1.5, selector: {app: server}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front}
spec:
  parentRefs: [{name: front, sectionName: one}, {name: front, sectionName: below}]
  rules: [{backendRefs: [{name: pages, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rest}
spec:
  parentRefs: [{name: front, sectionName: rest}]
  hostnames: [other.example]
  rules: [{backendRefs: [{name: pages, port: 80}]}]
";

fn curl_meets_the_listener_of_its_server_name(reactor: &str) {
    let (mut roots, mut documents) = (String::new(), GATEWAY.to_owned());
    for (secret, names) in
        [("one", &["one.example"][..]), ("below", &["*.two.example"]), ("rest", &["other.example"])]
    {
        let (certificate, key) = certificate(names);
        documents += &format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {secret}}}\ntype: kubernetes.io/tls\nstringData:\n  \
             tls.crt: |\n{}  tls.key: |\n{}",
            indented(&certificate),
            indented(&key)
        );
        roots += &certificate;
    }
    let mesh = Mesh::with(reactor).policies(&documents).start();
    fs::write(mesh.lab.directory().join("roots.pem"), roots).unwrap();
    let _servers =
        ["server", "server-2"].map(|pod| Application::http(mesh.at(pod), 8080, "server"));
    let gateway = start(&mesh);

    //  asks for                   says it wants         want  by a certificate of its name
    let rows = [
        ("one.example", "one.example", "200"),
        ("a.two.example", "a.two.example", "200"),
        ("a.two.example", "b.two.example", "200"),
        ("other.example", "other.example", "200"),
        // Its certificate was another listener's (RFC 9110 §7.4).
        ("one.example", "a.two.example", "421"),
        ("a.two.example", "one.example", "421"),
        ("other.example", "one.example", "421"),
        ("one.example", "other.example", "421"),
        // Nobody's.
        ("other.example", "nobody.example", "404"),
    ];
    for (version, spoken) in [("--http2", "2"), ("--http1.1", "1.1")] {
        for (name, host, want) in rows {
            let told =
                curl(&mesh, &gateway, version, name, &["--header", &format!("host: {host}")]);
            let want = format!("{want} {spoken}");
            assert!(
                told.ends_with(&want),
                "{version} {name} {host}: {told}\n{}",
                gateway.process.log()
            );
            if want.starts_with("200") {
                assert!(told.starts_with("server was asked from 10.2.0.12"), "{told}");
            }
        }
    }
    // A name that no certificate is for is curl's to refuse.
    let told = curl(&mesh, &gateway, "--http2", "stranger.example", &[]);
    assert!(told.contains("SSL"), "{told}");
}

/// One request from outside of the mesh; what curl says, its code and version last.
fn curl(mesh: &Mesh, gateway: &Proxy, version: &str, name: &str, more: &[&str]) -> String {
    let roots = mesh.lab.directory().join("roots.pem");
    let program = Program::new("curl")
        .arguments(["--silent", "--show-error", version, "--cacert"])
        .argument(roots)
        .arguments(["--write-out", "\n%{http_code} %{http_version}", "--max-time", "20"])
        .arguments(["--resolve", &format!("{name}:8443:10.2.0.12")])
        .arguments(more)
        .argument(format!("https://{name}:8443/"));
    let mut curl = mesh.lab.start("stranger", "curl", &program).unwrap();
    curl.wait(PATIENCE * 2).unwrap_or_else(|error| panic!("{error}\n{}", gateway.process.log()));
    curl.log().trim_end().to_owned()
}

fn start(mesh: &Mesh) -> Proxy {
    let program = Program::new(env!("CARGO_BIN_EXE_ringway"))
        .arguments(["gateway", "--name", "default/front", "--node", "host-b", "--file"])
        .argument(mesh.file())
        .environment("RINGWAY_CORES", "1");
    let process = mesh.lab.start("late", "ringway-gateway", &program).unwrap();
    let mut gateway = Proxy::new(process, "late");
    gateway.wait_until_ready(&mesh.lab);
    gateway
}

/// Signed by itself, and its key.
fn certificate(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

//! A gateway with TLS, before curl: which certificate a server name gets, which requests it is for, and HTTP/2 from there on;
//! and which clients get in by the certificates that they show.

use std::fs;
use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ringway_bench::lab::{Program, wait_until};

use crate::on_both_reactors;
use crate::support::waypoint::speak;
use crate::support::{Application, Mesh, PATIENCE, Proxy, http_get};

on_both_reactors! {
    curl_meets_the_listener_of_its_server_name,
    clients_get_in_by_the_certificates_that_they_show,
    a_set_adds_listeners_while_the_gateway_runs,
}

/// The gateway's own workload, and whom it leads to.
const FRONT: &str = "---
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
";

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
    let (mut roots, mut documents) = (String::new(), format!("{FRONT}{GATEWAY}"));
    for (secret, names) in
        [("one", &["one.example"][..]), ("below", &["*.two.example"]), ("rest", &["other.example"])]
    {
        let (certificate, key) = certificate(names);
        documents += &pair(secret, &certificate, &key);
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
            let host_there = format!("host: {host}");
            let told = curl(&mesh, &gateway, (name, 8443), &[version, "--header", &host_there]);
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
    let told = curl(&mesh, &gateway, ("stranger.example", 8443), &["--http2"]);
    assert!(told.contains("SSL"), "{told}");
}

/// One request from outside of the mesh; what curl says, its code and version last.
fn curl(mesh: &Mesh, gateway: &Proxy, (name, port): (&str, u16), more: &[&str]) -> String {
    let roots = mesh.lab.directory().join("roots.pem");
    let program = Program::new("curl")
        .arguments(["--silent", "--show-error", "--cacert"])
        .argument(roots)
        .arguments(["--write-out", "\n%{http_code} %{http_version}", "--max-time", "20"])
        .arguments(["--resolve", &format!("{name}:{port}:10.2.0.12")])
        .arguments(more)
        .argument(format!("https://{name}:{port}/"));
    let mut curl = mesh.lab.start("stranger", "curl", &program).unwrap();
    curl.wait(PATIENCE * 2).unwrap_or_else(|error| panic!("{error}\n{}", gateway.process.log()));
    curl.log().trim_end().to_owned()
}

/// Ports, and whom they let in.
const CLIENTS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: front
  annotations: {ambient.istio.io/xfcc-include-client-identity: 'true'}
spec:
  gatewayClassName: ringway
  tls:
    frontend:
      default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ours}]}}
      perPort:
      - port: 8444
        tls: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: '', kind: ConfigMap, name: ours}]}}
      - port: 8445
        tls: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}]}}
      - {port: 8446, tls: {}}
  listeners:
  - {name: valid, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: one}]}}
  - {name: fallback, port: 8444, protocol: HTTPS, tls: {certificateRefs: [{name: one}]}}
  - {name: gone, port: 8445, protocol: HTTPS, tls: {certificateRefs: [{name: one}]}}
  - {name: nobody, port: 8446, protocol: HTTPS, tls: {certificateRefs: [{name: one}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front}
spec:
  parentRefs: [{name: front}]
  rules: [{backendRefs: [{name: pages, port: 80}]}]
";

/// An authority, and files with a client's certificate and key.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn sign(&self, mesh: &Mesh, client: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![client.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let file = mesh.lab.directory().join(format!("{client}.pem"));
        fs::write(&file, certificate.pem() + &key.serialize_pem()).unwrap();
        file.display().to_string()
    }

    /// As the ConfigMap of this name.
    fn config_map(&self, name: &str) -> String {
        let pem = indented(&self.0.pem());
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  ca.crt: |\n{pem}"
        )
    }
}

fn clients_get_in_by_the_certificates_that_they_show(reactor: &str) {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = certificate(&["one.example"]);
    let documents = [
        FRONT.to_owned(),
        CLIENTS.to_owned(),
        pair("one", &certificate, &key),
        ours.config_map("ours"),
        stranger.config_map("theirs"),
    ];
    let mesh = Mesh::with(reactor).policies(&documents.concat()).start();
    fs::write(mesh.lab.directory().join("roots.pem"), certificate).unwrap();
    let _servers = ["server", "server-2"].map(|pod| speak(mesh.at(pod), pod, "server"));
    let mut gateway = start(&mesh);
    let good = ours.sign(&mesh, "good.example");
    let foreign = stranger.sign(&mesh, "foreign.example");
    let ask = |port: u16, shows: Option<&str>| {
        let shown = shows.map_or(Vec::new(), |file| vec!["--cert", file]);
        curl(&mesh, &gateway, ("one.example", port), &shown)
    };
    let [good, foreign] = [Some(good.as_str()), Some(foreign.as_str())];

    //  what               port  shows    gets in  backends hear of it
    let rows = [
        ("good", 8443, good, true, true),
        ("none", 8443, None, false, false),
        ("foreign", 8443, foreign, false, false),
        ("good, lenient", 8444, good, true, true),
        ("none, lenient", 8444, None, true, false),
        ("foreign, lenient", 8444, foreign, true, false),
        ("good, bad reference", 8445, good, false, false),
        ("none, bad reference", 8445, None, false, false),
        ("none, not asked", 8446, None, true, false),
        ("good, not asked", 8446, good, true, false),
    ];
    for (what, port, shows, gets_in, is_told) in rows {
        let told = ask(port, shows);
        let is_in = told.ends_with("\n200 2") && told.starts_with("server\nGET / HTTP/1.1");
        assert_eq!(is_in, gets_in, "{what}: {told}\n{}", gateway.process.log());
        let by = "x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/front;Hash=";
        let heard = told.contains(by) && told.contains(";DNS=good.example\r\n");
        assert_eq!(heard, is_told, "{what}: {told}");
        assert_eq!(told.contains("x-forwarded-client-cert"), is_told, "{what}: {told}");
    }
    // Who was refused, and why, is told in the log.
    for why in ["peer sent no certificates", "the peer's certificate is refused"] {
        gateway.wait_for_log(why);
    }

    let at = SocketAddr::from(([127, 0, 0, 1], 15000));
    let status = http_get(mesh.at("late"), at, "/config/status").unwrap().1;
    for reason in
        ["NoValidCACertificate", "InvalidCACertificateRef", "InsecureFrontendValidationMode"]
    {
        assert!(status.contains(reason), "{reason}: {status}");
    }

    // The authorities change while it runs.
    let text = mesh.settings.configuration(&mesh.lab);
    let changed = text.replace("name: ours}]}}\n      perPort", "name: theirs}]}}\n      perPort");
    assert_ne!(changed, text);
    mesh.rewrite(&changed.replace("name: gone}", "name: ours}"));
    let ask = |port: u16, shows| {
        let shown = ["--cert", shows];
        curl(&mesh, &gateway, ("one.example", port), &shown).ends_with("\n200 2")
    };
    let [good, foreign] = [good, foreign].map(Option::unwrap);
    wait_until("the stranger is believed", PATIENCE, || ask(8443, foreign))
        .unwrap_or_else(|error| panic!("{error}\n{}", gateway.process.log()));
    assert!(!ask(8443, good), "its authority is not asked any more");
    assert!(ask(8445, good) && !ask(8445, foreign), "the reference leads somewhere now");
}

/// A gateway that lets nobody add to it, and who wants to.
const SET: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec:
  gatewayClassName: ringway
  allowedListeners: {namespaces: {from: None}}
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, hostname: one.example, tls: {certificateRefs: [{name: one}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: extra}
spec:
  parentRef: {name: front}
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, hostname: two.example, tls: {certificateRefs: [{name: two}]}}
  - {name: other, port: 8444, protocol: HTTPS, tls: {certificateRefs: [{name: two}]}}
  - {name: taken, port: 8443, protocol: HTTPS, hostname: one.example, tls: {certificateRefs: [{name: two}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front}
spec:
  parentRefs: [{name: front}]
  rules: [{backendRefs: [{name: pages, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: extra}
spec:
  parentRefs: [{kind: ListenerSet, name: extra}]
  rules:
  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-came-by, value: the set}]}}]
    backendRefs: [{name: pages, port: 80}]
";

fn a_set_adds_listeners_while_the_gateway_runs(reactor: &str) {
    let (mut roots, mut documents) = (String::new(), format!("{FRONT}{SET}"));
    for (secret, name) in [("one", "one.example"), ("two", "two.example")] {
        let (certificate, key) = certificate(&[name]);
        documents += &pair(secret, &certificate, &key);
        roots += &certificate;
    }
    let mesh = Mesh::with(reactor).policies(&documents).start();
    fs::write(mesh.lab.directory().join("roots.pem"), roots).unwrap();
    let _servers = ["server", "server-2"].map(|pod| speak(mesh.at(pod), pod, "server"));
    let gateway = start(&mesh);
    let ask = |name: &str, port: u16| curl(&mesh, &gateway, (name, port), &[]);
    let is_in = |told: &str| told.ends_with("\n200 2");
    let by_set = |told: &str| is_in(told) && told.contains("x-came-by: the set");

    let own = ask("one.example", 8443);
    assert!(is_in(&own) && !by_set(&own), "{own}\n{}", gateway.process.log());
    for port in [8443, 8444] {
        let told = ask("two.example", port);
        assert!(!is_in(&told), "{port}: {told}");
    }

    // From here on the set is welcome.
    let text = mesh.settings.configuration(&mesh.lab);
    let welcome = text.replace("{from: None}", "{from: Same}");
    assert_ne!(welcome, text);
    mesh.rewrite(&welcome);
    wait_until("the set is there", PATIENCE, || by_set(&ask("two.example", 8444)))
        .unwrap_or_else(|error| panic!("{error}\n{}", gateway.process.log()));
    assert!(by_set(&ask("two.example", 8443)));
    let own = ask("one.example", 8443);
    assert!(is_in(&own) && !by_set(&own), "the Gateway's own goes first: {own}");

    // And no more.
    mesh.rewrite(&text);
    wait_until("the set has gone", PATIENCE, || !is_in(&ask("two.example", 8444)))
        .unwrap_or_else(|error| panic!("{error}\n{}", gateway.process.log()));
    assert!(!is_in(&ask("two.example", 8443)));
    assert!(is_in(&ask("one.example", 8443)));
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

/// A Secret for a listener.
fn pair(name: &str, certificate: &str, key: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  \
         tls.crt: |\n{}  tls.key: |\n{}",
        indented(certificate),
        indented(key)
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

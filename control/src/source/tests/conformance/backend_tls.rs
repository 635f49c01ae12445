//! TLS to backends: which policy is in force, what it comes to, and what its conditions say.

use ringway_http::model::ServiceName;
use ringway_http::model::traffic::{AlternativeName, Belief, TlsOrigination};
use ringway_http::policies::Place;

use super::world::{World, route};
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("BackendTLSPolicy", in_force),
    row("BackendTLSPolicySANValidation", alternative_names),
    row("BackendTLSPolicyConflictResolution", conflicts),
    row("BackendTLSPolicyInvalidCACertificateRef", invalid_reference),
    row("BackendTLSPolicyInvalidKind", invalid_kind),
    row("BackendTLSPolicyObservedGenerationBump", generation),
];

fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::<String>::new()).unwrap().self_signed(&key).unwrap().pem()
}

/// A ConfigMap with this in its `ca.crt`.
fn config_map(name: &str, pem: &str) -> String {
    let pem: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: infra}}\ndata:\n  ca.crt: |\n{pem}---\n"
    )
}

/// A policy of `infra`.
fn policy(metadata: &str, target: &str, validation: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{{metadata}, namespace: infra}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, {target}}}], validation: {{{validation}}}}}\n---\n"
    )
}

const BY_ROOTS: &str =
    "caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}], hostname: in.example";

/// With a route of the Gateway `same` to `echo`.
fn world(policies: &str) -> World {
    let rules = "{parentRefs: [{name: same}], rules: [{backendRefs: [{name: echo, port: 80}]}]}";
    let route = route("HTTPRoute", "r", rules);
    World::new(&[config_map("roots", &authority()), route, policies.to_owned()].concat())
}

impl World {
    /// What is asked for towards a port of `echo`.
    fn backend_tls(&self, port: u16) -> Option<TlsOrigination> {
        let name = ServiceName {
            namespace: "infra".into(),
            hostname: "echo.infra.svc.cluster.local".into(),
        };
        let place = Place { service: Some((&name, port)), ..Place::default() };
        self.tables.policies().in_force(&place).traffic().tls
    }

    /// The name that servers at this port are called by; `None`: it is reached in the clear.
    fn server_name(&self, port: u16) -> Option<String> {
        match self.backend_tls(port)? {
            TlsOrigination::By(settings) => Some(settings.server_name.to_string()),
            TlsOrigination::Broken(why) => Some(format!("broken: {why}")),
        }
    }
}

const ACCEPTED: [&str; 2] = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];

fn in_force() {
    let whole = world(&policy("name: tls", "name: echo", BY_ROOTS));
    assert_eq!(whole.server_name(80).as_deref(), Some("in.example"));
    assert_eq!(whole.server_name(8080).as_deref(), Some("in.example"));
    assert_eq!(whole.conditions("BackendTLSPolicy", "tls"), ACCEPTED);
    let json = whole.status("BackendTLSPolicy", "tls").as_json();
    let ancestor = &json["status"]["ancestors"][0];
    assert_eq!(ancestor["ancestorRef"]["name"], "same", "{json}");
    assert_eq!(ancestor["controllerName"], "ringway.dev/gateway-controller", "{json}");

    let port = world(&policy("name: tls", "name: echo, sectionName: other", BY_ROOTS));
    assert_eq!(port.server_name(80), None);
    assert_eq!(port.server_name(8080).as_deref(), Some("in.example"));

    let alpha = policy("name: tls", "name: echo", BY_ROOTS).replace("io/v1\n", "io/v1alpha3\n");
    assert_eq!(world(&alpha).server_name(80).as_deref(), Some("in.example"));

    for target in ["name: gone", "name: echo, sectionName: gone"] {
        let nowhere = world(&policy("name: tls", target, BY_ROOTS));
        assert_eq!(nowhere.server_name(80), None, "{target}");
        assert!(nowhere.status("BackendTLSPolicy", "tls").parents.is_empty(), "{target}");
    }
}

fn alternative_names() {
    let names = "subjectAltNames: [{type: Hostname, hostname: '*.a.example'}, {type: URI, uri: 'spiffe://b/c'}]";
    let world = world(&policy("name: tls", "name: echo", &format!("{BY_ROOTS}, {names}")));
    let Some(TlsOrigination::By(settings)) = world.backend_tls(80) else { panic!() };
    let want =
        [AlternativeName::Host("*.a.example".into()), AlternativeName::Uri("spiffe://b/c".into())];
    assert_eq!(settings.belief, Belief::OneOf(want.to_vec()));
    assert_eq!(&*settings.server_name, "in.example", "it is sent all the same");
}

fn conflicts() {
    let named = |metadata: &str, name: &str| {
        let validation = BY_ROOTS.replace("in.example", name);
        policy(metadata, "name: echo", &validation)
    };
    let young = named("name: a, creationTimestamp: 2024-01-01T00:00:01Z", "young.example");
    let old = named("name: b, creationTimestamp: 2024-01-01T00:00:00Z", "old.example");
    let by_age = world(&(young + &old));
    assert_eq!(by_age.server_name(80).as_deref(), Some("old.example"));
    assert_eq!(by_age.conditions("BackendTLSPolicy", "b"), ACCEPTED);
    assert_eq!(by_age.conditions("BackendTLSPolicy", "a")[0], "Accepted=False/Conflicted");

    let by_name = world(&(named("name: b", "b.example") + &named("name: a", "a.example")));
    assert_eq!(by_name.server_name(80).as_deref(), Some("a.example"));

    let port = policy(
        "name: z",
        "name: echo, sectionName: other",
        &BY_ROOTS.replace("in.example", "port.example"),
    );
    let narrower = world(&(named("name: a", "a.example") + &port));
    assert_eq!(narrower.server_name(8080).as_deref(), Some("port.example"), "no conflict");
    assert_eq!(narrower.server_name(80).as_deref(), Some("a.example"));
    assert_eq!(narrower.conditions("BackendTLSPolicy", "z"), ACCEPTED);
}

/// Of several authorities one is enough; with none its backends are closed, and never reached in the clear.
fn invalid_reference() {
    let refused =
        ["Accepted=False/NoValidCACertificate", "ResolvedRefs=False/InvalidCACertificateRef"];
    let some = ["Accepted=True/Accepted", "ResolvedRefs=False/InvalidCACertificateRef"];
    let roots = "{group: '', kind: ConfigMap, name: roots}";
    let of = |name: &str| format!("{{group: '', kind: ConfigMap, name: {name}}}");
    let bad = config_map("bad", "no certificate");
    let empty = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: empty, namespace: infra}\ndata: {other: x}\n---\n";
    //  name                  references                                    conditions
    let rows = [
        ("not there", of("gone"), refused),
        ("no certificate", of("bad"), refused),
        ("another key", of("empty"), refused),
        ("one of two", format!("{}, {roots}", of("gone")), some),
    ];
    for (name, references, want) in rows {
        let validation = format!("caCertificateRefs: [{references}], hostname: in.example");
        let policy = policy("name: tls", "name: echo", &validation);
        let world = world(&[bad.as_str(), empty, &policy].concat());
        assert_eq!(world.conditions("BackendTLSPolicy", "tls"), want, "{name}");
        let is_broken = matches!(world.backend_tls(80), Some(TlsOrigination::Broken(_)));
        assert_eq!(is_broken, want == refused, "{name}");
    }
}

fn invalid_kind() {
    let validation =
        "caCertificateRefs: [{group: '', kind: Secret, name: roots}], hostname: in.example";
    let world = world(&policy("name: tls", "name: echo", validation));
    let want = ["Accepted=False/NoValidCACertificate", "ResolvedRefs=False/InvalidKind"];
    assert_eq!(world.conditions("BackendTLSPolicy", "tls"), want);
    assert!(matches!(world.backend_tls(80), Some(TlsOrigination::Broken(_))));
}

fn generation() {
    let world = world(&policy("name: tls, generation: 7", "name: echo", BY_ROOTS));
    let json = world.status("BackendTLSPolicy", "tls").as_json().to_string();
    assert!(json.contains(r#""observedGeneration":7"#), "{json}");
}

//! The certificates that clients show at HTTPS listeners: who asks for them, and what conditions say.

use ringway_http::model::{ClientDemand, ListenerTls};

use super::http::https_gateway;
use super::world::World;
use super::{Row, row};
use crate::source::{Source, load};

pub(super) const ROWS: &[Row] = &[
    row("GatewayFrontendClientCertificateValidation", by_port),
    row("GatewayFrontendClientCertificateValidationInsecureFallback", insecure_fallback),
    row("GatewayFrontendInvalidDefaultClientCertificateValidation", invalid_default),
    row("GatewayInvalidFrontendClientCertificateValidation", invalid_references),
];

const TLS: &str = "tls: {certificateRefs: [{name: cert}]}";

/// A ConfigMap or Secret with an authority in its `ca.crt`.
fn authority(kind: &str, namespace: &str, name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let pem: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    let data = if kind == "Secret" { "stringData" } else { "data" };
    format!(
        "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n{data}:\n  ca.crt: |\n{pem}---\n"
    )
}

/// HTTPS at the ports 443 and 8443, TLS at 9443 and HTTP at 80, under this `frontend`.
fn world(frontend: &str, further: &str) -> World {
    let listeners = format!(
        "{{name: https, port: 443, protocol: HTTPS, {TLS}}}, {{name: other, port: 8443, protocol: HTTPS, {TLS}}}, \
         {{name: tls, port: 9443, protocol: TLS, {TLS}}}, {{name: http, port: 80, protocol: HTTP}}"
    );
    with_listeners(&listeners, &format!("tls: {{frontend: {frontend}}}"), further)
}

fn with_listeners(listeners: &str, spec: &str, further: &str) -> World {
    let gateway = https_gateway(listeners).replace(
        "  gatewayClassName: ringway\n",
        &format!("  gatewayClassName: ringway\n  {spec}\n"),
    );
    let own = [authority("ConfigMap", "infra", "ours"), authority("ConfigMap", "web", "far")];
    World::new(&[own.concat(), further.to_owned(), gateway].concat())
}

fn validation(references: &str) -> String {
    format!("{{validation: {{caCertificateRefs: [{references}]}}}}")
}

fn config_map(name: &str) -> String {
    format!("{{group: '', kind: ConfigMap, name: {name}}}")
}

/// What a listener asks of clients; `None`: it is broken.
fn demand(world: &World, port: u16) -> Option<Option<ClientDemand>> {
    let mut listeners = world.mesh.http.listeners.iter();
    let listener = listeners.find(|one| &*one.key.gateway == "secure" && one.port == port).unwrap();
    match listener.tls.as_ref()? {
        ListenerTls::Terminate { clients, .. } => Some(clients.as_ref().map(|one| one.demand)),
        ListenerTls::Broken(_) | ListenerTls::Passthrough => None,
    }
}

const VALID: Option<Option<ClientDemand>> = Some(Some(ClientDemand::Valid));
const NOT_ASKED: Option<Option<ClientDemand>> = Some(None);
const BROKEN: Option<Option<ClientDemand>> = None;

fn by_port() {
    let ours = validation(&config_map("ours"));
    //  name                    frontend                                              443        8443
    let rows = [
        ("default", format!("{{default: {ours}}}"), VALID, VALID),
        (
            "a port",
            format!("{{default: {{}}, perPort: [{{port: 8443, tls: {ours}}}]}}"),
            NOT_ASKED,
            VALID,
        ),
        (
            "all but one",
            format!("{{default: {ours}, perPort: [{{port: 443, tls: {{}}}}]}}"),
            NOT_ASKED,
            VALID,
        ),
        ("nothing", "{default: {}}".to_owned(), NOT_ASKED, NOT_ASKED),
    ];
    for (name, frontend, https, other) in rows {
        let world = world(&frontend, "");
        assert_eq!((demand(&world, 443), demand(&world, 8443)), (https, other), "{name}");
        assert_eq!(demand(&world, 9443), NOT_ASKED, "{name}: it is no HTTPS");
        let https = world.listener("secure", "https");
        assert_eq!(https[0], "Accepted=True/Accepted", "{name}");
        assert_eq!(https[2], "ResolvedRefs=True/ResolvedRefs", "{name}");
        assert_eq!(world.status("Gateway", "secure").conditions.len(), 2, "{name}");
    }
}

fn insecure_fallback() {
    let lenient = validation(&config_map("ours"))
        .replace("{validation: {", "{validation: {mode: AllowInsecureFallback, ");
    let condition = |world: &World| {
        let gateway = world.status("Gateway", "secure");
        let all: Vec<_> =
            gateway.conditions.iter().map(|one| (one.kind, one.holds, one.reason)).collect();
        all.contains(&("InsecureFrontendValidationMode", true, "ConfigurationChanged"))
    };
    let all = world(&format!("{{default: {lenient}}}"), "");
    assert_eq!(demand(&all, 443), Some(Some(ClientDemand::Anything)));
    assert!(condition(&all));
    assert!(all.mesh.warnings.to_string().contains("AllowInsecureFallback"));
    let strict = validation(&config_map("ours"));
    let one =
        world(&format!("{{default: {strict}, perPort: [{{port: 8443, tls: {lenient}}}]}}"), "");
    assert_eq!(
        (demand(&one, 443), demand(&one, 8443)),
        (VALID, Some(Some(ClientDemand::Anything)))
    );
    assert!(condition(&one));
    // Without an authority the fallback lets nobody in either.
    let gone = world(&format!("{{default: {}}}", lenient.replace("ours", "gone")), "");
    assert_eq!(demand(&gone, 443), BROKEN);
}

fn invalid_default() {
    let world = world(&format!("{{default: {}}}", validation(&config_map("gone"))), "");
    let refused = [
        "Accepted=False/NoValidCACertificate",
        "ResolvedRefs=False/InvalidCACertificateRef",
        "Programmed=False/Invalid",
    ];
    for name in ["https", "other"] {
        let told = world.listener("secure", name);
        assert_eq!([&told[0], &told[2], &told[3]], refused, "{name}");
    }
    for name in ["http", "tls"] {
        let told = world.listener("secure", name);
        assert_eq!(told[0], "Accepted=True/Accepted", "{name}");
        assert_eq!(told[3], "Programmed=True/Programmed", "{name}");
    }
    assert_eq!(demand(&world, 443), BROKEN, "and still there, so that no other gets its clients");
    let gateway = &world.status("Gateway", "secure").conditions[0];
    assert_eq!((gateway.holds, gateway.reason), (true, "ListenersNotValid"));
    let told = world.mesh.warnings.to_string();
    assert!(told.contains("there is no ConfigMap `gone`"), "{told}");
}

fn invalid_references() {
    let service = "{group: '', kind: Service, name: v1}".to_owned();
    let far = "{group: '', kind: ConfigMap, name: far, namespace: web}".to_owned();
    let secret = "{group: '', kind: Secret, name: kept}".to_owned();
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: web}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}], to: [{group: '', kind: ConfigMap}]}\n---\n";
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad, namespace: infra}\ndata: {ca.crt: none}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: empty, namespace: infra}\ndata: {other: x}\n---\n";
    let kept = authority("Secret", "infra", "kept");
    let two = |one: &str, other: &str| format!("{one}, {other}");
    let ours = config_map("ours");
    //  name                references                    granted  reason, if one does not resolve        gets in
    let rows = [
        ("a ConfigMap", ours.clone(), false, None, VALID),
        ("a Secret", secret.clone(), false, None, VALID),
        ("both", two(&ours, &secret), false, None, VALID),
        ("not there", config_map("gone"), false, Some("InvalidCACertificateRef"), BROKEN),
        ("no certificate", config_map("bad"), false, Some("InvalidCACertificateRef"), BROKEN),
        ("another key", config_map("empty"), false, Some("InvalidCACertificateRef"), BROKEN),
        ("a Service", service.clone(), false, Some("InvalidCACertificateKind"), BROKEN),
        ("no grant", far.clone(), false, Some("RefNotPermitted"), BROKEN),
        ("a grant", far, true, None, VALID),
        (
            "one of two",
            two(&config_map("gone"), &ours),
            false,
            Some("InvalidCACertificateRef"),
            VALID,
        ),
    ];
    for (name, references, granted, reason, want) in rows {
        let frontend = format!(
            "{{default: {{}}, perPort: [{{port: 443, tls: {}}}]}}",
            validation(&references)
        );
        let further = [bad, &kept, if granted { grant } else { "" }].concat();
        let world = world(&frontend, &further);
        assert_eq!(demand(&world, 443), want, "{name}");
        let told = world.listener("secure", "https");
        let resolved = reason.map_or("ResolvedRefs=True/ResolvedRefs".to_owned(), |reason| {
            format!("ResolvedRefs=False/{reason}")
        });
        assert_eq!(told[2], resolved, "{name}");
        let accepted = if want == BROKEN {
            "Accepted=False/NoValidCACertificate"
        } else {
            "Accepted=True/Accepted"
        };
        assert_eq!(told[0], accepted, "{name}");
        assert_eq!(told[3].starts_with("Programmed=True"), want != BROKEN, "{name}");
        let other = world.listener("secure", "other");
        assert_eq!(other[0], "Accepted=True/Accepted", "{name}: of another port");
    }
}

/// What Istio's users and those of older versions of the standard have written at the listener itself.
#[test]
fn a_listener_says_it_too() {
    let with_authority = |pem: bool, gateway: String| match pem {
        true => {
            let own = authority("Secret", "infra", "x");
            let own = &own[own.find("  ca.crt").unwrap()..own.rfind("---\n").unwrap()];
            gateway.replacen("stringData:\n", &format!("stringData:\n{own}"), 1)
        }
        false => gateway,
    };
    let option = |mode: &str| {
        format!(
            "tls: {{certificateRefs: [{{name: cert}}], options: {{gateway.istio.io/tls-terminate-mode: {mode}}}}}"
        )
    };
    let validation = "tls: {certificateRefs: [{name: cert}], frontendValidation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ours}]}}";
    let gone = validation.replace("ours", "gone");
    let both = option("OPTIONAL_MUTUAL").replace("options:", "frontendValidation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ours}]}, options:");
    let optional = Some(Some(ClientDemand::ValidOrNone));
    //  name                       tls                        ca.crt in the Secret  who gets in
    let rows = [
        ("MUTUAL", option("MUTUAL"), true, VALID),
        ("MUTUAL, no authority", option("MUTUAL"), false, BROKEN),
        ("OPTIONAL_MUTUAL", option("OPTIONAL_MUTUAL"), true, optional),
        ("frontendValidation", validation.to_owned(), false, VALID),
        ("frontendValidation, gone", gone, false, BROKEN),
        ("both", both, false, optional),
    ];
    let own = authority("ConfigMap", "infra", "ours");
    for (name, tls, authority, want) in rows {
        for protocol in ["HTTPS", "TLS"] {
            let listener = format!("{{name: a, port: 443, protocol: {protocol}, {tls}}}");
            let gateway = with_authority(authority, https_gateway(&listener));
            let world = World::new(&format!("{own}{gateway}"));
            assert_eq!(demand(&world, 443), want, "{name} {protocol}");
            let accepted = world.listener("secure", "a")[0].starts_with("Accepted=True");
            assert_eq!(accepted, want != BROKEN, "{name} {protocol}");
        }
    }
}

#[test]
fn what_no_cluster_would_store_is_refused() {
    //  spec.tls                                                          told
    let rows = [
        ("{frontend: {}}", "`frontend` lacks the required key `default`"),
        ("{frontend: {default: {validation: {}}}}", "lacks the required key `caCertificateRefs`"),
        ("{frontend: {default: {validation: {caCertificateRefs: []}}}}", "names nobody"),
        (
            "{frontend: {default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]}}",
            "the port 1 twice",
        ),
        (
            "{frontend: {default: {validation: {mode: Any, caCertificateRefs: [{name: a}]}}}}",
            "expected `AllowValidOnly` or `AllowInsecureFallback`",
        ),
        ("{backend: {clientCertificateRef: {name: a}}}", "unknown key `backend`"),
    ];
    for (tls, want) in rows {
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {{gatewayClassName: ringway, tls: {tls}, listeners: []}}\n"
        );
        let source = Source::Text { name: "mesh.yaml".to_owned(), text };
        let told = load(&[source], None).map(|_| ()).unwrap_err().to_string();
        assert!(told.contains(want), "{tls}: {told}");
    }
    let options = https_gateway(
        "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}], options: {gateway.istio.io/tls-terminate-mode: ISTIO_MUTUAL}}}",
    );
    let source = Source::Text { name: "mesh.yaml".to_owned(), text: options };
    let told = load(&[source], None).map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("ISTIO_MUTUAL"), "{told}");
}

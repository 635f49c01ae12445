//! Tests that ask for conditions only; who is refused is not found either.

use super::http::https_gateway;
use super::world::{World, get, route, route_in};
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("GatewayClassObservedGenerationBump", || generation("GatewayClass")),
    row("GatewayObservedGenerationBump", || generation("Gateway")),
    row("HTTPRouteObservedGenerationBump", || generation("HTTPRoute")),
    row("GatewayModifyListeners", attached_routes),
    row("GatewayWithAttachedRoutes", attached_routes_by_kind),
    row("GatewayInvalidRouteKind", invalid_route_kind),
    row("GatewayListenerUnsupportedProtocol", unsupported_protocol),
    row("GatewayInvalidTLSConfiguration", invalid_tls),
    row("GatewaySecretInvalidReferenceGrant", || secret_grant(false)),
    row("GatewaySecretReferenceGrantSpecific", || secret_grant(true)),
    row("HTTPRouteDisallowedKind", disallowed_kind),
    row("HTTPRouteInvalidCrossNamespaceParentRef", cross_namespace_parent),
    row("HTTPRouteInvalidParentRefNotMatchingSectionName", || {
        no_parent("{name: same, sectionName: gone}")
    }),
    row("HTTPRouteInvalidParentRefNotMatchingListenerPort", || no_parent("{name: same, port: 81}")),
    row("HTTPRouteInvalidParentRefSectionNameNotMatchingPort", || {
        no_parent("{name: hosts, sectionName: wide, port: 81}")
    }),
    row("TLSRouteInvalidBackendRefNonexistent", || {
        stream_backend("TLSRoute", "{name: gone, port: 1}", "BackendNotFound")
    }),
    row("TLSRouteInvalidBackendRefUnknownKind", || {
        stream_backend("TLSRoute", "{group: g.io, kind: K, name: v1}", "InvalidKind")
    }),
    row("TCPRouteInvalidBackendRefNonexistent", || {
        stream_backend("TCPRoute", "{name: gone, port: 1}", "BackendNotFound")
    }),
    row("TCPRouteInvalidCrossNamespaceBackendRef", || {
        stream_backend("TCPRoute", "{name: far, namespace: web, port: 8080}", "RefNotPermitted")
    }),
    row("TCPRouteInvalidNonTCPListener", non_tcp_listener),
];

const RULES: &str = "rules: [{backendRefs: [{name: v1, port: 8080}]}]";

fn generation(kind: &str) {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: own, generation: 7}}\nspec: {{controllerName: ringway.dev/gateway-controller}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: own, namespace: infra, generation: 7}}\nspec: {{gatewayClassName: own, listeners: [{{name: a, port: 80, protocol: HTTP}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: own, namespace: infra, generation: 7}}\nspec: {{parentRefs: [{{name: own}}], {RULES}}}\n"
    );
    let world = World::new(&text);
    let json = world.status(kind, "own").as_json().to_string();
    assert!(json.contains(r#""observedGeneration":7"#), "{json}");
}

fn attached_routes() {
    let world = World::new(&route(
        "HTTPRoute",
        "r",
        &format!("{{parentRefs: [{{name: hosts}}], hostnames: [x.foo.example.com], {RULES}}}"),
    ));
    let attached: Vec<(&str, usize)> = world
        .status("Gateway", "hosts")
        .listeners
        .iter()
        .map(|listener| (&*listener.name, listener.attached_routes))
        .collect();
    assert_eq!(attached, [("empty", 1), ("wide", 1), ("foo", 1), ("exact", 0)]);
    assert_eq!(
        world.listener("hosts", "foo"),
        [
            "Accepted=True/Accepted",
            "Conflicted=False/NoConflicts",
            "ResolvedRefs=True/ResolvedRefs",
            "Programmed=True/Programmed"
        ]
    );
}

fn attached_routes_by_kind() {
    let world = World::new(
        &[
            route("HTTPRoute", "a", &format!("{{parentRefs: [{{name: same}}], {RULES}}}")),
            route("GRPCRoute", "b", &format!("{{parentRefs: [{{name: same}}], {RULES}}}")),
            route("TCPRoute", "c", &format!("{{parentRefs: [{{name: same}}], {RULES}}}")),
        ]
        .concat(),
    );
    let [listener] = &world.status("Gateway", "same").listeners[..] else { panic!() };
    assert_eq!(
        (listener.attached_routes, &listener.supported_kinds[..]),
        (2, &["HTTPRoute", "GRPCRoute"][..])
    );
}

fn gateway(listener: &str) -> World {
    World::new(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: own, namespace: infra}}\nspec: {{gatewayClassName: ringway, listeners: [{{name: a, port: 80, {listener}}}]}}\n---\n"
    ))
}

fn invalid_route_kind() {
    let only = gateway("protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}]}");
    assert_eq!(only.listener("own", "a")[2], "ResolvedRefs=False/InvalidRouteKinds");
    assert_eq!(only.listener("own", "a")[3], "Programmed=False/Invalid");
    let some = gateway(
        "protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}, {kind: HTTPRoute}]}",
    );
    assert_eq!(some.listener("own", "a")[2], "ResolvedRefs=False/InvalidRouteKinds");
    assert_eq!(some.status("Gateway", "own").listeners[0].supported_kinds, ["HTTPRoute"]);
}

fn unsupported_protocol() {
    let world = gateway("protocol: UDP");
    assert_eq!(world.listener("own", "a")[0], "Accepted=False/UnsupportedProtocol");
    let accepted = &world.status("Gateway", "own").conditions[0];
    assert_eq!((accepted.holds, accepted.reason), (false, "ListenersNotValid"));
}

fn invalid_tls() {
    for references in [
        "[{name: gone}]",
        "[{group: wrong.io, name: cert}]",
        "[{kind: WrongKind, name: cert}]",
        "[]",
    ] {
        let world = World::new(&https_gateway(&format!(
            "{{name: a, port: 443, protocol: HTTPS, tls: {{certificateRefs: {references}}}}}"
        )));
        assert_eq!(
            world.listener("secure", "a")[2],
            "ResolvedRefs=False/InvalidCertificateRef",
            "{references}"
        );
        assert_eq!(world.listener("secure", "a")[3], "Programmed=False/Invalid", "{references}");
    }
    let malformed = "apiVersion: v1\nkind: Secret\nmetadata: {name: bad, namespace: infra}\nstringData: {tls.crt: none, tls.key: none}\n---\n";
    let world = World::new(
        &(malformed.to_owned()
            + &https_gateway(
                "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: bad}]}}",
            )),
    );
    assert_eq!(world.listener("secure", "a")[2], "ResolvedRefs=False/InvalidCertificateRef");
}

fn secret_grant(granted: bool) {
    let to = if granted { "cert" } else { "other" };
    let grant = format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: web}}\nspec: {{from: [{{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}}], to: [{{group: '', kind: Secret, name: {to}}}]}}\n---\n"
    );
    let gateway = https_gateway("{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: web}]}}")
        .replace("{name: cert, namespace: infra}", "{name: cert, namespace: web}");
    let world = World::new(&(grant + &gateway));
    let want = if granted {
        "ResolvedRefs=True/ResolvedRefs"
    } else {
        "ResolvedRefs=False/RefNotPermitted"
    };
    assert_eq!(world.listener("secure", "a")[2], want);
}

fn disallowed_kind() {
    let world =
        World::new(&route("TCPRoute", "r", &format!("{{parentRefs: [{{name: same}}], {RULES}}}")));
    assert_eq!(world.conditions("TCPRoute", "r")[0], "Accepted=False/NotAllowedByListeners");
}

fn cross_namespace_parent() {
    let world = World::new(&route_in(
        "web",
        "HTTPRoute",
        "r",
        "{parentRefs: [{name: same, namespace: infra}], rules: [{backendRefs: [{name: far, port: 8080}]}]}",
    ));
    assert_eq!(world.conditions("HTTPRoute", "r")[0], "Accepted=False/NotAllowedByListeners");
    assert_eq!(world.gateway("same", get("http://any/", &[])).answer, super::world::NOT_FOUND);
}

fn no_parent(parent: &str) {
    let world =
        World::new(&route("HTTPRoute", "r", &format!("{{parentRefs: [{parent}], {RULES}}}")));
    assert_eq!(world.conditions("HTTPRoute", "r")[0], "Accepted=False/NoMatchingParent");
    assert_eq!(world.gateway("same", get("http://any/", &[])).answer, super::world::NOT_FOUND);
}

fn stream_backend(kind: &str, backend: &str, reason: &str) {
    let listener = match kind {
        "TLSRoute" => "protocol: TLS, tls: {mode: Passthrough}",
        _ => "protocol: TCP",
    };
    let gateway = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: own, namespace: infra}}\nspec: {{gatewayClassName: ringway, listeners: [{{name: a, port: 80, {listener}}}]}}\n---\n"
    );
    let world = World::new(
        &(gateway
            + &route(
                kind,
                "r",
                &format!("{{parentRefs: [{{name: own}}], rules: [{{backendRefs: [{backend}]}}]}}"),
            )),
    );
    assert_eq!(
        world.conditions(kind, "r"),
        ["Accepted=True/Accepted".to_owned(), format!("ResolvedRefs=False/{reason}")]
    );
}

fn non_tcp_listener() {
    let world = World::new(&route(
        "TCPRoute",
        "r",
        &format!("{{parentRefs: [{{name: all, sectionName: http}}], {RULES}}}"),
    ));
    assert_eq!(world.conditions("TCPRoute", "r")[0], "Accepted=False/NotAllowedByListeners");
}

//! `docs/gateway-api.md`, made from the rows.

use std::fmt::Write;

use super::PARTS;

/// How far a feature goes.
enum Support {
    /// These rows say so.
    Rows(&'static [&'static str]),
    /// These rows say how it is decided; that bytes do as was decided, end-to-end tests of the waypoint and gateway say.
    Decided(&'static [&'static str]),
    /// It is not there. What happens to who asks for it.
    No(&'static str),
}

use Support::{Decided, No, Rows};

const UNKNOWN_KIND: &str = "the kind is not known: the files are refused";
const UNKNOWN_KEY: &str = "the key is not known: the files are refused";

/// The standard's features, by the names it gives them.
const FEATURES: &[(&str, Support)] = &[
    ("Gateway", Rows(&["GatewayModifyListeners", "GatewayInvalidRouteKind"])),
    ("GatewayPort8080", Rows(&["HTTPRouteListenerPortMatching"])),
    ("GatewayHTTPListenerIsolation", Rows(&["GatewayHTTPListenerIsolation"])),
    (
        "GatewayHTTPSListenerDetectMisdirectedRequests",
        Decided(&["HTTPRouteHTTPSListenerDetectMisdirectedRequests"]),
    ),
    (
        "GatewayStaticAddresses",
        No("addresses say where a waypoint is; a gateway listens on every address of its host"),
    ),
    (
        "GatewayInfrastructurePropagation",
        No("accepted without effect: nothing is deployed from files"),
    ),
    (
        "GatewayFrontendClientCertificateValidation",
        Decided(&[
            "GatewayFrontendClientCertificateValidation",
            "GatewayFrontendInvalidDefaultClientCertificateValidation",
            "GatewayInvalidFrontendClientCertificateValidation",
        ]),
    ),
    (
        "GatewayFrontendClientCertificateValidationInsecureFallback",
        Decided(&["GatewayFrontendClientCertificateValidationInsecureFallback"]),
    ),
    ("GatewayBackendClientCertificate", No(UNKNOWN_KEY)),
    (
        "ListenerSet",
        Rows(&[
            "ListenerSetHTTPRouting",
            "ListenerSetAllowedNamespaceSame",
            "ListenerSetHostnameConflict",
            "ListenerSetProtocolConflict",
            "ListenerSetReferenceGrant",
        ]),
    ),
    (
        "ReferenceGrant",
        Rows(&[
            "HTTPRouteReferenceGrant",
            "HTTPRouteInvalidReferenceGrant",
            "GatewaySecretReferenceGrantSpecific",
        ]),
    ),
    (
        "HTTPRoute",
        Rows(&[
            "HTTPRouteSimpleSameNamespace",
            "HTTPRouteMatching",
            "HTTPRouteMatchingAcrossRoutes",
            "HTTPRouteExactPathMatching",
            "HTTPRouteHeaderMatching",
            "HTTPRouteWeight",
            "HTTPRouteRequestHeaderModifier",
            "HTTPRouteRedirectHostAndStatus",
        ]),
    ),
    ("HTTPRouteQueryParamMatching", Rows(&["HTTPRouteQueryParamMatching"])),
    ("HTTPRouteMethodMatching", Rows(&["HTTPRouteMethodMatching"])),
    ("HTTPRouteResponseHeaderModification", Rows(&["HTTPRouteResponseHeaderModifier"])),
    (
        "HTTPRouteBackendRequestHeaderModification",
        Rows(&["HTTPRouteRequestHeaderModifierBackendWeights"]),
    ),
    ("HTTPRouteBackendURLRewrite", Rows(&["HTTPRouteBackendURLRewrite"])),
    ("HTTPRouteBackendRequestRedirect", Rows(&["HTTPRouteBackendRequestRedirect"])),
    ("HTTPRoutePortRedirect", Rows(&["HTTPRouteRedirectPort", "HTTPRouteRedirectPortAndScheme"])),
    ("HTTPRouteSchemeRedirect", Rows(&["HTTPRouteRedirectScheme"])),
    ("HTTPRoutePathRedirect", Rows(&["HTTPRouteRedirectPath"])),
    ("HTTPRoute303RedirectStatusCode", Rows(&["HTTPRoute303Redirect"])),
    ("HTTPRoute307RedirectStatusCode", Rows(&["HTTPRoute307Redirect"])),
    ("HTTPRoute308RedirectStatusCode", Rows(&["HTTPRoute308Redirect"])),
    ("HTTPRouteHostRewrite", Rows(&["HTTPRouteRewriteHost"])),
    ("HTTPRoutePathRewrite", Rows(&["HTTPRouteRewritePath"])),
    ("HTTPRouteRequestMirror", Decided(&["HTTPRouteRequestMirror"])),
    ("HTTPRouteRequestMultipleMirrors", Decided(&["HTTPRouteRequestMultipleMirrors"])),
    ("HTTPRouteRequestPercentageMirror", Decided(&["HTTPRouteRequestPercentageMirror"])),
    ("HTTPRouteRequestTimeout", Decided(&["HTTPRouteTimeoutRequest"])),
    ("HTTPRouteBackendTimeout", Decided(&["HTTPRouteTimeoutBackendRequest"])),
    ("HTTPRouteRetry", Decided(&["HTTPRouteRetry"])),
    ("HTTPRouteRetryConnectionError", Decided(&["HTTPRouteRetryConnectionError"])),
    ("HTTPRouteParentRefPort", Rows(&["HTTPRouteListenerPortMatching", "MeshPorts"])),
    ("HTTPRouteCORS", Rows(&["HTTPRouteCORS"])),
    ("HTTPRouteNamedRouteRule", Rows(&["HTTPRouteNamedRule"])),
    ("HTTPRouteSessionPersistence", Decided(&["HTTPRouteSessionPersistence"])),
    ("HTTPRouteSessionPersistenceCookie", Decided(&["HTTPRouteSessionPersistence"])),
    (
        "HTTPRouteSessionPersistenceCookieLifetimeTypePermanent",
        Decided(&["HTTPRouteSessionPersistenceCookieLifetimeTypePermanent"]),
    ),
    (
        "HTTPRoute ExtensionRef, ExternalAuth",
        No("the rule's requests get 500; the condition PartiallyInvalid says so"),
    ),
    (
        "GRPCRoute",
        Rows(&[
            "GRPCExactMethodMatching",
            "GRPCRouteHeaderMatching",
            "GRPCRouteListenerHostnameMatching",
            "GRPCRouteWeight",
        ]),
    ),
    ("GRPCRouteNamedRouteRule", Rows(&["GRPCRouteNamedRule"])),
    ("TLSRoute", Decided(&["TLSRouteSimpleSameNamespace", "TLSRouteHostnameIntersection"])),
    ("TLSRouteModeTerminate", Decided(&["TLSRouteTerminateSimpleSameNamespace"])),
    ("TLSRouteModeMixed", No("two modes of TLS on one port are not told apart by the tests here")),
    (
        "TCPRoute",
        Decided(&[
            "TCPRouteParentRefAttachAll",
            "TCPRouteWeightedRouting",
            "TCPRouteMultipleRoutesAttachment",
        ]),
    ),
    ("UDPRoute", No(UNKNOWN_KIND)),
    (
        "BackendTLSPolicy",
        Decided(&[
            "BackendTLSPolicy",
            "BackendTLSPolicyConflictResolution",
            "BackendTLSPolicyInvalidCACertificateRef",
            "BackendTLSPolicyInvalidKind",
        ]),
    ),
    ("BackendTLSPolicySANValidation", Decided(&["BackendTLSPolicySANValidation"])),
    ("XBackendTrafficPolicy", Decided(&["BackendTrafficPolicyRetryConstraint"])),
    (
        "Mesh",
        Rows(&[
            "MeshBasic",
            "MeshTrafficSplit",
            "MeshFrontend",
            "MeshPorts",
            "MeshHTTPRouteMatching",
        ]),
    ),
    ("MeshConsumerRoute", Rows(&["MeshConsumerRoute"])),
    ("MeshClusterIPMatching", Rows(&["MeshFrontendHostname"])),
    ("MeshHTTPRouteRewritePath", Rows(&["MeshHTTPRouteRewritePath"])),
    ("MeshHTTPRouteSchemeRedirect", Rows(&["MeshHTTPRouteSchemeRedirect"])),
    ("MeshHTTPRouteRedirectPort", Rows(&["MeshHTTPRouteRedirectPort"])),
    ("MeshHTTPRouteRedirectPath", Rows(&["MeshHTTPRouteRedirectPath"])),
    ("MeshHTTPRouteQueryParamMatching", Rows(&["MeshHTTPRouteQueryParamMatching"])),
    ("MeshHTTPRouteNamedRouteRule", Rows(&["MeshHTTPRouteNamedRule"])),
];

fn page() -> String {
    let mut text = String::from(HEAD);
    for (feature, support) in FEATURES {
        let (word, rest) = match support {
            Rows(rows) => ("yes", rows.join(", ")),
            Decided(rows) => ("decided", rows.join(", ")),
            No(why) => ("no", (*why).to_owned()),
        };
        let _ = writeln!(text, "| {feature} | {word} | {rest} |");
    }
    text.push_str(TESTS);
    for (part, rows) in PARTS {
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        let _ = writeln!(text, "* **{part}** ({}): {}.", names.len(), names.join(", "));
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = "# The Gateway API, as Ringway understands it

This page is made from the tests: `UPDATE=1 cargo test -p ringway-control --features waypoint conformance` writes it, and a test checks that it is
what they say. How to write such files, and what besides them: [configuration.md](configuration.md).

## Features

The names are the standard's. **yes**: the tests named beside it go from documents over the compiler to what becomes of a request.
**decided**: they go as far as the decision, a time limit, a number of tries, a share of copies, a listener and its backend; that bytes do as was
decided is for the end-to-end tests of waypoint and gateway to show. **no**: it is not there, and this is what happens to who asks for it.

| feature | | tests, or what happens |
|---|---|---|
";

const TESTS: &str = "
## Tests

Those of the standard's conformance suite that are told again here, with documents and requests:

";

const TAIL: &str = "
## Conditions

`ringway validate --status` shows for each GatewayClass, Gateway, ListenerSet, route and BackendTLSPolicy what a cluster would show as its conditions; `-o json` shows them in the form
of `kubectl get -o json`. What is not as it should be with a route or a listener is a warning, too, with its place in the files.

| object | condition | reasons |
|---|---|---|
| GatewayClass | Accepted | Accepted |
| Gateway | Accepted | Accepted, ListenersNotValid, UnsupportedAddress |
| Gateway | Programmed | Programmed, Invalid |
| Gateway | InsecureFrontendValidationMode | ConfigurationChanged |
| listener | Accepted | Accepted, UnsupportedProtocol, NoValidCACertificate; in a ListenerSet HostnameConflict, ProtocolConflict |
| listener | Conflicted | NoConflicts, HostnameConflict, ProtocolConflict |
| listener | ResolvedRefs | ResolvedRefs, InvalidRouteKinds, InvalidCertificateRef, InvalidCACertificateRef, InvalidCACertificateKind, RefNotPermitted |
| listener | Programmed | Programmed, Invalid |
| ListenerSet | Accepted | Accepted, ListenersNotValid, NotAllowed, ParentNotAccepted |
| ListenerSet | Programmed | Programmed, ListenersNotValid, NotAllowed, ParentNotAccepted |
| route, by parent | Accepted | Accepted, NoMatchingParent, NotAllowedByListeners, NoMatchingListenerHostname, UnsupportedValue |
| route, by parent | ResolvedRefs | ResolvedRefs, BackendNotFound, RefNotPermitted, InvalidKind |
| route, by parent | PartiallyInvalid | UnsupportedValue |
| BackendTLSPolicy, by Gateway | Accepted | Accepted, Conflicted, NoValidCACertificate |
| BackendTLSPolicy, by Gateway | ResolvedRefs | ResolvedRefs, InvalidCACertificateRef, InvalidKind |
| XBackendTrafficPolicy, by target | Accepted | Accepted, TargetNotFound, Invalid, Conflicted |

Gateways of classes that nobody here serves have none. `Programmed` says that a listener was compiled; whether a process listens is that process' to tell.

## What differs

* Documents without `creationTimestamp` are as old as they stand in the files: of two routes that match alike, the first wins.
* A document that a cluster would not store is refused, with all others; one that it would store is used, with the standard's effect.
* Routes are taken in any number of rules, matches and hostnames.
* A regular expression is RE2's, must fit the whole value, and comes after exact paths and prefixes, the longest first.
* A Service may be named by its hostname, too: `{group: networking.istio.io, kind: Hostname, name: HOST, port: N}`.
* A listener has one certificate.
* Authorities of clients stand in ConfigMaps or Secrets (`ca.crt`), as many as there are references and certificates in them. While none can be read, every
  handshake at the listener fails, with `AllowInsecureFallback`, too. `tls.frontend` is for HTTPS, as the standard says; TLS that ends at a listener of the
  protocol TLS asks clients by [what stands at the listener](waypoint.md#certificates-of-clients).
* A session that an XBackendTrafficPolicy says is the service's: all rules that lead there share it. One that a rule says is that rule's
  alone, whatever its name, and goes before the service's. Its cookie is `HttpOnly` and `SameSite=Lax`, and `Secure` where the client came over
  TLS; `Strict` would end a session when somebody follows a link from elsewhere.
* A BackendTLSPolicy is for a Service or one of its named ports, and goes by authorities in ConfigMaps (`ca.crt`) or by those of the system. It is in
  force at every Gateway of ours, waypoints among them; its conditions stand at those by whose routes the Service is a backend, and at the waypoint
  before it. While no authority of it can be read, requests for its backends are answered with 503, and none is sent in the clear. TLS that a
  listener passes through, or that a port is declared to speak, stays its client's.
* A ListenerSet may also be an `XListenerSet` (`gateway.networking.x-k8s.io/v1alpha1`), with the port of each listener. Its listeners go by the Gateway's `tls.frontend` and by
  policies for the whole Gateway; policies for a ListenerSet are refused. Of two listeners of one object that cannot be told apart neither is served; of two objects, the one
  that goes before: the Gateway's, then the older set's, then the first by namespace and name.
* A `sectionName` of a Service or ServiceEntry is refused (UnsupportedValue): ports are named by number.
";

#[test]
fn the_page_in_docs_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gateway-api.md");
    let want = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &want).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == want,
        "{path} is not up to date: UPDATE=1 cargo test -p ringway-control --features waypoint conformance"
    );
}

#[test]
fn features_name_rows_that_there_are() {
    let known: Vec<&str> =
        PARTS.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.name)).collect();
    for (feature, support) in FEATURES {
        let (Rows(rows) | Decided(rows)) = support else { continue };
        assert!(!rows.is_empty(), "{feature}");
        for row in *rows {
            assert!(known.contains(row), "{feature} names {row}");
        }
    }
}

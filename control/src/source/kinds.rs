//! What an object says it is.

use super::diagnostics::suggest::{nearest, one_of};
use super::diagnostics::{Problem, Reporter};
use super::gateway::GatewayKind;
use super::yaml::fields::expected;
use super::yaml::value::Value;

/// An object Ringway understands.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    WorkloadEntry,
    ServiceEntry,
    EndpointSlice,
    /// Belongs to the others, but says nothing a proxy needs.
    ServiceAccount,
    AuthorizationPolicy,
    PeerAuthentication,
    Policy(
        #[cfg_attr(
            not(feature = "waypoint"),
            expect(dead_code, reason = "policies of waypoints are accepted unread")
        )]
        PolicyKind,
    ),
    Gateway(GatewayKind),
}

/// Whether objects of this kind are read.
pub(crate) fn is_known(version: &str, kind: &str) -> bool {
    KINDS.iter().any(|(known, name, _)| (*known, *name) == (version, kind))
}

/// Whether there is such a kind in this group, though perhaps of other versions.
pub(crate) fn is_of_known_group(version: &str, kind: &str) -> bool {
    let group = |version: &str| version.split_once('/').map_or("", |(group, _)| group).to_owned();
    KINDS.iter().any(|(known, name, _)| group(known) == group(version) && *name == kind)
}

/// A kind of policies that only waypoints enforce.
#[derive(Clone, Copy)]
pub(crate) enum PolicyKind {
    RequestAuthentication,
    RateLimit,
    Fault,
    DestinationRule,
    BackendTraffic,
    MeshConfig,
}

const KINDS: &[(&str, &str, Kind)] = &[
    ("ringway.dev/v1alpha1", "Node", Kind::Node),
    ("v1", "Pod", Kind::Pod),
    ("v1", "Service", Kind::Service),
    ("v1", "Namespace", Kind::Namespace),
    ("v1", "ServiceAccount", Kind::ServiceAccount),
    ("networking.istio.io/v1", "WorkloadEntry", Kind::WorkloadEntry),
    ("networking.istio.io/v1beta1", "WorkloadEntry", Kind::WorkloadEntry),
    ("networking.istio.io/v1alpha3", "WorkloadEntry", Kind::WorkloadEntry),
    ("networking.istio.io/v1", "ServiceEntry", Kind::ServiceEntry),
    ("networking.istio.io/v1beta1", "ServiceEntry", Kind::ServiceEntry),
    ("networking.istio.io/v1alpha3", "ServiceEntry", Kind::ServiceEntry),
    ("discovery.k8s.io/v1", "EndpointSlice", Kind::EndpointSlice),
    ("security.istio.io/v1", "AuthorizationPolicy", Kind::AuthorizationPolicy),
    ("security.istio.io/v1beta1", "AuthorizationPolicy", Kind::AuthorizationPolicy),
    ("security.istio.io/v1", "PeerAuthentication", Kind::PeerAuthentication),
    ("security.istio.io/v1beta1", "PeerAuthentication", Kind::PeerAuthentication),
    ("security.istio.io/v1", "RequestAuthentication", AUTHENTICATION),
    ("security.istio.io/v1beta1", "RequestAuthentication", AUTHENTICATION),
    ("ringway.dev/v1alpha1", "RateLimitPolicy", Kind::Policy(PolicyKind::RateLimit)),
    ("ringway.dev/v1alpha1", "FaultPolicy", Kind::Policy(PolicyKind::Fault)),
    ("ringway.dev/v1alpha1", "MeshConfig", Kind::Policy(PolicyKind::MeshConfig)),
    ("networking.istio.io/v1", "DestinationRule", DESTINATION_RULE),
    ("networking.istio.io/v1beta1", "DestinationRule", DESTINATION_RULE),
    ("networking.istio.io/v1alpha3", "DestinationRule", DESTINATION_RULE),
    ("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy", BACKEND_TRAFFIC),
    (GATEWAY_V1, "Gateway", Kind::Gateway(GatewayKind::Gateway)),
    (GATEWAY_V1BETA1, "Gateway", Kind::Gateway(GatewayKind::Gateway)),
    (GATEWAY_V1, "GatewayClass", Kind::Gateway(GatewayKind::GatewayClass)),
    (GATEWAY_V1BETA1, "GatewayClass", Kind::Gateway(GatewayKind::GatewayClass)),
    (GATEWAY_V1, "HTTPRoute", Kind::Gateway(GatewayKind::HttpRoute)),
    (GATEWAY_V1BETA1, "HTTPRoute", Kind::Gateway(GatewayKind::HttpRoute)),
    (GATEWAY_V1, "GRPCRoute", Kind::Gateway(GatewayKind::GrpcRoute)),
    (GATEWAY_V1ALPHA2, "GRPCRoute", Kind::Gateway(GatewayKind::GrpcRoute)),
    (GATEWAY_V1, "TLSRoute", Kind::Gateway(GatewayKind::TlsRoute)),
    (GATEWAY_V1ALPHA3, "TLSRoute", Kind::Gateway(GatewayKind::TlsRoute)),
    (GATEWAY_V1ALPHA2, "TLSRoute", Kind::Gateway(GatewayKind::TlsRoute)),
    (GATEWAY_V1, "TCPRoute", Kind::Gateway(GatewayKind::TcpRoute)),
    (GATEWAY_V1ALPHA2, "TCPRoute", Kind::Gateway(GatewayKind::TcpRoute)),
    (GATEWAY_V1, "BackendTLSPolicy", Kind::Gateway(GatewayKind::BackendTlsPolicy)),
    (GATEWAY_V1ALPHA3, "BackendTLSPolicy", Kind::Gateway(GatewayKind::BackendTlsPolicy)),
    (GATEWAY_V1, "ListenerSet", Kind::Gateway(GatewayKind::ListenerSet)),
    ("gateway.networking.x-k8s.io/v1alpha1", "XListenerSet", X_LISTENER_SET),
    ("v1", "Secret", Kind::Gateway(GatewayKind::Secret)),
    ("v1", "ConfigMap", Kind::Gateway(GatewayKind::ConfigMap)),
    (GATEWAY_V1, "ReferenceGrant", Kind::Gateway(GatewayKind::ReferenceGrant)),
    (GATEWAY_V1BETA1, "ReferenceGrant", Kind::Gateway(GatewayKind::ReferenceGrant)),
];

const DESTINATION_RULE: Kind = Kind::Policy(PolicyKind::DestinationRule);
const BACKEND_TRAFFIC: Kind = Kind::Policy(PolicyKind::BackendTraffic);
const X_LISTENER_SET: Kind = Kind::Gateway(GatewayKind::XListenerSet);
const AUTHENTICATION: Kind = Kind::Policy(PolicyKind::RequestAuthentication);
const GATEWAY_V1: &str = "gateway.networking.k8s.io/v1";
const GATEWAY_V1ALPHA2: &str = "gateway.networking.k8s.io/v1alpha2";
const GATEWAY_V1ALPHA3: &str = "gateway.networking.k8s.io/v1alpha3";
const GATEWAY_V1BETA1: &str = "gateway.networking.k8s.io/v1beta1";

/// What the object says it is, if that is something.
pub(crate) fn kind_of(value: &Value, reporter: &mut Reporter) -> Option<Kind> {
    if value.entries().is_none() {
        expected("an object, which is a mapping", value, reporter);
        return None;
    }
    let (Some(version), Some(kind)) = (value.get("apiVersion"), value.get("kind")) else {
        report_no_kind(value, reporter);
        return None;
    };
    let texts = (version.text().unwrap_or_default(), kind.text().unwrap_or_default());
    let (version_text, kind_text) = texts;
    let known = KINDS.iter().filter(|(_, known, _)| *known == kind_text);
    match known.clone().find(|(known, ..)| *known == version_text) {
        Some((.., kind)) => Some(*kind),
        None if known.clone().next().is_some() => {
            let message = format!("the kind `{kind_text}` has no apiVersion `{version_text}`");
            let help = format!("write {}", one_of(known.map(|(version, ..)| *version)));
            reporter.report(Problem::error(version.place, message).help(help));
            None
        }
        None => {
            report_unknown_kind(kind, kind_text, reporter);
            None
        }
    }
}

fn report_no_kind(value: &Value, reporter: &mut Reporter) {
    let missing = if value.get("apiVersion").is_none() { "apiVersion" } else { "kind" };
    let message = format!("this object lacks the required key `{missing}`");
    let keys = value.entries().unwrap_or_default().iter().map(|(key, _)| key);
    let near =
        keys.filter_map(|key| nearest(&key.text, ["apiVersion", "kind"]).map(|near| (key, near)));
    let typo = near.into_iter().find(|(_, near)| *near == missing);
    let place = typo.as_ref().map_or(value.place, |(key, _)| key.place);
    let help = typo.map(|(_, near)| format!("did you mean `{near}`?"));
    reporter.report(Problem::error(place, message).help(help));
}

fn report_unknown_kind(kind: &Value, text: &str, reporter: &mut Reporter) {
    let kinds = || KINDS.iter().map(|(_, kind, _)| *kind);
    let mut names: Vec<&str> = kinds().collect();
    names.dedup();
    let help = match nearest(text, kinds()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("Ringway reads {}", one_of(names)),
    };
    let message = format!("objects of the kind `{text}` are not supported");
    reporter.report(Problem::error(kind.place, message).help(help));
}

//! What of the protocol is obeyed, and what becomes of the rest: one table, from which the documentation is made.

use std::fmt::Write;

use crate::proto::agent::backend_policy_spec::Kind as Backend;
use crate::proto::agent::frontend_policy_spec::Kind as Frontend;
use crate::proto::agent::policy::Kind;
use crate::proto::agent::traffic_policy_spec::Kind as Traffic;

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done.
    Obeyed,
    /// It is refused; nothing else comes of it.
    Refused,
    /// It is refused, and what it is for is closed.
    Closes,
    /// It means nothing here.
    Ignored,
}

/// A row: what of the protocol, by the message and field that carries it, what becomes of it, and what there is to say.
pub(super) struct Row {
    pub(super) message: &'static str,
    pub(super) field: &'static str,
    pub(super) fate: Fate,
    pub(super) note: &'static str,
}

const fn row(message: &'static str, field: &'static str, fate: Fate, note: &'static str) -> Row {
    Row { message, field, fate, note }
}

use Fate::{Closes, Ignored, Obeyed, Refused};

const RESOURCE: &str = "Resource";
const TRAFFIC: &str = "TrafficPolicySpec";
const BACKEND: &str = "BackendPolicySpec";
const FRONTEND: &str = "FrontendPolicySpec";

/// Every kind of resource and policy; the fates of policies are those of a policy by itself.
pub(super) const ROWS: &[Row] = &[
    row(
        RESOURCE,
        "bind",
        Obeyed,
        "plain, and HBONE of waypoints; the PROXY protocol, east-west tunnels and CONNECT are refused",
    ),
    row(
        RESOURCE,
        "listener",
        Obeyed,
        "a listener whose TLS asks for what is not there (suites, groups, TLS 1.3 only, certificates that are not told) fails every handshake",
    ),
    row(
        RESOURCE,
        "route",
        Obeyed,
        "a match that is not understood refuses it, and nothing passes by for want of it; an effect that is not understood makes its rule answer 500",
    ),
    row(RESOURCE, "tcp_route", Obeyed, ""),
    row(RESOURCE, "policy", Obeyed, "see below"),
    row(
        RESOURCE,
        "backend",
        Refused,
        "backends are services; a rule that leads to one answers 500",
    ),
    row(RESOURCE, "route_group", Refused, ""),
    row(RESOURCE, "model_route", Refused, ""),
    row(RESOURCE, "workload", Ignored, "workloads come as `istio.workload.Address`"),
    row(RESOURCE, "service", Ignored, "services, too"),
    row(TRAFFIC, "timeout", Refused, "obeyed in a route"),
    row(TRAFFIC, "retry", Refused, "obeyed in a route, without expressions"),
    row(TRAFFIC, "local_rate_limit", Obeyed, "of requests, not of a model's tokens"),
    row(
        TRAFFIC,
        "ext_authz",
        Obeyed,
        "the path of HTTP as istiod writes it, `\"<prefix>\" + request.path`; other expressions, context, metadata, redirects and policies for its connection close it",
    ),
    row(
        TRAFFIC,
        "authorization",
        Closes,
        "rules are CEL, and istiod sends none; without a rule it says nothing",
    ),
    row(TRAFFIC, "jwt", Closes, ""),
    row(TRAFFIC, "transformation", Refused, ""),
    row(TRAFFIC, "remote_rate_limit", Closes, ""),
    row(TRAFFIC, "csrf", Closes, ""),
    row(TRAFFIC, "ext_proc", Closes, ""),
    row(TRAFFIC, "request_header_modifier", Refused, "obeyed in a route"),
    row(TRAFFIC, "response_header_modifier", Refused, "obeyed in a route"),
    row(TRAFFIC, "request_redirect", Refused, "obeyed in a route"),
    row(TRAFFIC, "url_rewrite", Refused, "obeyed in a route"),
    row(TRAFFIC, "request_mirror", Refused, "obeyed in a route"),
    row(TRAFFIC, "direct_response", Closes, ""),
    row(TRAFFIC, "cors", Refused, "obeyed in a route"),
    row(TRAFFIC, "basic_auth", Closes, ""),
    row(TRAFFIC, "api_key_auth", Closes, ""),
    row(TRAFFIC, "host_rewrite", Refused, ""),
    row(TRAFFIC, "buffer", Refused, ""),
    row(TRAFFIC, "delay", Refused, ""),
    row(BACKEND, "a2a", Refused, ""),
    row(BACKEND, "inference_routing", Refused, "requests are balanced as any others are"),
    row(
        BACKEND,
        "backend_tls",
        Obeyed,
        "for a Service, TLS 1.3; `alpn`, `key_exchange_groups` and the mesh's own certificate close it: requests for that service get 500, or 403 where they are addressed to it",
    ),
    row(BACKEND, "auth", Closes, ""),
    row(BACKEND, "mcp_authorization", Closes, ""),
    row(BACKEND, "mcp_authentication", Closes, ""),
    row(BACKEND, "ai", Refused, ""),
    row(BACKEND, "request_header_modifier", Refused, "obeyed of a route's backend"),
    row(BACKEND, "response_header_modifier", Refused, "obeyed of a route's backend"),
    row(BACKEND, "request_redirect", Refused, "obeyed of a route's backend"),
    row(BACKEND, "request_mirror", Refused, "obeyed of a route's backend"),
    row(BACKEND, "backend_http", Refused, ""),
    row(BACKEND, "backend_tcp", Refused, ""),
    row(BACKEND, "transformation", Refused, ""),
    row(BACKEND, "health", Refused, ""),
    row(BACKEND, "backend_tunnel", Closes, ""),
    row(BACKEND, "ext_authz", Closes, ""),
    row(BACKEND, "mcp_guardrails", Closes, ""),
    row(BACKEND, "authorization", Closes, ""),
    row(FRONTEND, "tcp", Refused, ""),
    row(FRONTEND, "tls", Closes, "it may ask for newer TLS than there would be"),
    row(FRONTEND, "http", Refused, ""),
    row(FRONTEND, "logging", Refused, "flags and variables say what is logged"),
    row(FRONTEND, "tracing", Refused, "flags and variables say what is traced"),
    row(FRONTEND, "network_authorization", Closes, ""),
    row(FRONTEND, "proxy_protocol", Closes, "clients' addresses would be others than they are"),
    row(FRONTEND, "metrics", Refused, ""),
    row(FRONTEND, "connect", Refused, ""),
];

/// Whether what a policy that was refused is for must be closed. One of a kind that nobody knows may be about anything.
pub(super) fn closes(kind: Option<&Kind>) -> bool {
    let (message, field) = match kind {
        Some(Kind::Traffic(traffic)) => match &traffic.kind {
            // Refused, it is as good as asked and silent.
            Some(Traffic::ExtAuthz(_)) => return true,
            kind => (TRAFFIC, traffic_policy(kind.as_ref())),
        },
        // Refused, it would be a backend that is reached in the clear.
        Some(Kind::Backend(backend)) if matches!(backend.kind, Some(Backend::BackendTls(_))) => {
            return true;
        }
        Some(Kind::Backend(backend)) => (BACKEND, backend_policy(backend.kind.as_ref())),
        Some(Kind::Frontend(frontend)) => (FRONTEND, frontend_policy(frontend.kind.as_ref())),
        Some(Kind::Conditional(_)) | None => return true,
    };
    let row = ROWS.iter().find(|row| row.message == message && row.field == field);
    row.is_none_or(|row| row.fate == Closes)
}

const UNKNOWN: &str = "a policy of a kind that is not known";

pub(super) fn traffic_policy(kind: Option<&Traffic>) -> &'static str {
    let Some(kind) = kind else { return UNKNOWN };
    match kind {
        Traffic::Timeout(_) => "timeout",
        Traffic::Retry(_) => "retry",
        Traffic::LocalRateLimit(_) => "local_rate_limit",
        Traffic::ExtAuthz(_) => "ext_authz",
        Traffic::Authorization(_) => "authorization",
        Traffic::Jwt(_) => "jwt",
        Traffic::Transformation(_) => "transformation",
        Traffic::RemoteRateLimit(_) => "remote_rate_limit",
        Traffic::Csrf(_) => "csrf",
        Traffic::ExtProc(_) => "ext_proc",
        Traffic::RequestHeaderModifier(_) => "request_header_modifier",
        Traffic::ResponseHeaderModifier(_) => "response_header_modifier",
        Traffic::RequestRedirect(_) => "request_redirect",
        Traffic::UrlRewrite(_) => "url_rewrite",
        Traffic::RequestMirror(_) => "request_mirror",
        Traffic::DirectResponse(_) => "direct_response",
        Traffic::Cors(_) => "cors",
        Traffic::BasicAuth(_) => "basic_auth",
        Traffic::ApiKeyAuth(_) => "api_key_auth",
        Traffic::HostRewrite(_) => "host_rewrite",
        Traffic::Buffer(_) => "buffer",
        Traffic::Delay(_) => "delay",
    }
}

pub(super) fn backend_policy(kind: Option<&Backend>) -> &'static str {
    let Some(kind) = kind else { return UNKNOWN };
    match kind {
        Backend::A2a(_) => "a2a",
        Backend::InferenceRouting(_) => "inference_routing",
        Backend::BackendTls(_) => "backend_tls",
        Backend::Auth(_) => "auth",
        Backend::McpAuthorization(_) => "mcp_authorization",
        Backend::McpAuthentication(_) => "mcp_authentication",
        Backend::Ai(_) => "ai",
        Backend::RequestHeaderModifier(_) => "request_header_modifier",
        Backend::ResponseHeaderModifier(_) => "response_header_modifier",
        Backend::RequestRedirect(_) => "request_redirect",
        Backend::RequestMirror(_) => "request_mirror",
        Backend::BackendHttp(_) => "backend_http",
        Backend::BackendTcp(_) => "backend_tcp",
        Backend::Transformation(_) => "transformation",
        Backend::Health(_) => "health",
        Backend::BackendTunnel(_) => "backend_tunnel",
        Backend::ExtAuthz(_) => "ext_authz",
        Backend::McpGuardrails(_) => "mcp_guardrails",
        Backend::Authorization(_) => "authorization",
    }
}

pub(super) fn frontend_policy(kind: Option<&Frontend>) -> &'static str {
    let Some(kind) = kind else { return UNKNOWN };
    match kind {
        Frontend::Tcp(_) => "tcp",
        Frontend::Tls(_) => "tls",
        Frontend::Http(_) => "http",
        Frontend::Logging(_) => "logging",
        Frontend::Tracing(_) => "tracing",
        Frontend::NetworkAuthorization(_) => "network_authorization",
        Frontend::ProxyProtocol(_) => "proxy_protocol",
        Frontend::Metrics(_) => "metrics",
        Frontend::Connect(_) => "connect",
    }
}

/// The table, as `docs/waypoint.md` has it.
pub fn documentation() -> String {
    let mut page = String::from("| message | field | | |\n|---|---|---|---|\n");
    for Row { message, field, fate, note } in ROWS {
        let fate = match fate {
            Obeyed => "obeyed",
            Refused => "refused",
            Closes => "refused, closes its target",
            Ignored => "ignored",
        };
        let _infallible = writeln!(page, "| `{message}` | `{field}` | {fate} | {note} |");
    }
    page
}

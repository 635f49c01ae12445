//! `ringway.dev MeshConfig`: what Istio's mesh configuration says of external authorizers, its `extensionProviders`.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ringway_engine::limits::{
    OUTSIDE_AUTHORIZATION_TIMEOUT, OUTSIDE_TIMEOUT_MAX, REPLAY_BYTES_MAX,
};
use ringway_http::model::policy::{
    AuthorizationBody, AuthorizationProtocol, AuthorizationProvider, HttpAuthorization, TextMatch,
};

use super::service::{ServiceReference, unresolved};
use super::text_match;
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::kubernetes::metadata;
use crate::source::security::pattern;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, integer, nonempty, some_time, text};
use crate::source::yaml::value::{Value, shortened};

/// What else Istio's mesh configuration knows by this key: where telemetry goes. Policies name none of them.
const OF_TELEMETRY: [&str; 11] = [
    "datadog",
    "envoyFileAccessLog",
    "envoyHttpAls",
    "envoyOtelAls",
    "envoyTcpAls",
    "lightstep",
    "opencensus",
    "opentelemetry",
    "prometheus",
    "skywalking",
    "zipkin",
];

/// An authorizer, before it is known whether its service is there.
pub(crate) struct ProviderObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) service: ServiceReference,
    pub(crate) provider: AuthorizationProvider,
}

pub(crate) fn mesh_config(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Vec<ProviderObject>> {
    mapping("MeshConfig", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        fields.required("metadata", |value, reporter| metadata(value, context, reporter))?;
        fields.required("spec", |value, reporter| {
            mapping("spec", value, reporter, |fields| {
                let all = |value: &Value, reporter: &mut Reporter| list(value, reporter, provider);
                fields.required("extensionProviders", all)
            })?
        })
    })?
    .map(|providers| providers.into_iter().flatten().collect())
}

/// `Some(None)`: one of telemetry's.
fn provider(value: &Value, reporter: &mut Reporter) -> Option<Option<ProviderObject>> {
    mapping("extensionProviders[]", value, reporter, |fields| {
        let place = fields.value_place("name");
        let name = fields.required("name", nonempty);
        let grpc = fields.optional("envoyExtAuthzGrpc", by_grpc);
        let http = fields.optional("envoyExtAuthzHttp", by_http);
        let telemetry: Vec<_> =
            OF_TELEMETRY.into_iter().filter(|key| fields.value(key).is_some()).collect();
        let keys = ["envoyExtAuthzGrpc", "envoyExtAuthzHttp"];
        let given = keys.into_iter().filter(|key| fields.value(key).is_some()).count();
        match (given, telemetry.first()) {
            (0, Some(key)) => {
                let message = format!("`{key}` has no effect: only authorizers are read here");
                let place = fields.place(key);
                fields.reporter.report(Problem::warning(place, message));
                return Some(None);
            }
            (1, None) => {}
            _ => {
                let message = "expected either `envoyExtAuthzGrpc` or `envoyExtAuthzHttp`";
                fields.reporter.report(Problem::error(value.place, message));
                return None;
            }
        }
        let Read { service, mut provider } = grpc.or(http)?;
        provider.name = name?.into();
        Some(Some(ProviderObject { place, service, provider }))
    })?
}

struct Read {
    service: ServiceReference,
    provider: AuthorizationProvider,
}

fn by_grpc(value: &Value, reporter: &mut Reporter) -> Option<Read> {
    mapping("envoyExtAuthzGrpc", value, reporter, |fields| {
        common(AuthorizationProtocol::Grpc, fields)
    })?
}

fn by_http(value: &Value, reporter: &mut Reporter) -> Option<Read> {
    mapping("envoyExtAuthzHttp", value, reporter, |fields| {
        let said = HttpAuthorization {
            path_prefix: fields.optional("pathPrefix", path_prefix).unwrap_or_default().into(),
            include: [
                names("includeRequestHeadersInCheck", fields),
                names("includeHeadersInCheck", fields),
            ]
            .concat(),
            add: fields.optional("includeAdditionalHeadersInCheck", headers).unwrap_or_default(),
            upstream: names("headersToUpstreamOnAllow", fields),
            downstream_on_allow: names("headersToDownstreamOnAllow", fields),
            downstream_on_deny: names("headersToDownstreamOnDeny", fields),
        };
        common(AuthorizationProtocol::Http(said), fields)
    })?
}

/// What both protocols have.
fn common(protocol: AuthorizationProtocol, fields: &mut Fields<'_, '_>) -> Option<Read> {
    let is_http = matches!(protocol, AuthorizationProtocol::Http(_));
    let service = ServiceReference::read(fields);
    let timeout =
        fields.optional("timeout", outside_timeout).unwrap_or(OUTSIDE_AUTHORIZATION_TIMEOUT);
    let fail_open = fields.optional("failOpen", boolean).unwrap_or(false);
    let status_on_error = fields.optional("statusOnError", status);
    let body = fields
        .optional("includeRequestBodyInCheck", |value, reporter| body(value, is_http, reporter));
    // Routes are looked for when the authorizer has answered, whatever is said.
    let _ = fields.optional("clearRouteCache", boolean);
    Some(Read {
        service: service?,
        provider: AuthorizationProvider {
            name: "".into(),
            service: unresolved(),
            protocol,
            timeout,
            fail_open,
            status_on_error: status_on_error.unwrap_or(StatusCode::FORBIDDEN),
            body,
        },
    })
}

fn body(value: &Value, is_http: bool, reporter: &mut Reporter) -> Option<AuthorizationBody> {
    mapping("includeRequestBodyInCheck", value, reporter, |fields| {
        let bytes_max = fields.required("maxRequestBytes", integer(1..=REPLAY_BYTES_MAX as u64));
        let allow_partial = fields.optional("allowPartialMessage", boolean).unwrap_or(false);
        let as_bytes = fields.optional("packAsBytes", boolean).unwrap_or(false);
        if as_bytes && is_http {
            let place = fields.place("packAsBytes");
            let message = "`packAsBytes` means something for `envoyExtAuthzGrpc` only";
            fields.reporter.report(Problem::error(place, message));
        }
        Some(AuthorizationBody { bytes_max: bytes_max? as u32, allow_partial, as_bytes })
    })?
}

/// Istio has it in quotes.
fn status(value: &Value, reporter: &mut Reporter) -> Option<StatusCode> {
    let text = text(value, reporter)?;
    let code = text.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
    let code = code.filter(|code| (200..600).contains(&code.as_u16()));
    if code.is_none() {
        let message = format!("{:?} is no status from 200 to 599", shortened(text));
        reporter.report(Problem::error(value.place, message));
    }
    code
}

fn path_prefix<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = nonempty(value, reporter)?;
    let is_path = text.starts_with('/')
        && !text.contains(['?', '#'])
        && http::uri::PathAndQuery::try_from(text).is_ok();
    if !is_path {
        let message = format!("{:?} is no path", shortened(text));
        let help = "it begins with a slash and has no query".to_owned();
        reporter.report(Problem::error(value.place, message).help(help));
        return None;
    }
    // The request's path begins with a slash of its own.
    Some(text.trim_end_matches('/'))
}

/// Names of headers, with a `*` at one of their ends.
fn names(key: &'static str, fields: &mut Fields<'_, '_>) -> Vec<TextMatch> {
    let name = |value: &Value, reporter: &mut Reporter| {
        let lower = match text_match(pattern(value, reporter)?) {
            TextMatch::Exact(text) => TextMatch::Exact(text.to_ascii_lowercase().into()),
            TextMatch::Prefix(text) => TextMatch::Prefix(text.to_ascii_lowercase().into()),
            TextMatch::Suffix(text) => TextMatch::Suffix(text.to_ascii_lowercase().into()),
            TextMatch::Presence => TextMatch::Presence,
        };
        let written = match &lower {
            TextMatch::Exact(text) | TextMatch::Prefix(text) | TextMatch::Suffix(text) => text,
            TextMatch::Presence => return Some(lower),
        };
        if HeaderName::try_from(&**written).is_err() {
            let message = format!("{:?} is no name of a header", shortened(written));
            reporter.report(Problem::error(value.place, message));
            return None;
        }
        Some(lower)
    };
    fields.optional(key, |value, reporter| list(value, reporter, name)).unwrap_or_default()
}

/// Headers by name.
fn headers(value: &Value, reporter: &mut Reporter) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Some(entries) = value.entries() else {
        crate::source::yaml::fields::expected("a mapping of headers", value, reporter);
        return None;
    };
    let mut all = Vec::new();
    for (key, value) in entries {
        let name = HeaderName::try_from(key.text.to_ascii_lowercase());
        let Ok(name) = name else {
            let message = format!("{:?} is no name of a header", shortened(&key.text));
            reporter.report(Problem::error(key.place, message));
            continue;
        };
        let Some(content) = text(value, reporter) else { continue };
        match HeaderValue::try_from(content) {
            Ok(value) => all.push((name, value)),
            Err(_) => {
                let message = "this is no value that a header can have";
                reporter.report(Problem::error(value.place, message));
            }
        }
    }
    Some(all)
}

/// Of a call that a request waits for.
pub(super) fn outside_timeout(value: &Value, reporter: &mut Reporter) -> Option<Duration> {
    let timeout = some_time(value, reporter)?;
    if timeout > OUTSIDE_TIMEOUT_MAX {
        let message = "expected one minute at most: a request waits for it";
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    Some(timeout)
}

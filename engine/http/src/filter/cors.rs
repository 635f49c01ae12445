//! Cross-origin requests (the Fetch standard §3.2): preflights are answered here, and answers are marked.
//!
//! The configuration decides alone: what a backend says about origins itself is taken out. What is told of an origin
//! is never told to another one: `Vary: Origin`, unless everybody gets the same.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::Reply;
use crate::model::{Cors, OriginMatch};

/// What a backend may have said.
const SAID: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// Whether a browser asks what it may do.
pub fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight. One from another origin is answered without a word about origins, so the browser refuses.
pub(super) fn preflight(cors: &Cors, request: &HeaderMap) -> Reply {
    let mut headers = HeaderMap::new();
    let granted = grant(cors, request.get(header::ORIGIN), &mut headers);
    if granted {
        let methods = request.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let names = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        put(&mut headers, header::ACCESS_CONTROL_ALLOW_METHODS, list(cors, &cors.methods, methods));
        put(&mut headers, header::ACCESS_CONTROL_ALLOW_HEADERS, list(cors, &cors.headers, names));
        let max_age = cors.max_age.map(|age| HeaderValue::from(age.as_secs()));
        put(&mut headers, header::ACCESS_CONTROL_MAX_AGE, max_age);
    }
    Reply { status: StatusCode::NO_CONTENT, headers }
}

/// What the answer to an actual request tells the browser.
pub(super) fn mark(cors: &Cors, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
    for name in SAID {
        response.remove(name);
    }
    if grant(cors, origin, response) {
        let exposed = exposed(cors, response);
        put(response, header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// Says which origin may, if this one may.
fn grant(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    let everybody = cors.origins.contains(&OriginMatch::Any) && !cors.credentials;
    if !everybody {
        vary(headers);
    }
    let Some(origin) = origin.filter(|origin| is_allowed(cors, origin)) else { return false };
    let told = if everybody { HeaderValue::from_static("*") } else { origin.clone() };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, told);
    if cors.credentials {
        let yes = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    true
}

fn vary(headers: &mut HeaderMap) {
    let told = headers.get_all(header::VARY).iter().any(|value| {
        let Ok(value) = value.to_str() else { return false };
        value
            .split(',')
            .any(|one| matches!(one.trim(), "*") || one.trim().eq_ignore_ascii_case("origin"))
    });
    if !told {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// Browsers write origins in lower case, and leave out a scheme's own port.
fn is_allowed(cors: &Cors, origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let origin = origin.to_ascii_lowercase();
    cors.origins.iter().any(|allowed| match allowed {
        OriginMatch::Any => true,
        OriginMatch::Exact(exact) => exact.eq_ignore_ascii_case(&origin),
        OriginMatch::Wildcard { prefix, suffix } => is_between(&origin, prefix, suffix),
    })
}

/// What the star stands for is labels: no port, and no user in front of another host.
fn is_between(origin: &str, prefix: &str, suffix: &str) -> bool {
    let rest = origin.strip_prefix(&*prefix.to_ascii_lowercase());
    let labels = rest.and_then(|rest| rest.strip_suffix(&*suffix.to_ascii_lowercase()));
    labels.is_some_and(|labels| {
        !labels.is_empty()
            && labels.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    })
}

/// The configured ones. A star means nothing to a browser that sends credentials: it is told what it asked for.
fn list(
    cors: &Cors,
    configured: &[std::sync::Arc<str>],
    asked: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    if cors.credentials && configured.iter().any(|one| &**one == "*") {
        return asked.filter(|asked| is_list(asked)).cloned();
    }
    join(configured.iter().map(|one| &**one))
}

fn exposed(cors: &Cors, response: &HeaderMap) -> Option<HeaderValue> {
    if cors.credentials && cors.expose.iter().any(|one| &**one == "*") {
        let shown = |name: &&HeaderName| !SAID.contains(name) && **name != header::SET_COOKIE;
        return join(response.keys().filter(shown).map(HeaderName::as_str));
    }
    join(cors.expose.iter().map(|one| &**one))
}

fn join<'a>(all: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let all = all.collect::<Vec<_>>().join(", ");
    if all.is_empty() { None } else { HeaderValue::try_from(all).ok() }
}

/// Whether it is tokens with commas between, and nothing else that we would repeat for somebody.
fn is_list(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(byte))
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

//! Headers that are a connection's own (RFC 9110 §7.6.1), and the one upgrade that is passed on (RFC 9110 §7.8).

use http::{HeaderMap, HeaderName, HeaderValue, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Headers of HTTP/1 connections, which HTTP/2 has not (RFC 9113 §8.2.2).
pub(super) const CONNECTION_OWN: [HeaderName; 5] =
    [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// Who authenticates to a proxy does so to us (RFC 9110 §11.7).
const PROXY_OWN: [HeaderName; 3] =
    [header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION, HTTP2_SETTINGS];

/// What others decide by: who names one of them in `Connection` would have it taken out between us and them.
const PROTECTED: [&str; 12] = [
    "authorization",
    "baggage",
    "cache-control",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "traceparent",
    "tracestate",
    "via",
    "x-request-id",
];

/// Beginnings of names that are protected alike.
const PROTECTED_BEGINNINGS: [&str; 4] = ["x-forwarded-", "x-envoy-", "x-istio-", "x-ringway-"];

/// What may be asked for by `TE`, of what this hop can do.
const TRAILERS: &str = "trailers";

/// Takes out what is this hop's own: `Connection` and what it names, but for what is protected; and what is so without
/// being named. `TE: trailers` stays, because we pass trailers on.
pub fn strip(headers: &mut HeaderMap) {
    for name in named(headers) {
        headers.remove(name);
    }
    // One look at each header that is there: of those that are to go, most messages have none.
    let goes = |(name, value): &(&HeaderName, &HeaderValue)| {
        is_own(name) && !(**name == header::TE && *value == TRAILERS)
    };
    let own: Vec<HeaderName> = headers.iter().filter(goes).map(|(name, _)| name.clone()).collect();
    let trailers = own.contains(&header::TE)
        && tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case(TRAILERS));
    for name in own {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static(TRAILERS));
    }
}

/// Whether a header is this hop's without being named.
fn is_own(name: &HeaderName) -> bool {
    *name == header::TE
        || *name == header::TRAILER
        || CONNECTION_OWN.contains(name)
        || PROXY_OWN.contains(name)
}

/// Takes out what HTTP/2 has not (RFC 9113 §8.2.2), whoever has put it in.
pub fn strip_for_http2(headers: &mut HeaderMap) {
    // Most messages have none.
    if headers.keys().any(|name| CONNECTION_OWN.contains(name)) {
        CONNECTION_OWN.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// Takes out what `Connection` names, before anybody decides by it or adds to it: a client must not have a header taken
/// out that is put in here. What is a connection's own stays for [`strip`].
pub fn drop_named(headers: &mut HeaderMap) {
    let is_own = |name: &HeaderName| {
        CONNECTION_OWN.contains(name) || *name == header::TE || *name == header::TRAILER
    };
    let gone: Vec<HeaderName> =
        named(headers).into_iter().filter(|name| !is_own(name) && name != "close").collect();
    if gone.is_empty() {
        return;
    }
    let is_gone = |token: &&str| gone.iter().any(|name| token.eq_ignore_ascii_case(name.as_str()));
    let left: Vec<&str> =
        tokens(headers, &header::CONNECTION).filter(|token| !is_gone(token)).collect();
    let left = HeaderValue::try_from(left.join(", ")).ok();
    headers.remove(header::CONNECTION);
    if let Some(left) = left.filter(|left| !left.is_empty()) {
        headers.insert(header::CONNECTION, left);
    }
    gone.iter().for_each(|name| drop(headers.remove(name)));
}

/// The names in `Connection` that may be taken out.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &header::CONNECTION)
        .filter_map(|token| token.parse().ok())
        .filter(|name| !is_protected(name))
        .collect()
}

/// Whether a client cannot have a header taken out by naming it in `Connection`.
pub fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    PROTECTED.contains(&name) || PROTECTED_BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// The token of an upgrade that is passed on: `websocket`, when `Connection` names it. Everything else, `h2c` above
/// all, is taken out with the other headers of the hop: behind it would be requests that nobody has looked at.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let named = tokens(headers, &header::CONNECTION).any(|it| it.eq_ignore_ascii_case("upgrade"));
    let mut all = headers.get_all(header::UPGRADE).iter();
    let (token, second) = (all.next()?, all.next());
    let only = second.is_none() && token.as_bytes().eq_ignore_ascii_case(b"websocket");
    (named && only).then(|| token.clone())
}

/// Asks for an upgrade, or grants it, on the next hop; after [`strip`].
pub fn set_upgrade(headers: &mut HeaderMap, token: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, token);
}

/// Cookies that HTTP/2 has cut are joined before HTTP/1 (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let joined = super::joined(headers, &header::COOKIE).map(|all| HeaderValue::from_bytes(&all));
    if let Some(Ok(joined)) = joined {
        headers.insert(header::COOKIE, joined);
    }
}

/// What becomes of headers with underscores in their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// They are passed on.
    #[default]
    Allow,
    /// They are taken out; see [`drop_underscores`].
    Drop,
    /// 400.
    Reject,
}

/// Takes out headers with underscores, where that is the rule.
pub fn drop_underscores(headers: &mut HeaderMap, rule: Underscores) {
    if rule == Underscores::Drop {
        let names: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// Takes out of trailers what decides about framing, routing or who somebody is (RFC 9110 §6.5.1): they come when all
/// that is decided.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let forbidden: Vec<HeaderName> =
        trailers.keys().filter(|name| is_forbidden_trailer(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

fn is_forbidden_trailer(name: &HeaderName) -> bool {
    const FORBIDDEN: [&str; 14] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "max-forwards",
        "range",
        "set-cookie",
        "te",
        "trailer",
    ];
    FORBIDDEN.contains(&name.as_str())
        || CONNECTION_OWN.contains(name)
        || PROXY_OWN.contains(name)
        || PROTECTED_BEGINNINGS.iter().any(|begin| name.as_str().starts_with(begin))
}

//! Headers that are one connection's own, and those that say where a request has been.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What `Connection` must not be used to take away: others decide by it.
const PROTECTED: [&str; 5] = ["authorization", "cookie", "host", "content-length", "forwarded"];

/// Takes away what is meant for this hop only (RFC 9110 §7.6.1): `Connection` and what it names, and what old
/// implementations send without naming it. `TE: trailers` stays, because the next hop forwards trailers, too.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !is_protected(name))
        .collect();
    for name in &named {
        headers.remove(name);
    }
    let takes_trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.split(',').any(is_trailers)));
    for name in [
        header::CONNECTION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn is_trailers(coding: &str) -> bool {
    coding.trim().eq_ignore_ascii_case("trailers")
}

fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    PROTECTED.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("x-envoy-")
}

/// The token of an upgrade that is passed on: a WebSocket's. Whoever asks for HTTP/2 in this way is answered in
/// HTTP/1.1.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(header::CONNECTION).iter().any(|value| {
        let mut tokens = value.to_str().unwrap_or_default().split(',');
        tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
    });
    let token = headers.get(header::UPGRADE)?;
    (asks && token.as_bytes().eq_ignore_ascii_case(b"websocket")).then(|| token.clone())
}

/// Asks for an upgrade, or grants it.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, token: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, token);
}

/// Says how the client came, unless somebody before us has.
pub(crate) fn say_scheme(headers: &mut HeaderMap, scheme: &'static str) {
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let rows = rows.iter();
        rows.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_is_one_connections_own_goes() {
        let mut found = headers(&[
            ("connection", "close, x-mine, Authorization, x-forwarded-for"),
            ("x-mine", "1"),
            ("authorization", "Bearer t"),
            ("x-forwarded-for", "10.0.0.1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, Trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut found);
        let want = headers(&[
            ("authorization", "Bearer t"),
            ("x-forwarded-for", "10.0.0.1"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        assert_eq!(found, want);
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        let token = |rows| upgrade_of(&headers(rows));
        assert!(
            token(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]).is_some()
        );
        assert!(token(&[("connection", "upgrade"), ("upgrade", "h2c")]).is_none());
        assert!(token(&[("connection", "close"), ("upgrade", "websocket")]).is_none());
        assert!(token(&[("connection", "upgrade")]).is_none());
    }
}

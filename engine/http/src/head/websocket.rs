//! WebSockets between HTTP/2 and HTTP/1 (RFC 8441): extended CONNECT there is an upgrade here.

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version, header};

use super::hops;

/// Makes of an extended CONNECT, whose `:protocol` is websocket, what an HTTP/1 backend is asked (RFC 8441 §5).
/// `random` becomes the key, which HTTP/2 has none of.
///
/// The target must have a path; that it has, [`is_extended_connect`] says.
pub fn to_upgrade(parts: &mut Parts, random: [u8; 16]) {
    parts.method = Method::GET;
    parts.version = Version::HTTP_11;
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    let path = parts.uri.path_and_query().cloned();
    if let Some(path) = path {
        parts.uri = Uri::from(path);
    }
    hops::set_upgrade(&mut parts.headers, HeaderValue::from_static("websocket"));
    let key = HeaderValue::from_str(&base64(&random)).expect("letters, digits and signs");
    parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
    // No body comes (RFC 9110 §9.3.6): who waits for one takes what comes next for it.
    parts.headers.remove(header::CONTENT_LENGTH);
}

/// Whether it is one that is passed on. `protocol`: the `:protocol` it came with.
pub fn is_extended_connect(parts: &Parts, protocol: Option<&str>) -> bool {
    parts.version == Version::HTTP_2
        && parts.method == Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
        && parts.uri.path().starts_with('/')
}

/// Makes of the HTTP/1 backend's 101 the answer to an extended CONNECT. Other answers stay as they are.
pub fn from_switched(parts: &mut http::response::Parts) {
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        parts.status = StatusCode::OK;
        parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        // What follows has no length (RFC 9110 §9.3.6).
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    hops::strip(&mut parts.headers);
}

/// Sixteen bytes, padded (RFC 4648 §4).
fn base64(bytes: &[u8; 16]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(24);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8441_section_5_1() {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.version = Version::HTTP_2;
        parts.method = Method::CONNECT;
        parts.uri = "https://server.example.com/chat?x".parse().expect("a target");
        parts.headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        assert!(is_extended_connect(&parts, Some("websocket")));
        assert!(
            !is_extended_connect(&parts, Some("connect-udp")) && !is_extended_connect(&parts, None)
        );
        // RFC 6455 §1.3 has this key.
        to_upgrade(&mut parts, *b"the sample nonce");
        assert_eq!((&parts.method, parts.version), (&Method::GET, Version::HTTP_11));
        assert_eq!(parts.uri, "/chat?x");
        for (name, value) in [
            ("host", "server.example.com"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ] {
            assert_eq!(parts.headers[name], value);
        }
        let mut answer = http::Response::new(()).into_parts().0;
        answer.status = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", "x"),
            ("sec-websocket-protocol", "chat"),
        ] {
            answer.headers.insert(name, HeaderValue::from_static(value));
        }
        from_switched(&mut answer);
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers.len(), 1, "{:?}", answer.headers);
    }
}

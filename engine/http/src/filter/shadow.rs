//! The head of a copy: whoever gets it can tell it from what clients send.

use http::request::Parts;
use http::{HeaderValue, header};

/// What ends the host of a copy, as Envoy ends it (its `RequestMirrorPolicy`); the Gateway API's standard says nothing of it.
const SUFFIX: &str = "-shadow";

/// Makes of a request's head that of a copy. Only its `Host` counts from here on.
pub fn shadow(request: &mut Parts) {
    // The copy is whole when it is sent: there is nothing to wait for.
    request.headers.remove(header::EXPECT);
    let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = host.and_then(shadow_host) {
        request.headers.insert(header::HOST, host);
    }
}

/// The suffix goes before the port. None: a host that would be none with it.
fn shadow_host(host: &str) -> Option<HeaderValue> {
    if host.is_empty() || host.starts_with('[') {
        return None;
    }
    let changed = match host.rsplit_once(':') {
        Some((host, port)) => format!("{host}{SUFFIX}:{port}"),
        None => format!("{host}{SUFFIX}"),
    };
    HeaderValue::from_str(&changed).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn the_host_of_a_copy_says_so() {
        for (host, want) in [
            ("web", "web-shadow"),
            ("web.shop.example:8080", "web.shop.example-shadow:8080"),
            ("10.0.0.1:80", "10.0.0.1-shadow:80"),
            ("[::1]:80", "[::1]:80"),
            ("", ""),
        ] {
            let request = Request::get("/").header("host", host).header("expect", "100-continue");
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            shadow(&mut parts);
            assert_eq!(parts.headers["host"], want, "{host}");
            assert!(!parts.headers.contains_key("expect"));
        }
    }
}

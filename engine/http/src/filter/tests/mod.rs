//! The filters, told by the standard's conformance tests.

mod cors;
mod headers;
mod share;
mod target;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::Entrance;

/// `name: value` in one line each.
pub(super) fn header_map(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a name and a value");
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

/// As `header_map` reads it, sorted.
pub(super) fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", value.to_str().expect("text"))
    };
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

pub(super) fn request(method: Method, target: &str, headers: &[&str]) -> Parts {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    parts.uri = target.parse().expect("a target");
    parts.headers = header_map(headers);
    parts
}

/// At `example.org`, by a listener for HTTP on port 80.
pub(super) fn entrance<'a>(path: &'a str, prefix: Option<&'a str>) -> Entrance<'a> {
    Entrance { scheme: "http", port: 80, host: "example.org", path, prefix }
}

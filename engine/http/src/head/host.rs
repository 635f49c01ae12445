//! Hosts as they are compared.

use std::borrow::Cow;

/// In lower case, without a port and without the dot that ends a whole name.
///
/// ```
/// use ringway_http::head::normal;
/// assert_eq!(normal("Example.COM.:8080"), "example.com");
/// assert_eq!(normal("[::1]:80"), "[::1]");
/// ```
pub fn normal(authority: &str) -> Cow<'_, str> {
    let host = without_port(authority);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The last colon of `[::1]` is none of a port.
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

//! What of a request's head routing and policies look at; what is refused of it, and what goes no further.

pub mod forwarding;
pub mod frames;
pub mod hops;
mod host;
mod request;
#[cfg(test)]
mod tests;
pub mod websocket;
pub mod wire;

use std::borrow::Cow;

use http::header::{COOKIE, HOST, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::path::{self, PathError, PathMode};

pub use self::hops::{Underscores, drop_underscores};
pub use self::host::normal;
pub use self::request::{HeadRules, Refusal, check_request, check_response};

/// A request's head, as it is matched: the host in lower case and without port, the path canonical.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    method: &'a Method,
    host: Cow<'a, str>,
    path: Cow<'a, str>,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
}

impl<'a> RequestHead<'a> {
    /// Reads what a server has parsed. The target's authority goes before a `Host` header (RFC 9112 §3.2.2).
    ///
    /// # Errors
    /// The mode refuses the path: 400.
    pub fn read(parts: &'a Parts, mode: PathMode) -> Result<RequestHead<'a>, PathError> {
        let host = match parts.uri.authority() {
            Some(authority) => authority.as_str(),
            None => parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
        };
        Ok(RequestHead {
            method: &parts.method,
            host: host::normal(host),
            path: path::canonical(parts.uri.path(), mode)?,
            query: parts.uri.query(),
            headers: &parts.headers,
        })
    }

    /// From its pieces; `path` must be canonical.
    pub fn new(
        method: &'a Method,
        host: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        headers: &'a HeaderMap,
    ) -> RequestHead<'a> {
        RequestHead { method, host: host::normal(host), path: Cow::Borrowed(path), query, headers }
    }

    /// The method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// In lower case, without a port and without a dot at its end; empty if there is none.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Canonical; this is what is passed on.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As it came.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// As they came.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// All values of a header as one (RFC 9110 §5.2); cookies that HTTP/2 has cut are joined by its rule (RFC 9113 §8.2.3).
    pub fn header(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        joined(self.headers, name)
    }

    /// The first parameter of that name; without a value it is empty.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let parameters = self.query?.split('&');
        parameters
            .map(|one| one.split_once('=').unwrap_or((one, "")))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// What holds a message together, and is the connection's own: no filter changes it (RFC 9110 §7.6.1).
pub fn is_framing(name: &HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// All values of `name` as one.
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    if *name == SET_COOKIE {
        // Its values have commas of their own; there is no joining them.
        return Some(Cow::Borrowed(first));
    }
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b"," };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(separator);
        all.extend_from_slice(value);
    }
    Some(Cow::Owned(all))
}

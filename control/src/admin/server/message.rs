//! What is asked, and what is answered.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
};
use hyper::{Method, StatusCode};

use super::encoding::Encoding;

/// Smaller answers are not worth compressing.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// The `Accept` headers.
    pub accept: Vec<String>,
    /// The `Accept-Encoding` headers.
    pub accept_encoding: Vec<String>,
}

/// What is answered.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    content_type: &'static str,
    encoding: Option<&'static str>,
    allow: Option<&'static str>,
    body: Bytes,
}

impl Response {
    /// A text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", body)
    }

    /// Any other content.
    pub fn of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, encoding: None, allow: None, body: body.into() }
    }

    /// The same, smaller, if the client takes that.
    pub fn compressed_for(mut self, request: &Request) -> Self {
        if self.body.len() < COMPRESSED_BYTES_MIN {
            return self;
        }
        let accepted = request.accept_encoding.iter().map(String::as_str);
        if let Some(encoding) = Encoding::negotiate(accepted) {
            self.body = encoding.compress(&self.body).into();
            self.encoding = Some(encoding.name());
        }
        self
    }

    /// How the content is compressed, if it is.
    pub fn encoding(&self) -> Option<&'static str> {
        self.encoding
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The content type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The content.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }

    /// 405, and what is allowed.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let body = format!("method not allowed: use {allow}\n");
        let mut response = Self::text(StatusCode::METHOD_NOT_ALLOWED, body);
        response.allow = Some(allow);
        response
    }
}

impl Request {
    /// The first key in the query that is none of `known`, percent-decoded.
    pub fn other_parameter(&self, known: &[&str]) -> Option<String> {
        let keys =
            self.query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key));
        let mut keys = keys.filter(|key| !key.is_empty()).map(percent_decode);
        keys.find(|key| !known.contains(&&**key))
    }

    /// The values of `key` in the query, percent-decoded; a key without a value has an empty one.
    pub fn parameters(&self, key: &str) -> Vec<String> {
        self.query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(name, _)| percent_decode(name) == key)
            .map(|(_, value)| percent_decode(value))
            .collect()
    }
}

pub(super) fn read(request: &hyper::Request<Incoming>) -> Request {
    let headers = |name: HeaderName| {
        let values = request.headers().get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    Request {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        accept: headers(ACCEPT),
        accept_encoding: headers(ACCEPT_ENCODING),
    }
}

pub(super) fn write(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut answer = hyper::Response::new(Full::new(response.body));
    *answer.status_mut() = response.status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(response.content_type));
    if let Some(encoding) = response.encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(allow) = response.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    answer
}

/// As in forms: `+` is a blank, `%41` a byte; what is malformed stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = text.as_bytes().iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        let rest = bytes.as_slice();
        match byte {
            b'+' => decoded.push(b' '),
            b'%' if rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit) => {
                let digits = std::str::from_utf8(&rest[..2]).expect("hex digits are ASCII");
                decoded.push(u8::from_str_radix(digits, 16).expect("two hex digits fit a byte"));
                bytes.nth(1);
            }
            byte => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

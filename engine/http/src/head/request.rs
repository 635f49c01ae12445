//! What a request's head must not be, after a parser has read it.
//!
//! hyper and h2 refuse what is no HTTP at all: bad tokens, folded lines, chunks without numbers, HTTP/2's pseudo
//! headers out of place. What they let through, because it can be read in one way by somebody careful, is refused here
//! before somebody less careful gets it (RFC 9112 §11.2).

use std::fmt;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::hops::{self, CONNECTION_OWN, Underscores};

/// What is let through that need not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadRules {
    /// HTTP/1.0.
    pub http10: bool,
    /// TRACE, which shows a server's client what proxies have added.
    pub trace: bool,
    /// CONNECT of applications, through us.
    pub connect: bool,
    /// Header names with underscores, which some servers take for hyphens.
    pub underscores: Underscores,
}

/// Why a request is refused, by whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.1).
    LengthAndCoding,
    /// `Content-Length` twice, or none of a number (RFC 9112 §6.3).
    Length,
    /// `Transfer-Encoding` is not `chunked`, once (RFC 9112 §6.1).
    Coding,
    /// A transfer coding that we do not know (RFC 9112 §6.1).
    UnknownCoding,
    /// Not exactly one `Host` (RFC 9112 §3.2).
    HostCount,
    /// `Host`, or the target's authority, is no host (RFC 9110 §7.2).
    Host,
    /// `:authority` and `Host` differ (RFC 9113 §8.3.1).
    HostConflict,
    /// The target has a form that the method has not (RFC 9112 §3.2).
    Target,
    /// Neither http nor https (RFC 9110 §4.2).
    Scheme,
    /// CONNECT or TRACE.
    Method,
    /// An expectation that is not `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// HTTP/1.0 (RFC 9110 §15.5.22).
    Version,
    /// HTTP/2 with a header of HTTP/1 connections (RFC 9113 §8.2.2).
    ConnectionHeader,
    /// A value that begins or ends with a space (RFC 9113 §8.2.1).
    Padded,
    /// An underscore in a name.
    Underscore,
}

impl Refusal {
    /// Of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Expectation => StatusCode::EXPECTATION_FAILED,
            Refusal::Version => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the connection must end, because where the next request begins is a matter of opinion.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Refusal::LengthAndCoding | Refusal::Length | Refusal::Coding | Refusal::UnknownCoding
        )
    }

    /// For the access log, in the words that operators know from Envoy where it has some.
    pub fn details(self) -> &'static str {
        match self {
            Refusal::LengthAndCoding => "http1.content_length_and_chunked_not_allowed",
            Refusal::Length => "http1.content_length_invalid",
            Refusal::Coding => "http1.transfer_encoding_invalid",
            Refusal::UnknownCoding => "http1.unknown_transfer_encoding",
            Refusal::HostCount => "missing_host_header",
            Refusal::Host => "invalid_host_header",
            Refusal::HostConflict => "conflicting_host_header",
            Refusal::Target => "invalid_request_target",
            Refusal::Scheme => "invalid_scheme",
            Refusal::Method => "method_not_allowed",
            Refusal::Expectation => "expectation_failed",
            Refusal::Version => "low_version",
            Refusal::ConnectionHeader => "http2.connection_header",
            Refusal::Padded => "http2.padded_value",
            Refusal::Underscore => "unexpected_underscore",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::LengthAndCoding => "the request has Content-Length and Transfer-Encoding",
            Refusal::Length => "the request has a Content-Length that is not one number",
            Refusal::Coding => "the request's Transfer-Encoding is not chunked, once, at its end",
            Refusal::UnknownCoding => "the request has a transfer coding that is not known here",
            Refusal::HostCount => "the request has not exactly one Host",
            Refusal::Host => "the request's host is none",
            Refusal::HostConflict => "the request's :authority and Host differ",
            Refusal::Target => "the request's target has a form that its method has not",
            Refusal::Scheme => "the request's scheme is neither http nor https",
            Refusal::Method => "the request's method is not passed on",
            Refusal::Expectation => "the request expects something else than 100-continue",
            Refusal::Version => "the request is HTTP/1.0, which is not let through here",
            Refusal::ConnectionHeader => {
                "the request is HTTP/2 and has a header of HTTP/1 connections"
            }
            Refusal::Padded => "the request has a header that begins or ends with a space",
            Refusal::Underscore => "the request has a header with an underscore in its name",
        })
    }
}

impl std::error::Error for Refusal {}

/// Checks a request's head.
///
/// # Errors
/// It is not passed on; [`Refusal`] says why, and how that is answered.
pub fn check_request(parts: &Parts, rules: &HeadRules) -> Result<(), Refusal> {
    check_version_and_method(parts, rules)?;
    if parts.version == Version::HTTP_2 {
        check_http2(&parts.headers)?;
    }
    check_framing(&parts.headers)?;
    check_host(parts)?;
    check_target(parts)?;
    check_expectation(&parts.headers)?;
    let underscore = || parts.headers.keys().any(|name| name.as_str().contains('_'));
    if rules.underscores == Underscores::Reject && underscore() {
        return Err(Refusal::Underscore);
    }
    Ok(())
}

fn check_version_and_method(parts: &Parts, rules: &HeadRules) -> Result<(), Refusal> {
    if parts.version < Version::HTTP_11 && !rules.http10 {
        return Err(Refusal::Version);
    }
    let allowed = match parts.method {
        Method::TRACE => rules.trace,
        Method::CONNECT => rules.connect,
        _ => true,
    };
    if allowed { Ok(()) } else { Err(Refusal::Method) }
}

/// RFC 9113 §8.2.1 and §8.2.2.
fn check_http2(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.keys().any(|name| CONNECTION_OWN.contains(name)) {
        return Err(Refusal::ConnectionHeader);
    }
    if headers.get_all(header::TE).iter().any(|value| value != "trailers") {
        return Err(Refusal::ConnectionHeader);
    }
    let padded = |value: &HeaderValue| {
        let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        blank(value.as_bytes().first()) || blank(value.as_bytes().last())
    };
    if headers.values().any(padded) { Err(Refusal::Padded) } else { Ok(()) }
}

/// Where the body ends must be said once (RFC 9112 §6.3).
pub(super) fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() || length.is_some_and(|length| !is_number(length)) {
        return Err(Refusal::Length);
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if length.is_some() {
        return Err(Refusal::LengthAndCoding);
    }
    if codings.next().is_some() {
        return Err(Refusal::Coding);
    }
    check_coding(coding.as_bytes())
}

/// Digits only: no sign, no list, no space, and no more than a number holds.
fn is_number(value: &HeaderValue) -> bool {
    let digits = value.as_bytes();
    digits.iter().all(u8::is_ascii_digit)
        && value.to_str().is_ok_and(|digits| digits.parse::<u64>().is_ok())
}

/// Codings beside chunked would have to be undone by whoever passes the body on; nobody sends them.
fn check_coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let last = codings.next_back().unwrap_or(b"");
    let chunked_before = codings.any(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if last.eq_ignore_ascii_case(b"chunked") && !chunked_before && !value.contains(&0x0b) {
        Err(Refusal::UnknownCoding)
    } else {
        Err(Refusal::Coding)
    }
}

/// RFC 9112 §3.2: one Host, even where the target says it, too; RFC 9113 §8.3.1: both say the same.
fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let required = parts.version == Version::HTTP_11
        || parts.version == Version::HTTP_2 && authority.is_none();
    if second.is_some() || (required && host.is_none()) {
        return Err(Refusal::HostCount);
    }
    for host in host.map(HeaderValue::as_bytes).into_iter().chain(authority) {
        let none_is_needed = host.is_empty() && authority.is_none();
        if !none_is_needed && !is_authority(host) {
            return Err(Refusal::Host);
        }
    }
    match (host, authority) {
        (Some(host), Some(authority)) if parts.version == Version::HTTP_2 => {
            let same = host.as_bytes().eq_ignore_ascii_case(authority);
            if same { Ok(()) } else { Err(Refusal::HostConflict) }
        }
        _ => Ok(()),
    }
}

/// RFC 3986 §3.2.2 and §3.2.3, without a user (RFC 9110 §4.2.4) and without escapes.
fn is_authority(text: &[u8]) -> bool {
    let port_at =
        text.iter().rposition(|byte| *byte == b':').filter(|at| !text[*at..].contains(&b']'));
    let (host, port) = match port_at {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    let is_port = port.iter().all(u8::is_ascii_digit) && port.len() <= 5;
    let literal = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let is_host = match literal {
        Some(address) => {
            address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
        }
        None => {
            host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte))
        }
    };
    is_port && is_host && !host.is_empty()
}

/// RFC 9112 §3.2: `*` belongs to OPTIONS, a bare authority to CONNECT, and everything else begins with a slash.
fn check_target(parts: &Parts) -> Result<(), Refusal> {
    let scheme = parts.uri.scheme_str();
    if scheme.is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Refusal::Scheme);
    }
    let path = parts.uri.path();
    let fits = match parts.method {
        Method::CONNECT => parts.uri.authority().is_some(),
        Method::OPTIONS if path == "*" => true,
        // An authority alone; or absolute, and then the path may be empty.
        _ => path.starts_with('/') || (path.is_empty() && scheme.is_some()),
    };
    if fits { Ok(()) } else { Err(Refusal::Target) }
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut all = headers.get_all(header::EXPECT).iter();
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if all.all(known) { Ok(()) } else { Err(Refusal::Expectation) }
}

/// Whether an answer's head can be passed on (RFC 9112 §6.3).
///
/// # Errors
/// Where its body ends is a matter of opinion; the client gets 502, and the connection is not used again.
pub fn check_response(parts: &http::response::Parts) -> Result<(), Refusal> {
    check_framing(&parts.headers)?;
    let coded = parts.headers.contains_key(header::TRANSFER_ENCODING);
    if coded && (parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT) {
        return Err(Refusal::Coding);
    }
    if parts.status == StatusCode::SWITCHING_PROTOCOLS && hops::upgrade(&parts.headers).is_none() {
        return Err(Refusal::ConnectionHeader);
    }
    Ok(())
}

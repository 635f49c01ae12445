//! Headers that say where a request has been.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ringway_protocols::tls::LeafNames;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Where we stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Before the mesh, towards clients that may say anything of themselves.
    Edge,
    /// Within it: what was said before us was said by one of us.
    Mesh,
}

/// Says where a request came from: `source` by `scheme`.
///
/// | header | at the edge | within the mesh |
/// |---|---|---|
/// | x-forwarded-for | the source is appended | stays |
/// | x-forwarded-proto | the scheme | stays, or the scheme |
/// | x-forwarded-client-cert, x-envoy-*, x-istio-*, x-ringway-* | go | the first goes |
pub fn say_origin(
    headers: &mut HeaderMap,
    standing: Standing,
    source: IpAddr,
    scheme: &'static str,
) {
    headers.remove(CLIENT_CERTIFICATE);
    let scheme = HeaderValue::from_static(scheme);
    match standing {
        Standing::Mesh => {
            headers.entry(FORWARDED_PROTO).or_insert(scheme);
        }
        Standing::Edge => {
            forget_claims(headers);
            headers.insert(FORWARDED_PROTO, scheme);
            append(headers, source);
        }
    }
}

/// Tells a backend which client asks: what the client proved to us, `by` whom it was checked. Istio's form, without hashes.
pub fn say_client(headers: &mut HeaderMap, by: &str, client: &str) {
    // Identities are text that may stand in a header.
    if let Ok(value) = HeaderValue::from_str(&format!("By={by};URI={client}")) {
        headers.insert(CLIENT_CERTIFICATE, value);
    }
}

/// The same of a client outside the mesh, by the certificate it has shown at a gateway.
pub fn say_certificate(headers: &mut HeaderMap, by: &str, certificate: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("By={by};{certificate}")) {
        headers.insert(CLIENT_CERTIFICATE, value);
    }
}

/// What [`say_certificate`] says of a certificate, in Envoy's form: its digest, itself, and its names.
pub fn described(der: &[u8], names: &LeafNames) -> String {
    let hash: String = names.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut text = format!("Hash={hash};Cert=\"{}\"", escaped_pem(der));
    let uris = names.uris.iter().map(|uri| ("URI", uri));
    for (key, name) in uris.chain(names.hosts.iter().map(|host| ("DNS", host))) {
        // What may stand in no header is nobody's name.
        if name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let _ = write!(text, ";{key}={}", quoted(name));
        }
    }
    text
}

/// As PEM, with what has a meaning in a header or URI percent-encoded.
fn escaped_pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines = body.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body: String = lines.map(|line| format!("{line}\n")).collect();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n");
    let escape = |byte: u8| match byte {
        b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    pem.bytes().map(escape).collect()
}

/// In quotes, where it has what separates such values.
fn quoted(name: &str) -> Cow<'_, str> {
    if !name.contains([',', ';', '=', '"', '\\']) {
        return name.into();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"").into()
}

/// What only somebody of ours may say.
fn forget_claims(headers: &mut HeaderMap) {
    let ours = |name: &&HeaderName| {
        let name = name.as_str();
        name.starts_with("x-envoy-")
            || name.starts_with("x-istio-")
            || name.starts_with("x-ringway-")
    };
    let claims: Vec<HeaderName> = headers.keys().filter(ours).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    headers.remove(FORWARDED_HOST);
}

fn append(headers: &mut HeaderMap, source: IpAddr) {
    let all = match super::joined(headers, &FORWARDED_FOR) {
        Some(before) => [&*before, b", ", source.to_string().as_bytes()].concat(),
        None => source.to_string().into_bytes(),
    };
    let all = HeaderValue::from_bytes(&all).expect("a value and an address are a value");
    headers.insert(FORWARDED_FOR, all);
}

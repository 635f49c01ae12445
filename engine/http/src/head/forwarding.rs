//! Headers that say where a request has been.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

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

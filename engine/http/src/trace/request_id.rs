//! `x-request-id`: what one request is called in the logs of all who saw it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::hexadecimal;

/// Its header.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids are replaced: they end in logs, of which they would make up most.
const BYTES_MAX: usize = 128;

/// The id that the request has, or a fresh one, which is put into its headers. Fresh ones are random UUIDs (RFC 9562 §5.4).
pub fn ensure_request_id(headers: &mut HeaderMap, random: impl FnMut() -> u64) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| (1..=BYTES_MAX).contains(&id.len()));
    if let Some(given) = given {
        return given.clone();
    }
    let fresh = fresh(random);
    headers.insert(REQUEST_ID, fresh.clone());
    fresh
}

fn fresh(mut random: impl FnMut() -> u64) -> HeaderValue {
    let mut bytes = (u128::from(random()) << 64 | u128::from(random())).to_be_bytes();
    // Version 4, variant 1.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hexadecimal::write(&bytes);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    HeaderValue::try_from(parts.join("-")).expect("digits and dashes")
}

//! `x-request-id`: what one request is called in the logs of all who saw it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::hexadecimal;

/// Its header.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where the two digits of each byte of a UUID stand: 8-4-4-4-12 (RFC 9562 §4).
const DIGITS_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

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
    let mut text = [b'-'; 36];
    for (place, byte) in DIGITS_AT.into_iter().zip(bytes) {
        text[place..place + 2].copy_from_slice(&hexadecimal::pair(byte));
    }
    HeaderValue::from_bytes(&text).expect("digits and dashes")
}

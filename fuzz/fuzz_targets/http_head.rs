//! Heads of requests: what is let through says once where it ends and whom it is for, and keeps nothing of its hop.
#![no_main]

use arbitrary::Arbitrary;
use http::{HeaderName, HeaderValue, Request, Version, header};
use libfuzzer_sys::fuzz_target;
use ringway_http::RequestHead;
use ringway_http::head::{HeadRules, check_request, hops};
use ringway_http::path::PathMode;

const NAMES: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
    header::COOKIE,
    header::EXPECT,
    header::AUTHORIZATION,
    header::TRAILER,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("keep-alive"),
];

#[derive(Arbitrary, Debug)]
struct Head<'a> {
    method: &'a str,
    target: &'a str,
    version: u8,
    headers: Vec<(u8, &'a [u8])>,
}

fuzz_target!(|head: Head<'_>| {
    let Ok(mut parts) = Request::builder().method(head.method).uri(head.target).body(()) else {
        return;
    };
    *parts.version_mut() = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2]
        [usize::from(head.version) % 3];
    for (name, value) in &head.headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            parts.headers_mut().append(&NAMES[usize::from(*name) % NAMES.len()], value);
        }
    }
    let mut parts = parts.into_parts().0;
    if check_request(&parts, &HeadRules::default()).is_err() {
        return;
    }
    let count = |name| parts.headers.get_all(name).iter().count();
    let (lengths, codings) = (count(header::CONTENT_LENGTH), count(header::TRANSFER_ENCODING));
    assert!(lengths + codings <= 1);
    assert!(count(header::HOST) == 1 || parts.uri.authority().is_some());
    if let Ok(read) = RequestHead::read(&parts, PathMode::Base) {
        assert!(!read.host().contains(['/', '@', ',', ' ', '#', '?']), "{:?}", read.host());
        assert!(read.path().starts_with('/') || read.path() == "*");
    }
    let authorized = count(header::AUTHORIZATION);
    hops::strip(&mut parts.headers);
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TRAILER] {
        assert!(!parts.headers.contains_key(name));
    }
    assert_eq!(parts.headers.get_all(header::AUTHORIZATION).iter().count(), authorized);
});

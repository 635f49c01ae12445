//! PROXY headers: any bytes, and what was read written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_protocols::proxy_protocol::{Header, encode, parse};

fuzz_target!(|input: (bool, &[u8])| {
    let (signed, bytes) = input;
    let signature: &[u8] = if signed { b"\r\n\r\n\0\r\nQUIT\n\x21" } else { b"" };
    let bytes = [signature, bytes].concat();
    let Ok(Some((header, length))) = parse(&bytes) else { return };
    assert!(length <= bytes.len());
    assert_eq!(parse(&bytes[..length - 1]), Ok(None), "a part is not a header yet");
    let Some(addresses) = header.addresses else { return };
    let is_longer = |text: &Option<Box<str>>, most| text.as_ref().is_some_and(|text| text.len() > most);
    if is_longer(&header.identity, 2048) || is_longer(&header.service, 253) {
        return;
    }
    let mut again = Vec::new();
    let (identity, service) = (header.identity.as_deref(), header.service.as_deref());
    encode(addresses.source, addresses.destination, identity, service, &mut again);
    let (read, _) = parse(&again).expect("what we write is a header").expect("and a whole one");
    let canonical = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
    let ends = |header: &Header| {
        header.addresses.map(|ends| (canonical(ends.source), canonical(ends.destination)))
    };
    // Ends of two families, one of them mapped, have no common form.
    if ends(&read).is_some() {
        assert_eq!(ends(&read), ends(&header));
    }
    assert_eq!((read.identity, read.service), (header.identity, header.service));
});

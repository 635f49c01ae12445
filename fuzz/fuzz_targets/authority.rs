//! The authority of a CONNECT request.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use ringway_protocols::hbone::Authority;

fuzz_target!(|text: &str| {
    // What an address prints as, is one.
    if let Ok(address) = text.parse::<SocketAddr>()
        && address.port() != 0
        && address.to_string() == text
        && !matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.flowinfo() != 0)
        && Authority::parse(text).is_err()
    {
        // Only an address that stands for another one is refused.
        assert!(matches!(address.ip(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()), "{text}");
    }
    let Ok(authority) = Authority::parse(text) else { return };
    assert_eq!(authority.to_string(), text, "it prints as it was read");
    assert_eq!(Authority::parse(&authority.to_string()), Ok(authority.clone()));
    assert_ne!(authority.port(), 0);
    let stray = |c: char| c.is_control() || c.is_whitespace() || "@/?#\\%\"<>^`{|}".contains(c);
    assert!(!text.contains(stray), "{text:?}");
});

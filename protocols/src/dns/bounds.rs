//! The bounds of DNS messages.

use std::time::Duration;

crate::bounds! {
    /// A query a client sends. Queries are a name of up to 255 bytes and a few options; updates of zones, which are longer,
    /// are not for a proxy.
    pub const QUERY_BYTES_MAX: usize = 4096;
    Bytes per Stream: "over UDP it is not answered, over TCP its connection is closed"

    /// What a client that says nothing takes over UDP (RFC 1035 §4.2.1); less is never meant (RFC 6891 §6.2.3).
    pub const UDP_PAYLOAD_BYTES_MIN: usize = 512;
    Bytes per Stream: "the answer is truncated, and says so; the client asks again over TCP"

    /// A message over UDP: what a datagram holds.
    pub const UDP_PAYLOAD_BYTES_MAX: usize = 65_507;
    Bytes per Stream: "the answer is truncated, and says so; the client asks again over TCP"

    /// A message over TCP: what its length can say.
    pub const MESSAGE_BYTES_MAX: usize = 65_535;
    Bytes per Stream: "the answer is truncated, and says so"

    /// Search domains of a resolver's configuration that are looked for in a name.
    pub const SEARCH_DOMAINS_MAX: usize = 32;
    Count per Process: "the others are not stripped"

    /// Aliases that are followed from a name to its addresses.
    pub const CNAMES_MAX: usize = 16;
    Count per Stream: "the name has no addresses"

    /// How long a client may keep what was answered here: a service that moves is noticed after this long.
    pub const TTL: Duration = Duration::from_secs(30);
    Time per Stream: "the client asks again"
}

const _: () = assert!(UDP_PAYLOAD_BYTES_MIN < QUERY_BYTES_MAX);
const _: () = assert!(UDP_PAYLOAD_BYTES_MAX < MESSAGE_BYTES_MAX);

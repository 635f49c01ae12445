//! Every bound of handshakes, tickets and records.

use std::time::Duration;

crate::bounds! {
    /// What a peer may send in one handshake. A chain of certificates is some KiB; what is behind the last message may
    /// come with it and does not count.
    pub(super) const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;
    Bytes per Tunnel: "the handshake fails"

    /// What is kept of a peer's certificates for as long as the session lasts, so that it can be judged again. Four
    /// certificates of RSA-4096 fit; ours take half a KiB.
    pub(super) const PEER_CHAIN_BYTES_MAX: usize = 12 * 1024;
    Bytes per Tunnel: "a longer chain is refused"

    /// Sets of expected identities whose configuration is kept, so that their sessions can be resumed.
    pub(super) const CLIENT_CONFIGS_MAX: usize = 1024;
    Count per Workload: "all are forgotten, and made anew as they are needed"

    /// Revocation lists that are held at once. A mesh has one for each authority of its chains.
    pub const REVOCATION_LISTS_MAX: usize = 64;
    Count per Process: "the lists are refused, and those before stay"

    /// Bytes of all revocation lists together. An entry takes about 36 of them, and 200 in memory: at the bound that is
    /// 50 MB of a quarter of a million revoked certificates.
    pub const REVOCATION_BYTES_MAX: usize = 8 * 1024 * 1024;
    Bytes per Process: "the lists are refused, and those before stay"

    /// Servers whose sessions are kept, up to `TICKETS_PER_SERVER` each, about 1 KiB a ticket.
    pub(super) const SESSION_SERVERS_MAX: usize = 256;
    Count per Workload: "the oldest is forgotten; its next handshake is a full one"

    /// What rustls' store keeps of one server: a ticket is used once, so a burst of tunnels needs several.
    pub(super) const TICKETS_PER_SERVER: usize = 8;
    Count per Workload: "the oldest is forgotten"

    /// How long a ticket is good for, if the certificate is (RFC 8446 §4.6.1 allows seven days).
    pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(12 * 60 * 60);
    Time per Workload: "the handshake is a full one"

    /// The longest session that is made into a ticket. What makes one long is the client's chain.
    pub(super) const SESSION_BYTES_MAX: usize = 8 * 1024;
    Bytes per Tunnel: "no ticket is given"

    /// Records sealed with one key before it is renewed: 2^22, or 64 GiB. AES-GCM allows 2^24.5 (RFC 8446 §5.5).
    pub(super) const RECORDS_PER_KEY: u64 = 1 << 22;
    Count per Tunnel: "the key is renewed"

    /// Records in a row without data that a peer may send: tickets, key updates and empty ones.
    pub(super) const RECORDS_WITHOUT_DATA_MAX: u32 = 64;
    Count per Tunnel: "the tunnel is closed with an alert"

    /// The longest message behind the handshake that is put together from several records: a ticket.
    pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024;
    Bytes per Tunnel: "the tunnel is closed with an alert"

    /// More than this rustls does not hold back where its own record layer is in use: a message in pieces.
    pub(super) const HELD_BYTES_MAX: usize = 128 * 1024;
    Bytes per Tunnel: "the tunnel is closed"
}

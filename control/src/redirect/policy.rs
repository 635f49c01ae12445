//! What is redirected, independent of the tool that does it.
//!
//! ```text
//!   out of the workload   TCP, not to loopback, not ours        → outbound port (15001)
//!   into the workload     TCP, not to loopback, not the tunnel's port, not ours → plaintext port (15006)
//!   into the tunnel port  (15008)                               → untouched
//!   out of the workload   to port 53, UDP or TCP, not ours      → DNS port (15053), where DNS is captured
//! ```
//!
//! "Ours" is what carries the packet mark or the application mark. The application mark is on connections we open
//! towards the workload under the client's own address: by it their answers come back to us and not to the client.
//! Where the kernel hands a connection's mark on to the socket that accepts it (`net.ipv4.tcp_fwmark_accept`), the
//! answers carry it by themselves; elsewhere a rule puts it on every packet.
//!
//! Our own queries to name servers are tracked in a zone of their own: from the workload's address too, they might have the
//! port of a query of the workload's that was redirected, and the answer would be taken for one to that.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Packets of the proxy itself carry this mark, under [`MARK_MASK`].
pub const PACKET_MARK: u32 = 0x539;

/// Mark of connections the proxy opened towards the workload, and of their answers.
pub const APPLICATION_MARK: u32 = 0x111;

/// The bits of a mark that are ours to read and write.
pub const MARK_MASK: u32 = 0xfff;

/// Routing table that sends answers to the proxy.
pub const ROUTE_TABLE: u32 = 100;

/// Priority of the rule that looks there.
pub const RULE_PRIORITY: u32 = 32764;

/// Health probes of a kubelet come from this address (set on the host) and go to the workload untouched.
pub const PROBE_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 7, 127);

/// The same for IPv6.
pub const PROBE_SOURCE_V6: Ipv6Addr =
    Ipv6Addr::new(0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff);

/// The zone of connection tracking in which our own queries to name servers are.
pub const DNS_ZONE: u16 = 1;

/// The port of name servers.
pub const DNS_SERVER_PORT: u16 = 53;

/// Which tool installs the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedirectMode {
    /// The first that works here: nftables, then iptables.
    #[default]
    Auto,
    /// `nft`.
    Nftables,
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
    /// None: somebody else installs them.
    None,
}

impl std::str::FromStr for RedirectMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "nftables" => Ok(Self::Nftables),
            "iptables" => Ok(Self::Iptables),
            "none" => Ok(Self::None),
            other => Err(format!("{other:?} is none of auto, nftables, iptables, none")),
        }
    }
}

/// What to redirect, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectOptions {
    /// Which tool.
    pub mode: RedirectMode,
    /// Whether IPv6 is captured too.
    pub ipv6: bool,
    /// The mark of our own packets.
    pub packet_mark: u32,
    /// Where what leaves the workload goes.
    pub outbound_port: u16,
    /// Where plaintext towards the workload goes.
    pub inbound_plaintext_port: u16,
    /// Where tunnels arrive; never redirected.
    pub hbone_port: u16,
    /// Where what is asked of name servers goes; `None` to leave it alone.
    pub dns_port: Option<u16>,
    /// Whether a kubelet's probes pass untouched.
    pub probes: bool,
    /// Whether sockets take over the mark of the connection they accept, and the kernel's answers that of the packet.
    pub marks_accepted: bool,
    /// Whether rules may ask which socket a packet is for, as they may where the kernel has `nft_socket`.
    pub sockets_known: bool,
}

impl Default for RedirectOptions {
    fn default() -> Self {
        Self {
            mode: RedirectMode::Auto,
            ipv6: true,
            packet_mark: PACKET_MARK,
            outbound_port: 15001,
            inbound_plaintext_port: 15006,
            hbone_port: 15008,
            dns_port: None,
            probes: true,
            marks_accepted: true,
            sockets_known: true,
        }
    }
}

/// One of the two families of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl RedirectOptions {
    /// The families that are captured.
    pub fn families(&self) -> &'static [Family] {
        if self.ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] }
    }
}

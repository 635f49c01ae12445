//! The packet filter rules in both pods, which lead connections to a proxy.

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// None at all.
    None,
    /// Those that the subject installs by itself.
    Own,
    /// Those of a node proxy, as istio-cni installs them for ztunnel: outbound to 15001, inbound
    /// plaintext to 15006, tunnels on 15008, the client's own address kept.
    Node,
    /// Those of a sidecar, as istio-iptables installs them: outbound to 15001, inbound to 15006.
    Sidecar,
}

/// The mark on packets of a proxy, which no rule redirects.
pub const MARK: u32 = 1337;

impl Rules {
    /// The script for nft; it replaces whatever was there.
    pub(super) fn script(self) -> String {
        let rules = match self {
            Rules::None | Rules::Own => "",
            Rules::Node => NODE,
            Rules::Sidecar => SIDECAR,
        };
        format!("flush ruleset\n{rules}")
    }
}

/// Answers to connections that the far proxy opened under the client's address find their way back
/// to it through the connection mark and [`ROUTE`].
const NODE: &str = "
table ip bench {
  chain mangle_prerouting {
    type filter hook prerouting priority -150; policy accept;
    meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
  }
  chain mangle_output {
    type route hook output priority -150; policy accept;
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }
  chain nat_prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip saddr 169.254.7.127 meta l4proto tcp accept
    ip daddr != 127.0.0.1 tcp dport != 15008 tcp flags & (fin | syn | rst | ack) == syn meta mark & 0xfff != 0x539 redirect to :15006
  }
  chain nat_output {
    type nat hook output priority -100; policy accept;
    ip daddr 169.254.7.127 meta l4proto tcp accept
    meta l4proto tcp meta mark & 0xfff == 0x111 accept
    ip daddr != 127.0.0.1 oifname \"lo\" accept
    ip daddr != 127.0.0.1 tcp flags & (fin | syn | rst | ack) == syn meta mark & 0xfff != 0x539 redirect to :15001
  }
}
";

/// The policy routing that belongs to [`Rules::Node`], for `ip -batch`.
pub(super) const ROUTE: &str = "rule add fwmark 0x111/0xfff priority 32764 lookup 100\n\
                                route add local 0.0.0.0/0 dev lo table 100\n";

/// What takes it away, and also Ringway's.
pub(super) const UNROUTE: &str = "rule del fwmark 0x111/0xfff priority 32764 lookup 100\n\
                                  route del local 0.0.0.0/0 dev lo table 100\n";

/// Istio tells the sidecar's packets by its group; a mark does the same, and also where a user
/// namespace has but one user. 127.0.0.6 is the address from which the sidecar dials its own pod.
const SIDECAR: &str = "
table ip bench {
  chain nat_prerouting {
    type nat hook prerouting priority -100; policy accept;
    tcp dport { 15008, 15020, 15021, 15090 } accept
    meta l4proto tcp redirect to :15006
  }
  chain nat_output {
    type nat hook output priority -100; policy accept;
    ip saddr 127.0.0.6 oifname \"lo\" accept
    meta mark 0x539 accept
    ip daddr 127.0.0.1 accept
    oifname \"lo\" accept
    meta l4proto tcp redirect to :15001
  }
}
";

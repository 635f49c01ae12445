//! The policy as an nftables script: one table of our own, replaced as a whole in one transaction.

use std::fmt::Write as _;

use super::policy::{
    APPLICATION_MARK, DNS_SERVER_PORT, DNS_ZONE, Family, MARK_MASK, PROBE_SOURCE_V4,
    PROBE_SOURCE_V6, RedirectOptions,
};

/// The name of our table; nothing outside it is touched.
const TABLE: &str = "inet ringway";

/// Only what opens a connection: to connection tracking, a connection that was open before these rules
/// is new with whatever packet comes next, and redirecting that one would break it.
const FIRST_PACKET: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// The script that installs the policy, whether or not an earlier one is there.
pub(super) fn install_script(options: &RedirectOptions) -> String {
    let mut script = remove_script();
    let marked = |mark: u32| format!("meta mark & {MARK_MASK:#x} == {mark:#x}");
    let (ours, delivered) = (marked(options.packet_mark), marked(APPLICATION_MARK));
    let not_ours = format!("meta mark & {MARK_MASK:#x} != {:#x}", options.packet_mark);
    let keep = !MARK_MASK;
    let (outbound, plaintext, hbone) =
        (options.outbound_port, options.inbound_plaintext_port, options.hbone_port);

    let mut chains = Vec::new();
    if options.marks_accepted {
        // Nothing of these is translated, so tracking them would cost every packet for nothing: connections to
        // the application, and tunnels.
        let mut untracked_in = Chain::new("untracked_in", "filter", "prerouting", "raw");
        untracked_in.rule(format!("{delivered} notrack"));
        untracked_in.rule(format!("iifname != \"lo\" tcp dport {hbone} notrack"));
        let mut untracked_out = Chain::new("untracked_out", "filter", "output", "raw");
        untracked_out.rule(format!("{delivered} notrack"));
        untracked_out.rule(format!("oifname != \"lo\" {ours} tcp sport {hbone} notrack"));
        if options.sockets_known {
            // A port that a packet says it comes from proves nothing: whoever connects from the tunnels' port would go
            // past us to the application. So only what is for a socket of ours is the answer to a dial; and what
            // answers such a client is translated back.
            untracked_in.rule(format!(
                "iifname != \"lo\" tcp sport {hbone} socket mark & {MARK_MASK:#x} == {:#x} notrack",
                options.packet_mark
            ));
            untracked_out.rule(format!(
                "oifname != \"lo\" {ours} tcp sport != {plaintext} tcp dport {hbone} notrack"
            ));
        }
        chains.extend([untracked_in, untracked_out]);
    } else {
        let mut mangle_prerouting =
            Chain::new("mangle_prerouting", "filter", "prerouting", "mangle");
        mangle_prerouting
            .rule(format!("{delivered} ct mark set ct mark & {keep:#x} | {APPLICATION_MARK:#x}"));
        let mut mangle_output = Chain::new("mangle_output", "route", "output", "mangle");
        mangle_output.rule(format!(
            "ct mark & {MARK_MASK:#x} == {APPLICATION_MARK:#x} meta mark set ct mark"
        ));
        chains.extend([mangle_prerouting, mangle_output]);
    }

    if options.dns_port.is_some() {
        let mut zone_in = Chain::new("dns_zone_in", "filter", "prerouting", "raw");
        zone_in.rule(format!("udp sport {DNS_SERVER_PORT} {not_ours} ct zone set {DNS_ZONE}"));
        let mut zone_out = Chain::new("dns_zone_out", "filter", "output", "raw");
        zone_out.rule(format!("udp dport {DNS_SERVER_PORT} {ours} ct zone set {DNS_ZONE}"));
        chains.extend([zone_in, zone_out]);
    }

    let mut nat_prerouting = Chain::new("nat_prerouting", "nat", "prerouting", "dstnat");
    let mut nat_output = Chain::new("nat_output", "nat", "output", "dstnat");
    if options.probes {
        for family in options.families() {
            let (name, probe) = (name(*family), probe_source(*family));
            nat_prerouting.rule(format!("{name} saddr {probe} meta l4proto tcp accept"));
            nat_output.rule(format!("{name} daddr {probe} meta l4proto tcp accept"));
        }
    }
    if let Some(port) = options.dns_port {
        for family in options.families() {
            let (nfproto, name) = (nfproto(*family), name(*family));
            nat_output.rule(format!(
                "meta nfproto {nfproto} oifname != \"lo\" udp dport {DNS_SERVER_PORT} {not_ours} redirect to :{port}"
            ));
            nat_output.rule(format!(
                "{name} daddr != {} tcp dport {DNS_SERVER_PORT} {FIRST_PACKET} {not_ours} redirect to :{port}",
                loopback(*family)
            ));
        }
    }
    nat_prerouting.rule(format!("meta l4proto tcp {delivered} accept"));
    nat_output.rule(format!("meta l4proto tcp {delivered} accept"));
    for family in options.families() {
        let not_loopback = format!("{} daddr != {}", name(*family), loopback(*family));
        nat_prerouting.rule(format!(
            "{not_loopback} tcp dport != {hbone} {FIRST_PACKET} {not_ours} redirect to :{plaintext}"
        ));
        nat_output.rule(format!("{not_loopback} oifname \"lo\" accept"));
        nat_output
            .rule(format!("{not_loopback} {FIRST_PACKET} {not_ours} redirect to :{outbound}"));
    }

    let _ = writeln!(script, "table {TABLE} {{");
    chains.extend([nat_prerouting, nat_output]);
    for chain in chains {
        script.push_str(&chain.close());
    }
    script.push_str("}\n");
    script
}

/// The script that redirects nothing new any more; what answers of open connections need stays. The rules stay too,
/// behind one that lets everything go: with the last of them the kernel would stop translating open connections.
pub(super) fn release_script() -> String {
    format!("insert rule {TABLE} nat_prerouting accept\ninsert rule {TABLE} nat_output accept\n")
}

/// The script that removes our table, whether or not it is there.
pub(super) fn remove_script() -> String {
    // Adding what may be there makes deleting it always succeed.
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

struct Chain(String);

impl Chain {
    fn new(name: &str, kind: &str, hook: &str, priority: &str) -> Self {
        // Named priorities of the output hook came later than those of prerouting; the numbers are the same.
        let priority = match priority {
            "raw" => "-300",
            "mangle" => "-150",
            _ => "-100",
        };
        Self(format!(
            "  chain {name} {{\n    type {kind} hook {hook} priority {priority}; policy accept;\n"
        ))
    }

    fn rule(&mut self, rule: String) {
        let _ = writeln!(self.0, "    {rule}");
    }

    fn close(mut self) -> String {
        self.0.push_str("  }\n");
        self.0
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn nfproto(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn loopback(family: Family) -> &'static str {
    match family {
        Family::V4 => "127.0.0.1",
        Family::V6 => "::1",
    }
}

fn probe_source(family: Family) -> String {
    match family {
        Family::V4 => PROBE_SOURCE_V4.to_string(),
        Family::V6 => PROBE_SOURCE_V6.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The redirecting itself, which is the same whatever is tracked.
    const NAT: &str = r#"  chain nat_prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip saddr 169.254.7.127 meta l4proto tcp accept
    meta l4proto tcp meta mark & 0xfff == 0x111 accept
    ip daddr != 127.0.0.1 tcp dport != 15008 tcp flags & (fin | syn | rst | ack) == syn meta mark & 0xfff != 0x539 redirect to :15006
  }
  chain nat_output {
    type nat hook output priority -100; policy accept;
    ip daddr 169.254.7.127 meta l4proto tcp accept
    meta l4proto tcp meta mark & 0xfff == 0x111 accept
    ip daddr != 127.0.0.1 oifname "lo" accept
    ip daddr != 127.0.0.1 tcp flags & (fin | syn | rst | ack) == syn meta mark & 0xfff != 0x539 redirect to :15001
  }
}
"#;

    #[test]
    fn the_whole_policy_without_ipv6() {
        let options = RedirectOptions { ipv6: false, ..RedirectOptions::default() };
        let want = r#"table inet ringway
delete table inet ringway
table inet ringway {
  chain untracked_in {
    type filter hook prerouting priority -300; policy accept;
    meta mark & 0xfff == 0x111 notrack
    iifname != "lo" tcp dport 15008 notrack
    iifname != "lo" tcp sport 15008 socket mark & 0xfff == 0x539 notrack
  }
  chain untracked_out {
    type filter hook output priority -300; policy accept;
    meta mark & 0xfff == 0x111 notrack
    oifname != "lo" meta mark & 0xfff == 0x539 tcp sport 15008 notrack
    oifname != "lo" meta mark & 0xfff == 0x539 tcp sport != 15006 tcp dport 15008 notrack
  }
"#;
        assert_eq!(install_script(&options), format!("{want}{NAT}"));
    }

    #[test]
    fn where_packets_do_not_tell_their_socket_tunnels_that_we_dialled_are_tracked() {
        let options =
            RedirectOptions { ipv6: false, sockets_known: false, ..RedirectOptions::default() };
        let want = r#"table inet ringway
delete table inet ringway
table inet ringway {
  chain untracked_in {
    type filter hook prerouting priority -300; policy accept;
    meta mark & 0xfff == 0x111 notrack
    iifname != "lo" tcp dport 15008 notrack
  }
  chain untracked_out {
    type filter hook output priority -300; policy accept;
    meta mark & 0xfff == 0x111 notrack
    oifname != "lo" meta mark & 0xfff == 0x539 tcp sport 15008 notrack
  }
"#;
        assert_eq!(install_script(&options), format!("{want}{NAT}"));
    }

    #[test]
    fn where_sockets_take_no_marks_over_a_rule_puts_them_on_every_packet() {
        let options =
            RedirectOptions { ipv6: false, marks_accepted: false, ..RedirectOptions::default() };
        let want = r#"table inet ringway
delete table inet ringway
table inet ringway {
  chain mangle_prerouting {
    type filter hook prerouting priority -150; policy accept;
    meta mark & 0xfff == 0x111 ct mark set ct mark & 0xfffff000 | 0x111
  }
  chain mangle_output {
    type route hook output priority -150; policy accept;
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }
"#;
        assert_eq!(install_script(&options), format!("{want}{NAT}"));
    }

    #[test]
    fn names_are_asked_of_us_and_our_own_queries_are_apart() {
        let options =
            RedirectOptions { ipv6: false, dns_port: Some(15053), ..RedirectOptions::default() };
        let script = install_script(&options);
        let in_order = [
            "udp sport 53 meta mark & 0xfff != 0x539 ct zone set 1",
            "udp dport 53 meta mark & 0xfff == 0x539 ct zone set 1",
            "meta nfproto ipv4 oifname != \"lo\" udp dport 53 meta mark & 0xfff != 0x539 redirect to :15053",
            "ip daddr != 127.0.0.1 tcp dport 53 tcp flags & (fin | syn | rst | ack) == syn meta mark & 0xfff != 0x539 redirect to :15053",
            "redirect to :15001",
        ];
        let places: Vec<_> = in_order.map(|rule| script.find(rule)).into();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{script}");
    }

    #[test]
    fn ipv6_doubles_the_rules_that_name_addresses() {
        let script = install_script(&RedirectOptions::default());
        for rule in [
            "ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp accept",
            "ip6 daddr != ::1 tcp dport != 15008 tcp flags & (fin | syn | rst | ack) == syn meta mark & 0xfff != 0x539 redirect to :15006",
            "ip6 daddr != ::1 oifname \"lo\" accept",
            "ip6 daddr != ::1 tcp flags & (fin | syn | rst | ack) == syn meta mark & 0xfff != 0x539 redirect to :15001",
        ] {
            assert!(script.contains(rule), "{rule}\nis not in\n{script}");
        }
    }
}

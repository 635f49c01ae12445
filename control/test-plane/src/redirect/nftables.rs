//! The rules as one nftables table.

use super::{CONNECTION_MARK, Family, MARK_MASK, PROBE_V4, PROBE_V6, PROXY_MARK, Rules};

/// Takes the table away, whether or not it is there.
pub(super) const REMOVE: &str = "table inet istio-ambient\ndelete table inet istio-ambient\n";

/// Makes the table, in place of the one that is there.
pub(super) fn install(rules: Rules, families: &[Family]) -> String {
    let chains = [
        chain("mangle-prerouting", "filter", "prerouting", -150, mangle_prerouting()),
        chain("mangle-output", "route", "output", -150, mangle_output()),
        chain("raw-prerouting", "filter", "prerouting", -300, raw(rules, "sport", "!=")),
        chain("raw-output", "filter", "output", -300, raw(rules, "dport", "==")),
        chain("nat-prerouting", "nat", "prerouting", -100, nat_prerouting(families)),
        chain("nat-output", "nat", "output", -100, nat_output(rules, families)),
    ];
    format!("{REMOVE}table inet istio-ambient {{\n{}}}\n", chains.concat())
}

fn chain(name: &str, kind: &str, hook: &str, priority: i32, rules: Vec<String>) -> String {
    let rules: String = rules.into_iter().map(|rule| format!("    {rule}\n")).collect();
    format!(
        "  chain {name} {{\n    type {kind} hook {hook} priority {priority}; policy accept;\n\
         {rules}  }}\n"
    )
}

fn mark(comparison: &str, mark: &str) -> String {
    format!("meta mark & {MARK_MASK} {comparison} {mark}")
}

fn mangle_prerouting() -> Vec<String> {
    let ours = mark("==", PROXY_MARK);
    vec![format!("{ours} ct mark set ct mark & 0xfffff000 | {CONNECTION_MARK}")]
}

fn mangle_output() -> Vec<String> {
    vec![format!("ct mark & {MARK_MASK} == {CONNECTION_MARK} meta mark set ct mark")]
}

/// The proxy's own queries are tracked apart from the application's, whose ports they may share.
fn raw(rules: Rules, port: &str, comparison: &str) -> Vec<String> {
    let query =
        format!("meta l4proto udp udp {port} 53 {} ct zone set 1", mark(comparison, PROXY_MARK));
    if rules.dns { vec![query] } else { Vec::new() }
}

fn nat_prerouting(families: &[Family]) -> Vec<String> {
    let not_ours = mark("!=", PROXY_MARK);
    let mut rules: Vec<String> = probes(families, "saddr").collect();
    rules.extend(families.iter().map(|family| {
        format!("{} tcp dport != 15008 {not_ours} redirect to :15006", not_loopback(*family))
    }));
    rules
}

fn nat_output(options: Rules, families: &[Family]) -> Vec<String> {
    let not_ours = mark("!=", PROXY_MARK);
    let mut rules: Vec<String> = probes(families, "daddr").collect();
    if options.dns {
        rules.push(format!("oifname != \"lo\" udp dport 53 {not_ours} redirect to :15053"));
        rules.extend(families.iter().map(|family| {
            format!("{} tcp dport 53 {not_ours} redirect to :15053", not_loopback(*family))
        }));
    }
    rules.push(format!("meta l4proto tcp {} accept", mark("==", CONNECTION_MARK)));
    for family in families {
        let not_loopback = not_loopback(*family);
        rules.push(format!("{not_loopback} oifname \"lo\" accept"));
        rules.push(format!("{not_loopback} meta l4proto tcp {not_ours} redirect to :15001"));
    }
    rules
}

fn probes<'f>(families: &'f [Family], side: &'f str) -> impl Iterator<Item = String> + 'f {
    families.iter().map(move |family| match family {
        Family::V4 => format!("ip {side} {PROBE_V4} meta l4proto tcp accept"),
        Family::V6 => format!("ip6 {side} {PROBE_V6} meta l4proto tcp accept"),
    })
}

fn not_loopback(family: Family) -> String {
    let name = if family == Family::V4 { "ip" } else { "ip6" };
    format!("{name} daddr != {}", family.loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_policy_for_one_family() {
        let want = r#"table inet istio-ambient
delete table inet istio-ambient
table inet istio-ambient {
  chain mangle-prerouting {
    type filter hook prerouting priority -150; policy accept;
    meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
  }
  chain mangle-output {
    type route hook output priority -150; policy accept;
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }
  chain raw-prerouting {
    type filter hook prerouting priority -300; policy accept;
    meta l4proto udp udp sport 53 meta mark & 0xfff != 0x539 ct zone set 1
  }
  chain raw-output {
    type filter hook output priority -300; policy accept;
    meta l4proto udp udp dport 53 meta mark & 0xfff == 0x539 ct zone set 1
  }
  chain nat-prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip saddr 169.254.7.127 meta l4proto tcp accept
    ip daddr != 127.0.0.1/32 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006
  }
  chain nat-output {
    type nat hook output priority -100; policy accept;
    ip daddr 169.254.7.127 meta l4proto tcp accept
    oifname != "lo" udp dport 53 meta mark & 0xfff != 0x539 redirect to :15053
    ip daddr != 127.0.0.1/32 tcp dport 53 meta mark & 0xfff != 0x539 redirect to :15053
    meta l4proto tcp meta mark & 0xfff == 0x111 accept
    ip daddr != 127.0.0.1/32 oifname "lo" accept
    ip daddr != 127.0.0.1/32 meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001
  }
}
"#;
        assert_eq!(install(Rules { dns: true, ..Rules::default() }, &[Family::V4]), want);
    }

    #[test]
    fn without_dns_nothing_of_port_53_is_named() {
        let script = install(Rules::default(), &Family::BOTH);
        assert!(!script.contains("15053") && !script.contains("zone"), "{script}");
        assert!(script.contains("ip6 daddr != ::1/128"), "{script}");
    }
}

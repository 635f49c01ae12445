//! The policy as input of `iptables-restore` and `ip6tables-restore`: chains of our own, and one jump to each.

use std::fmt::Write as _;

use super::policy::{
    APPLICATION_MARK, DNS_SERVER_PORT, DNS_ZONE, Family, MARK_MASK, PROBE_SOURCE_V4,
    PROBE_SOURCE_V6, RedirectOptions,
};

/// The built-in chains we hook, each with our chain behind it. The same in all tables.
const HOOKS: [(&str, &str); 2] = [("PREROUTING", "RINGWAY_PRERT"), ("OUTPUT", "RINGWAY_OUTPUT")];

const TABLES: [&str; 3] = ["raw", "mangle", "nat"];

/// What installs the policy into `family`'s tables, given what `iptables-save` says is there now.
///
/// Input for `--noflush`: naming a chain of ours empties it, everything else stays. Each table is one transaction.
pub(super) fn install_script(options: &RedirectOptions, family: Family, saved: &str) -> String {
    let mut script = String::new();
    if options.dns_port.is_none() {
        // The kernel may not even have that table.
        remove_from(&mut script, "raw", saved);
    }
    for table in TABLES.into_iter().filter(|table| *table != "raw" || options.dns_port.is_some()) {
        let _ = writeln!(script, "*{table}");
        for (_, chain) in HOOKS {
            let _ = writeln!(script, ":{chain} - [0:0]");
        }
        unhook(&mut script, table, saved);
        for (hook, chain) in HOOKS {
            let _ = writeln!(script, "-A {hook} -j {chain}");
        }
        let rules = match table {
            "raw" => raw_rules(options),
            "mangle" => mangle_rules(),
            _ => nat_rules(options, family),
        };
        for rule in rules {
            let _ = writeln!(script, "-A {rule}");
        }
        script.push_str("COMMIT\n");
    }
    script
}

/// What redirects nothing new any more; what answers of open connections need stays.
pub(super) fn release_script() -> String {
    let mut script = String::from("*nat\n");
    for (_, chain) in HOOKS {
        let _ = writeln!(script, ":{chain} - [0:0]");
    }
    script.push_str("COMMIT\n");
    script
}

/// What removes the policy, given what `iptables-save` says is there now; `None` if nothing of ours is.
pub(super) fn remove_script(saved: &str) -> Option<String> {
    let mut script = String::new();
    for table in TABLES {
        remove_from(&mut script, table, saved);
    }
    (!script.is_empty()).then_some(script)
}

fn remove_from(script: &mut String, table: &str, saved: &str) {
    let ours: Vec<_> = HOOKS.iter().filter(|(_, chain)| has_chain(saved, table, chain)).collect();
    if ours.is_empty() {
        return;
    }
    let _ = writeln!(script, "*{table}");
    unhook(script, table, saved);
    for (_, chain) in &ours {
        let _ = writeln!(script, "-F {chain}");
        let _ = writeln!(script, "-X {chain}");
    }
    script.push_str("COMMIT\n");
}

/// Removes every jump to our chains: after two starts without an end between them there are two.
fn unhook(script: &mut String, table: &str, saved: &str) {
    for (hook, chain) in HOOKS {
        let jump = format!("{hook} -j {chain}");
        let there = lines_of(saved, table).filter(|line| line.strip_prefix("-A ") == Some(&jump));
        for _ in there {
            let _ = writeln!(script, "-D {jump}");
        }
    }
}

fn has_chain(saved: &str, table: &str, chain: &str) -> bool {
    lines_of(saved, table).any(|line| {
        line.strip_prefix(':').is_some_and(|rest| rest.split(' ').next() == Some(chain))
    })
}

/// The lines of one table in the output of `iptables-save`.
fn lines_of<'a>(saved: &'a str, table: &'a str) -> impl Iterator<Item = &'a str> {
    saved
        .lines()
        .map(str::trim_end)
        .skip_while(move |line| line.strip_prefix('*') != Some(table))
        .take_while(|line| *line != "COMMIT")
}

fn raw_rules(options: &RedirectOptions) -> Vec<String> {
    let (mask, mark) = (MARK_MASK, options.packet_mark);
    vec![
        format!(
            "RINGWAY_PRERT -p udp -m udp --sport {DNS_SERVER_PORT} -m mark ! --mark {mark:#x}/{mask:#x} -j CT --zone {DNS_ZONE}"
        ),
        format!(
            "RINGWAY_OUTPUT -p udp -m udp --dport {DNS_SERVER_PORT} -m mark --mark {mark:#x}/{mask:#x} -j CT --zone {DNS_ZONE}"
        ),
    ]
}

fn mangle_rules() -> Vec<String> {
    let mask = MARK_MASK;
    vec![
        format!(
            "RINGWAY_PRERT -m mark --mark {APPLICATION_MARK:#x}/{mask:#x} -j CONNMARK --set-xmark {APPLICATION_MARK:#x}/{mask:#x}"
        ),
        format!(
            "RINGWAY_OUTPUT -m connmark --mark {APPLICATION_MARK:#x}/{mask:#x} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"
        ),
    ]
}

/// Only what opens a connection: to connection tracking, a connection that was open before these rules
/// is new with whatever packet comes next, and redirecting that one would break it.
const FIRST_PACKET: &str = "--tcp-flags FIN,SYN,RST,ACK SYN";

fn nat_rules(options: &RedirectOptions, family: Family) -> Vec<String> {
    let (probe, loopback) = match family {
        Family::V4 => (format!("{PROBE_SOURCE_V4}/32"), "127.0.0.1/32"),
        Family::V6 => (format!("{PROBE_SOURCE_V6}/128"), "::1/128"),
    };
    let mask = MARK_MASK;
    let not_ours = format!("-m mark ! --mark {:#x}/{mask:#x}", options.packet_mark);
    let (outbound, plaintext, hbone) =
        (options.outbound_port, options.inbound_plaintext_port, options.hbone_port);
    let mut rules = Vec::new();
    if options.probes {
        rules.push(format!("RINGWAY_PRERT -s {probe} -p tcp -m tcp -j ACCEPT"));
        rules.push(format!("RINGWAY_OUTPUT -d {probe} -p tcp -m tcp -j ACCEPT"));
    }
    if let Some(port) = options.dns_port {
        rules.push(format!(
            "RINGWAY_OUTPUT ! -o lo -p udp -m udp --dport {DNS_SERVER_PORT} {not_ours} -j REDIRECT --to-ports {port}"
        ));
        rules.push(format!(
            "RINGWAY_OUTPUT ! -d {loopback} -p tcp -m tcp --dport {DNS_SERVER_PORT} {FIRST_PACKET} {not_ours} -j REDIRECT --to-ports {port}"
        ));
    }
    rules.push(format!(
        "RINGWAY_PRERT -p tcp -m mark --mark {APPLICATION_MARK:#x}/{mask:#x} -j ACCEPT"
    ));
    rules.push(format!(
        "RINGWAY_PRERT ! -d {loopback} -p tcp -m tcp ! --dport {hbone} {FIRST_PACKET} {not_ours} -j REDIRECT --to-ports {plaintext}"
    ));
    rules.push(format!(
        "RINGWAY_OUTPUT -p tcp -m mark --mark {APPLICATION_MARK:#x}/{mask:#x} -j ACCEPT"
    ));
    rules.push(format!("RINGWAY_OUTPUT ! -d {loopback} -o lo -j ACCEPT"));
    rules.push(format!(
        "RINGWAY_OUTPUT ! -d {loopback} -p tcp -m tcp {FIRST_PACKET} {not_ours} -j REDIRECT --to-ports {outbound}"
    ));
    rules
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRESH: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

    #[test]
    fn the_whole_policy() {
        let want = "\
*mangle
:RINGWAY_PRERT - [0:0]
:RINGWAY_OUTPUT - [0:0]
-A PREROUTING -j RINGWAY_PRERT
-A OUTPUT -j RINGWAY_OUTPUT
-A RINGWAY_PRERT -m mark --mark 0x111/0xfff -j CONNMARK --set-xmark 0x111/0xfff
-A RINGWAY_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
*nat
:RINGWAY_PRERT - [0:0]
:RINGWAY_OUTPUT - [0:0]
-A PREROUTING -j RINGWAY_PRERT
-A OUTPUT -j RINGWAY_OUTPUT
-A RINGWAY_PRERT -s 169.254.7.127/32 -p tcp -m tcp -j ACCEPT
-A RINGWAY_OUTPUT -d 169.254.7.127/32 -p tcp -m tcp -j ACCEPT
-A RINGWAY_PRERT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A RINGWAY_PRERT ! -d 127.0.0.1/32 -p tcp -m tcp ! --dport 15008 --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
-A RINGWAY_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A RINGWAY_OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
-A RINGWAY_OUTPUT ! -d 127.0.0.1/32 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
COMMIT
";
        assert_eq!(install_script(&RedirectOptions::default(), Family::V4, FRESH), want);
    }

    #[test]
    fn names_are_asked_of_us_and_our_own_queries_are_apart() {
        let options = RedirectOptions { dns_port: Some(15053), ..RedirectOptions::default() };
        let script = install_script(&options, Family::V6, FRESH);
        let in_order = [
            "*raw\n:RINGWAY_PRERT - [0:0]\n",
            "-A RINGWAY_PRERT -p udp -m udp --sport 53 -m mark ! --mark 0x539/0xfff -j CT --zone 1\n",
            "-A RINGWAY_OUTPUT -p udp -m udp --dport 53 -m mark --mark 0x539/0xfff -j CT --zone 1\n",
            "*nat\n",
            "-A RINGWAY_OUTPUT ! -o lo -p udp -m udp --dport 53 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053\n",
            "-A RINGWAY_OUTPUT ! -d ::1/128 -p tcp -m tcp --dport 53 --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053\n",
            "-j REDIRECT --to-ports 15001\n",
        ];
        let places: Vec<_> = in_order.map(|rule| script.find(rule)).into();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{script}");
        // What is left of it goes when names are no longer asked of us.
        let saved = "*raw\n:RINGWAY_PRERT - [0:0]\n-A PREROUTING -j RINGWAY_PRERT\nCOMMIT\n";
        let without = install_script(&RedirectOptions::default(), Family::V4, saved);
        let gone =
            "*raw\n-D PREROUTING -j RINGWAY_PRERT\n-F RINGWAY_PRERT\n-X RINGWAY_PRERT\nCOMMIT\n";
        assert!(without.starts_with(gone), "{without}");
    }

    #[test]
    fn a_second_installation_replaces_the_jumps_and_removal_leaves_foreign_rules() {
        let saved = "\
# Generated by iptables-save
*mangle
:PREROUTING ACCEPT [0:0]
:RINGWAY_PRERT - [0:0]
:RINGWAY_OUTPUT - [0:0]
-A PREROUTING -j RINGWAY_PRERT
-A OUTPUT -j RINGWAY_OUTPUT
COMMIT
*nat
:RINGWAY_PRERT - [0:0]
:RINGWAY_PRERT_OF_ANOTHER - [0:0]
-A PREROUTING -j RINGWAY_PRERT
-A PREROUTING -j RINGWAY_PRERT_OF_ANOTHER
-A PREROUTING -j RINGWAY_PRERT
COMMIT
";
        let want = "\
*mangle
-D PREROUTING -j RINGWAY_PRERT
-D OUTPUT -j RINGWAY_OUTPUT
-F RINGWAY_PRERT
-X RINGWAY_PRERT
-F RINGWAY_OUTPUT
-X RINGWAY_OUTPUT
COMMIT
*nat
-D PREROUTING -j RINGWAY_PRERT
-D PREROUTING -j RINGWAY_PRERT
-F RINGWAY_PRERT
-X RINGWAY_PRERT
COMMIT
";
        assert_eq!(remove_script(saved).as_deref(), Some(want));
        let again = install_script(&RedirectOptions::default(), Family::V6, saved);
        assert_eq!(again.matches("-D PREROUTING -j RINGWAY_PRERT\n").count(), 3);
    }

    #[test]
    fn where_nothing_is_ours_there_is_nothing_to_remove() {
        assert_eq!(remove_script(FRESH), None);
        assert_eq!(remove_script(""), None);
    }

    proptest! {
        #[test]
        fn no_text_panics_the_reader(saved in "[*:A-Z_ a-z\\-\n]{0,200}") {
            let _ = remove_script(&saved);
            let _ = install_script(&RedirectOptions::default(), Family::V4, &saved);
        }
    }
}

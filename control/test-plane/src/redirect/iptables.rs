//! The rules for iptables, where nftables is not there: chains of our own, hooked in first.

use anyhow::Result;

use super::tool;
use super::{CONNECTION_MARK, Family, MARK_MASK, PROXY_MARK, Rules};

const HOOKS: [(&str, &str); 2] = [("PREROUTING", "ISTIO_PRERT"), ("OUTPUT", "ISTIO_OUTPUT")];
const TABLES: [&str; 3] = ["mangle", "nat", "raw"];

pub(super) fn install(rules: Rules, family: Family) -> Result<()> {
    tool::run(restore(family), &["-w", "10", "--noflush"], &script(rules, family)).map(drop)
}

/// What is not there is fine.
pub(super) fn remove(family: Family) {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    for table in TABLES {
        for (hook, chain) in HOOKS {
            for arguments in [&["-D", hook, "-j", chain][..], &["-F", chain], &["-X", chain]] {
                let arguments = [&["-w", "10", "-t", table][..], arguments].concat();
                let _ = tool::run(program, &arguments, "");
            }
        }
    }
}

fn restore(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    }
}

fn script(rules: Rules, family: Family) -> String {
    let (loopback, probe) = (family.loopback(), family.probe());
    let ours = format!("-m mark --mark {PROXY_MARK}/{MARK_MASK}");
    let not_ours = format!("-m mark ! --mark {PROXY_MARK}/{MARK_MASK}");
    let mangle = [
        format!("ISTIO_PRERT {ours} -j CONNMARK --set-xmark {CONNECTION_MARK}/{MARK_MASK}"),
        format!(
            "ISTIO_OUTPUT -m connmark --mark {CONNECTION_MARK}/{MARK_MASK} -j CONNMARK \
             --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"
        ),
    ];
    let mut nat = vec![
        format!("ISTIO_PRERT -s {probe} -p tcp -m tcp -j ACCEPT"),
        format!("ISTIO_OUTPUT -d {probe} -p tcp -m tcp -j ACCEPT"),
        format!(
            "ISTIO_PRERT ! -d {loopback} -p tcp -m tcp ! --dport 15008 {not_ours} -j REDIRECT \
             --to-ports 15006"
        ),
    ];
    let mut raw = Vec::new();
    if rules.dns {
        nat.push(format!(
            "ISTIO_OUTPUT ! -o lo -p udp {not_ours} -m udp --dport 53 -j REDIRECT --to-port 15053"
        ));
        nat.push(format!(
            "ISTIO_OUTPUT ! -d {loopback} -p tcp --dport 53 {not_ours} -j REDIRECT --to-ports 15053"
        ));
        raw.push(format!("ISTIO_OUTPUT -p udp {ours} -m udp --dport 53 -j CT --zone 1"));
        raw.push(format!("ISTIO_PRERT -p udp {not_ours} -m udp --sport 53 -j CT --zone 1"));
    }
    nat.extend([
        format!("ISTIO_OUTPUT -p tcp -m mark --mark {CONNECTION_MARK}/{MARK_MASK} -j ACCEPT"),
        format!("ISTIO_OUTPUT ! -d {loopback} -o lo -j ACCEPT"),
        format!("ISTIO_OUTPUT ! -d {loopback} -p tcp {not_ours} -j REDIRECT --to-ports 15001"),
    ]);
    [("mangle", &mangle[..]), ("nat", &nat), ("raw", &raw)]
        .into_iter()
        .map(|(name, rules)| table(name, rules))
        .collect()
}

fn table(name: &str, rules: &[String]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let chains: String = HOOKS.iter().map(|(_, chain)| format!(":{chain} - [0:0]\n")).collect();
    let hooks: String =
        HOOKS.iter().map(|(hook, chain)| format!("-I {hook} 1 -j {chain}\n")).collect();
    let rules: String = rules.iter().map(|rule| format!("-A {rule}\n")).collect();
    format!("*{name}\n{chains}{hooks}{rules}COMMIT\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_redirecting_itself() {
        let script = script(Rules::default(), Family::V4);
        let want = "*nat
:ISTIO_PRERT - [0:0]
:ISTIO_OUTPUT - [0:0]
-I PREROUTING 1 -j ISTIO_PRERT
-I OUTPUT 1 -j ISTIO_OUTPUT
-A ISTIO_PRERT -s 169.254.7.127 -p tcp -m tcp -j ACCEPT
-A ISTIO_OUTPUT -d 169.254.7.127 -p tcp -m tcp -j ACCEPT
-A ISTIO_PRERT ! -d 127.0.0.1/32 -p tcp -m tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
COMMIT
";
        assert!(script.ends_with(want), "{script}");
        assert!(!script.contains("*raw"), "{script}");
    }

    #[test]
    fn dns_has_a_zone_of_its_own() {
        let script = script(Rules { dns: true, ..Rules::default() }, Family::V6);
        assert!(script.contains("*raw\n"), "{script}");
        assert!(script.contains("-j CT --zone 1"), "{script}");
        assert!(script.contains("! -d ::1/128 -p tcp --dport 53"), "{script}");
    }
}

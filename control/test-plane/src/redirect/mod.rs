//! The rules that istio-cni puts into a pod's network namespace, so that a node proxy can be tested without it.
//!
//! | what | where it goes |
//! |---|---|
//! | TCP out of the pod, not to loopback, not the proxy's | port 15001 |
//! | TCP into the pod, not to 15008, not the proxy's | port 15006 |
//! | DNS out of the pod, when asked for | port 15053 |
//! | what comes from a kubelet's probe address | the application, untouched |
//! | the application's answers to what the proxy dialled | back to the proxy, by mark and policy routing |

mod iptables;
mod nftables;
mod tool;

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};

/// The mark of the proxy's packets, of which these bits count.
const PROXY_MARK: &str = "0x539";
/// The mark of connections that the proxy opened to the application.
const CONNECTION_MARK: &str = "0x111";
const MARK_MASK: &str = "0xfff";
const ROUTE_TABLE: u32 = 100;
const RULE_PRIORITY: u32 = 32764;
const PROBE_V4: &str = "169.254.7.127";
const PROBE_V6: &str = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff";

/// What to install.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether DNS is captured.
    pub dns: bool,
    /// Whether a proxy is told of a pod first.
    pub after_the_proxy: bool,
}

/// The two families of addresses, with what differs between them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Family; 2] = [Family::V4, Family::V6];

    fn loopback(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.1/32",
            Family::V6 => "::1/128",
        }
    }

    fn probe(self) -> &'static str {
        match self {
            Family::V4 => PROBE_V4,
            Family::V6 => PROBE_V6,
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Family::V4 => "-4",
            Family::V6 => "-6",
        }
    }
}

/// Puts the rules into `namespace`. Those that are there already stay as they are: open connections hang on them.
///
/// # Errors
/// What the tools said.
pub(crate) fn install(namespace: BorrowedFd<'_>, rules: Rules) -> Result<()> {
    tool::inside(namespace, || {
        if are_here(rules) {
            return Ok(());
        }
        remove_here();
        for family in families() {
            let route = format!("{}\n{}\n", rule("add"), route("replace"));
            tool::run("ip", &[family.flag(), "-batch", "-"], &route)?;
        }
        if tool::run("nft", &["-f", "-"], &nftables::install(rules, &families())).is_ok() {
            return Ok(());
        }
        for family in families() {
            iptables::install(rules, family).context("neither nft nor iptables-restore works")?;
        }
        Ok(())
    })?
}

/// Takes the rules out of `namespace`.
///
/// # Errors
/// When the namespace cannot be entered.
pub(crate) fn remove(namespace: BorrowedFd<'_>) -> Result<()> {
    tool::inside(namespace, remove_here)
}

/// Whether exactly these rules are in the namespace of the calling thread.
fn are_here(rules: Rules) -> bool {
    let with_nft = tool::run("nft", &["list", "table", "inet", "istio-ambient"], "");
    let listed = with_nft.or_else(|_| tool::run("iptables-save", &["-t", "nat"], ""));
    listed.is_ok_and(|text| text.contains("15001") && text.contains("15053") == rules.dns)
}

/// What is not there is fine.
fn remove_here() {
    for family in Family::BOTH {
        let route = format!("{}\n{}\n", rule("del"), route("del"));
        let _ = tool::run("ip", &[family.flag(), "-force", "-batch", "-"], &route);
        iptables::remove(family);
    }
    let _ = tool::run("nft", &["-f", "-"], nftables::REMOVE);
}

fn rule(verb: &str) -> String {
    format!(
        "rule {verb} fwmark {CONNECTION_MARK}/{MARK_MASK} pref {RULE_PRIORITY} lookup {ROUTE_TABLE}"
    )
}

fn route(verb: &str) -> String {
    format!("route {verb} local default dev lo table {ROUTE_TABLE}")
}

/// Those that work in the namespace of the calling thread.
fn families() -> Vec<Family> {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    let v6 = disabled.is_ok_and(|disabled| disabled.trim() != "1");
    Family::BOTH.into_iter().filter(|family| v6 || *family == Family::V4).collect()
}

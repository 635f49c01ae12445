//! The effective settings as names and values, for `--print-config` and the configuration dump.

use std::sync::OnceLock;

use ringway_engine::limits::{AUTOMATIC, Limits};

use crate::source::{
    Cores, Hardening, LogFormat, Mode, NodeConfig, OriginalSource, Reactor, Redirect,
};

/// One setting: its key in a Node document, and its value as it would be written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key, with dots for nesting.
    pub name: &'static str,
    /// The value.
    pub value: String,
}

/// Every setting of `node`, in the order of the documentation.
pub fn settings(node: &NodeConfig) -> Vec<Setting> {
    let address = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| "none".to_owned(), |address| address.to_string())
    };
    let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs_f64());
    let (mut limits, mut in_force) = (node.limits.clone(), node.limits.in_force());
    let limits = Limits::SETTINGS.iter().map(|setting| Setting {
        name: limit_name(setting.key),
        value: match *limits.value_mut(setting.key) {
            AUTOMATIC => match *in_force.value_mut(setting.key) {
                AUTOMATIC => "auto (no limit)".to_owned(),
                here => format!("auto ({here})"),
            },
            value => value.to_string(),
        },
    });
    let limits: Vec<_> = limits.collect();
    let rows = [
        ("name", node.name.to_string()),
        ("mode", mode(node.mode).to_owned()),
        ("cores", cores(&node.cores)),
        ("pinCores", node.pin_cores.to_string()),
        ("reactor", reactor(node.reactor).to_owned()),
        ("trustDomain", node.trust_domain.to_string()),
        ("clusterDomain", node.cluster_domain.to_string()),
        ("rootNamespace", node.root_namespace.to_string()),
        ("cluster", node.cluster.to_string()),
        ("network", node.network.to_string()),
        ("locality", node.locality.to_string()),
        (
            "certificateAuthority.directory",
            node.certificate_authority.directory.display().to_string(),
        ),
        ("certificateAuthority.leafLifetime", seconds(node.certificate_authority.leaf_lifetime)),
        (
            "certificateAuthority.revocationLists",
            paths(&node.certificate_authority.revocation_lists),
        ),
        (
            "certificateAuthority.workloadApi",
            node.certificate_authority
                .workload_api
                .as_ref()
                .map_or_else(|| "none".to_owned(), |socket| format!("unix://{}", socket.display())),
        ),
        ("sessionResumption", node.session_resumption.to_string()),
        ("drainDeadline", seconds(node.drain_deadline)),
        ("hardening", hardening(node.hardening).to_owned()),
        ("redirect", redirect(node.redirect).to_owned()),
        ("packetMark", node.packet_mark.map_or_else(|| "none".to_owned(), |mark| mark.to_string())),
        ("originalSource", original_source(node.original_source).to_owned()),
        ("ipv6", node.ipv6.to_string()),
        ("dns.capture", node.dns.capture.to_string()),
        ("dns.resolvConf", node.dns.resolv_conf.display().to_string()),
        (
            "dns.preferredNamespace",
            node.dns.preferred_namespace.as_deref().unwrap_or("none").to_owned(),
        ),
        ("ports.outbound", node.ports.outbound.to_string()),
        ("ports.inbound", node.ports.inbound.to_string()),
        ("ports.tunnel", node.ports.tunnel.to_string()),
        ("ports.dns", node.ports.dns.to_string()),
        ("listen.admin", address(node.listen.admin)),
        ("listen.metrics", address(node.listen.metrics)),
        ("listen.readiness", address(node.listen.readiness)),
        ("log.level", node.log.level.clone()),
        ("log.format", log_format(node.log.format).to_owned()),
    ];
    rows.map(|(name, value)| Setting { name, value }).into_iter().chain(limits).collect()
}

/// Made once for each key there is.
fn limit_name(key: &'static str) -> &'static str {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        Limits::SETTINGS.iter().map(|setting| format!("limits.{}", setting.key)).collect()
    });
    let name = names.iter().find(|name| name.strip_prefix("limits.") == Some(key));
    name.map_or(key, String::as_str)
}

/// Settings that only a new start takes: those that differ between `old` and `new`.
pub fn need_restart(old: &NodeConfig, new: &NodeConfig) -> Vec<&'static str> {
    const TAKEN_AT_ONCE: [&str; 10] = [
        "certificateAuthority.revocationLists",
        "trustDomain",
        "clusterDomain",
        "rootNamespace",
        "cluster",
        "network",
        "locality",
        "drainDeadline",
        "log.level",
        "name",
    ];
    let changed = settings(old).into_iter().zip(settings(new)).filter(|(old, new)| old != new);
    changed.map(|(old, _)| old.name).filter(|name| !TAKEN_AT_ONCE.contains(name)).collect()
}

fn paths(paths: &[std::path::PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("[{}]", paths.join(", "))
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Dedicated => "dedicated",
    }
}

fn cores(cores: &Cores) -> String {
    match cores {
        Cores::Automatic => "auto".to_owned(),
        Cores::Count(count) => count.to_string(),
        Cores::List(list) => {
            let list: Vec<_> = list.iter().map(usize::to_string).collect();
            format!("[{}]", list.join(", "))
        }
    }
}

fn reactor(reactor: Reactor) -> &'static str {
    match reactor {
        Reactor::Auto => "auto",
        Reactor::Ring => "ring",
        Reactor::Epoll => "epoll",
    }
}

fn hardening(hardening: Hardening) -> &'static str {
    match hardening {
        Hardening::Auto => "auto",
        Hardening::Off => "off",
        Hardening::Required => "required",
    }
}

fn redirect(redirect: Redirect) -> &'static str {
    match redirect {
        Redirect::Auto => "auto",
        Redirect::Nftables => "nftables",
        Redirect::Iptables => "iptables",
        Redirect::None => "none",
    }
}

fn original_source(original_source: OriginalSource) -> &'static str {
    match original_source {
        OriginalSource::Auto => "auto",
        OriginalSource::Always => "always",
        OriginalSource::Never => "never",
    }
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Plain => "plain",
        LogFormat::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_values_as_written() {
        let all = settings(&NodeConfig { cores: Cores::List(vec![0, 2]), ..NodeConfig::default() });
        let mut names: Vec<_> = all.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let value = |name: &str| all.iter().find(|one| one.name == name).unwrap().value.as_str();
        assert_eq!(value("cores"), "[0, 2]");
        assert_eq!(value("certificateAuthority.leafLifetime"), "86400s");
        assert_eq!(value("listen.admin"), "127.0.0.1:15000");
        let here = NodeConfig::default().limits.in_force().connections_per_workload;
        assert_eq!(value("limits.connectionsPerWorkload"), format!("auto ({here})"));
        assert_eq!(value("limits.connectionRatePerWorkload"), "auto (no limit)");
        assert_eq!(value("limits.tunnelsPerWorkload"), "16384");
    }

    #[test]
    fn what_only_a_start_takes_is_named() {
        let old = NodeConfig::default();
        let mut new = old.clone();
        new.log.level = "debug".to_owned();
        new.ports.outbound = 16001;
        new.reactor = Reactor::Epoll;
        assert_eq!(need_restart(&old, &new), ["reactor", "ports.outbound"]);
        assert!(need_restart(&old, &old.clone()).is_empty());
    }
}

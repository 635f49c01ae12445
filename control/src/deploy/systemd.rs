//! The unit: what it starts, and what it leaves the process.

use std::collections::{BTreeMap, BTreeSet};

use super::text;
use crate::run::{STATE_DIRECTORY, names_of_capabilities};
use crate::source::{Mode, NodeConfig, Redirect};

/// Directives `man systemd.service`, `systemd.exec`, `systemd.resource-control` and `systemd.kill` know, and that we use.
const KNOWN: &[&str] = &[
    "AmbientCapabilities",
    "CPUWeight",
    "CapabilityBoundingSet",
    "Environment",
    "EnvironmentFile",
    "ExecReload",
    "ExecStart",
    "KillMode",
    "LimitMEMLOCK",
    "LimitNOFILE",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NetworkNamespacePath",
    "Nice",
    "NoNewPrivileges",
    "PrivateTmp",
    "ProtectClock",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectSystem",
    "Restart",
    "RestartSec",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RuntimeDirectory",
    "RuntimeDirectoryPreserve",
    "StateDirectory",
    "TimeoutStopSec",
    "Type",
    "WatchdogSec",
];

fn service() -> BTreeMap<String, String> {
    service_of("systemd/ringway.service")
}

fn service_of(name: &str) -> BTreeMap<String, String> {
    let unit = text(name);
    let (_, service) = unit.split_once("[Service]\n").unwrap();
    let (service, _) = service.split_once("[Install]").unwrap();
    let lines = service.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').expect(line);
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn every_directive_is_known() {
    for name in ["ringway", "ringway-waypoint@", "ringway-gateway@"] {
        for key in service_of(&format!("systemd/{name}.service")).keys() {
            assert!(KNOWN.contains(&key.as_str()), "{name}: {key}");
        }
    }
}

#[test]
fn it_waits_for_the_program_to_say_that_it_serves() {
    let service = service();
    assert_eq!(service["Type"], "notify");
    let program = service["ExecStart"].split(' ').next().unwrap();
    assert!(service["ExecReload"].starts_with(&format!("{program} handover")));
    let state = format!("RINGWAY_STATE_DIRECTORY={STATE_DIRECTORY}");
    assert_eq!(service["Environment"], state);
    assert_eq!(format!("/run/{}", service["RuntimeDirectory"]), STATE_DIRECTORY);
    let ca = NodeConfig::default().certificate_authority.directory;
    assert!(ca.starts_with(format!("/var/lib/{}", service["StateDirectory"])));
    let stop: u64 = service["TimeoutStopSec"].parse().unwrap();
    assert!(stop > NodeConfig::default().drain_deadline.as_secs() + 1);
}

#[test]
fn it_has_the_capabilities_the_process_may_keep() {
    let service = service();
    let node =
        NodeConfig { mode: Mode::Shared, redirect: Redirect::Iptables, ..NodeConfig::default() };
    let want: BTreeSet<String> =
        names_of_capabilities(&node).iter().map(|name| format!("CAP_{name}")).collect();
    for key in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        let given: BTreeSet<String> = service[key].split(' ').map(str::to_owned).collect();
        assert_eq!(given, want, "{key}");
    }
}

#[cfg(feature = "waypoint")]
#[test]
fn the_l7_roles_run_in_a_namespace_of_their_own_without_capabilities() {
    use crate::run::waypoint::Kind;
    for (kind, capability) in [(Kind::Waypoint, ""), (Kind::Gateway, "CAP_NET_BIND_SERVICE")] {
        let role = kind.as_str();
        let service = service_of(&format!("systemd/ringway-{role}@.service"));
        assert_eq!(service["Type"], "notify", "{role}");
        assert_eq!(service["NetworkNamespacePath"], "/run/netns/%i");
        assert_eq!(
            service["ExecStart"],
            format!("/usr/local/bin/ringway {role} --file /etc/ringway")
        );
        let state = format!("RINGWAY_STATE_DIRECTORY=/run/{}", service["RuntimeDirectory"]);
        assert_eq!(service["Environment"], state, "each has its own");
        assert!(service["ExecReload"].contains("-HUP"), "nothing is handed over");
        assert!(
            !service["EnvironmentFile"].starts_with('-'),
            "it must be said which Gateway it is"
        );
        for key in ["CapabilityBoundingSet", "AmbientCapabilities"] {
            assert_eq!(service[key], capability, "{role}: {key}");
        }
    }
}

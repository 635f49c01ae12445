//! The unit: what it starts, and what it leaves the process.

use std::collections::{BTreeMap, BTreeSet};

use super::text;
use crate::run::{STATE_DIRECTORY, names_of_capabilities};
use crate::source::{Mode, NodeConfig, Redirect};

/// Directives `man systemd.service`, `systemd.exec` and `systemd.kill` know, and that we use.
const KNOWN: &[&str] = &[
    "AmbientCapabilities",
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
    let unit = text("systemd/ringway.service");
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
    for key in service().keys() {
        assert!(KNOWN.contains(&key.as_str()), "{key}");
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

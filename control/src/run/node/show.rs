//! What the admin server and readiness tell of a node.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::Node;
use crate::admin::config_dump::{Connections, WorkloadInfo, WorkloadState};
use crate::telemetry::metrics::Outcomes;

impl Node {
    /// Brings what the servers tell up to date.
    pub(in crate::run) fn show(&self) {
        let world = self.engine.snapshot();
        let mut pending = Vec::new();
        let mut workloads = BTreeMap::new();
        for status in self.enroller.statuses() {
            let workload = world.workload_by_uid(&status.uid);
            let info = WorkloadInfo {
                name: workload.map_or(&*status.uid, |one| one.name()).to_owned(),
                namespace: workload.map_or("", |one| one.namespace()).to_owned(),
                trust_domain: workload.map_or("", |one| one.trust_domain()).to_owned(),
                service_account: workload.map_or("", |one| one.service_account()).to_owned(),
            };
            if !status.up {
                pending.push(format!("workload {}/{}", info.namespace, info.name));
            }
            let state = WorkloadState {
                state: if status.up { "Up" } else { "Pending" },
                error: status.error,
                connections: Connections::default(),
                info,
            };
            workloads.insert(status.uid.to_string(), state);
        }
        let identities = self.certifier.statuses();
        let without = identities.iter().filter(|status| status.credentials.is_none());
        pending.extend(without.map(|status| format!("certificate {}", status.identity)));
        self.readiness.set_parts(pending);

        let authorities = self.certifier.expiries(SystemTime::now());
        let (captures, counts, reloads) =
            (self.enroller.counts(), self.certifier.counts(), self.reloads);
        self.view.update(|seen| {
            seen.identities = identities;
            seen.issued = Outcomes { ok: counts.issued, failed: counts.failed };
            seen.authorities = authorities;
            seen.workloads = workloads;
            seen.captures = captures;
            seen.reloads = reloads;
        });
    }
}

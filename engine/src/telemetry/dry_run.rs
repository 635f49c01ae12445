//! What policies on dry run would have done: counted, and told one by one as long as somebody listens.

use std::{net::SocketAddr, sync::Arc};

use super::Telemetry;
use crate::decide::DryRun;

/// What a policy on dry run would have done to one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunRecord {
    /// The workload that was connected to.
    pub workload: Arc<str>,
    /// Who dialled.
    pub source: SocketAddr,
    /// The policy, as `namespace/name`, and which of its rules matched, counted from 0. None when what is told is
    /// that no ALLOW policy matched.
    pub policy: Option<(Box<str>, usize)>,
    /// Whether the connection would have been denied.
    pub denied: bool,
}

impl Telemetry {
    pub(crate) fn dry_runs(
        &self,
        dry_runs: &[DryRun<'_>],
        workload: &Arc<str>,
        source: SocketAddr,
    ) {
        for dry_run in dry_runs {
            let (matched, denied) = match dry_run {
                DryRun::Denied(matched) => (Some(matched), true),
                DryRun::Allowed(matched) => (Some(matched), false),
                DryRun::NotAllowed => (None, true),
            };
            let policy = matched.map(|matched| {
                let policy = matched.policy;
                (format!("{}/{}", policy.namespace, policy.name).into(), matched.rule)
            });
            self.dry_run(DryRunRecord { workload: workload.clone(), source, policy, denied });
        }
    }

    pub(crate) fn dry_run(&self, record: DryRunRecord) {
        use std::sync::atomic::Ordering::Relaxed;
        let count = if record.denied { &self.dry_run_denied } else { &self.dry_run_allowed };
        count.fetch_add(1, Relaxed);
        // The counters have it in any case; who listens is served as far as there is room.
        let _ = self.dry_run_records.push(record);
    }

    /// The oldest outcome of a dry run that nobody has taken yet. What finds no room is counted only.
    pub fn next_dry_run(&self) -> Option<DryRunRecord> {
        self.dry_run_records.pop()
    }

    /// How many times policies on dry run would have denied a connection, and would have allowed one.
    pub fn dry_run_totals(&self) -> (u64, u64) {
        use std::sync::atomic::Ordering::Relaxed;
        (self.dry_run_denied.load(Relaxed), self.dry_run_allowed.load(Relaxed))
    }
}

//! All policies, each with the number of workloads it is for.

use std::collections::HashMap;

use ringway_engine::snapshot::{
    AuthorizationPolicy, PolicyAction, PolicyScope, Snapshot, TunnelProtocol,
};

/// A policy in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySummary {
    /// Namespace and name.
    pub name: String,
    /// `ALLOW` or `DENY`.
    pub action: &'static str,
    /// Whom it is for: `mesh`, `namespace` or `selector`.
    pub scope: &'static str,
    /// How many workloads of the mesh these are.
    pub workloads: usize,
    /// How many rules it has.
    pub rules: usize,
    /// Whether it decides nothing.
    pub dry_run: bool,
}

/// All policies, sorted by name.
pub fn summaries(snapshot: &Snapshot) -> Vec<PolicySummary> {
    let counts = Counts::of(snapshot);
    let mut all: Vec<_> = snapshot.policies().map(|policy| counts.summary(policy)).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// Workloads of the mesh.
#[derive(Default)]
struct Counts<'s> {
    all: usize,
    by_namespace: HashMap<&'s str, usize>,
    /// By the policy they name.
    by_name: HashMap<&'s str, usize>,
}

impl<'s> Counts<'s> {
    fn of(snapshot: &'s Snapshot) -> Counts<'s> {
        let mut counts = Counts::default();
        let in_mesh = |protocol| protocol == TunnelProtocol::Hbone;
        for workload in snapshot.workloads().filter(|each| in_mesh(each.protocol())) {
            counts.all += 1;
            *counts.by_namespace.entry(workload.namespace()).or_default() += 1;
            for name in workload.authorization_policies() {
                *counts.by_name.entry(name).or_default() += 1;
            }
        }
        counts
    }

    fn summary(&self, policy: &AuthorizationPolicy) -> PolicySummary {
        let name = format!("{}/{}", policy.namespace, policy.name);
        let count = |counts: &HashMap<&str, usize>, key: &str| counts.get(key).copied();
        let (scope, workloads) = match policy.scope {
            PolicyScope::Global => ("mesh", Some(self.all)),
            PolicyScope::Namespace => ("namespace", count(&self.by_namespace, &policy.namespace)),
            PolicyScope::WorkloadSelector => ("selector", count(&self.by_name, &name)),
        };
        PolicySummary {
            action: match policy.action {
                PolicyAction::Allow => "ALLOW",
                PolicyAction::Deny => "DENY",
            },
            scope,
            workloads: workloads.unwrap_or(0),
            rules: policy.rules.len(),
            dry_run: policy.dry_run,
            name,
        }
    }
}

//! Adds what local files say; they say it as the snapshot has it.

use std::collections::{BTreeMap, HashSet};

use ringway_engine::snapshot::AuthorizationPolicy;

use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::local::LocalObjects;
use crate::source::world::World;

/// Adds services and policies; workloads are there already.
pub(super) fn add(local: LocalObjects, world: &mut World, reporter: &mut Reporter) {
    for (place, service) in local.services {
        world.add_service(service, place, reporter);
    }
    let policies: Vec<AuthorizationPolicy> =
        local.policies.into_iter().map(|(_, policy)| policy).collect();
    report_unknown_policies(&local.named_policies, &policies, reporter);
    policies.into_iter().for_each(|policy| world.add_policy(policy));
}

/// A workload with a policy that nobody knows lets nobody in, which is not what a file without it means.
fn report_unknown_policies(
    named: &BTreeMap<String, Place>,
    policies: &[AuthorizationPolicy],
    reporter: &mut Reporter,
) {
    let known: HashSet<String> =
        policies.iter().map(|policy| format!("{}/{}", policy.namespace, policy.name)).collect();
    for (name, place) in named.iter().filter(|(name, _)| !known.contains(*name)) {
        let message = format!("there is no policy `{name}`");
        let help = did_you_mean(name, known.iter().map(String::as_str));
        reporter.report(Problem::error(*place, message).help(help));
    }
}

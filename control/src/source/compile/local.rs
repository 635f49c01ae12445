//! Adds what local files say; they say it as the snapshot has it.

use std::collections::BTreeMap;

use ringway_engine::snapshot::AuthorizationPolicy;

use super::mutual_tls::is_converted;
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::local::LocalObjects;
use crate::source::world::World;

/// Adds services and policies; workloads, and the policies of objects, are there already.
pub(super) fn add(local: LocalObjects, world: &mut World, reporter: &mut Reporter) {
    for (place, service) in local.services {
        world.add_service(service, place, reporter);
    }
    for (place, policy) in local.policies {
        report_other_conversion(&policy, place, world, reporter);
        world.add_policy(policy);
    }
    report_unknown_policies(&local.named_policies, world, reporter);
}

/// What a control plane makes of PeerAuthentications is made here, too. A copy of its policies may say the same, but
/// nothing else: workloads of objects would have that instead of what their PeerAuthentications say.
fn report_other_conversion(
    policy: &AuthorizationPolicy,
    place: Place,
    world: &World,
    reporter: &mut Reporter,
) {
    let AuthorizationPolicy { name, namespace, .. } = policy;
    let was_said = world.policies().contains(&format!("{namespace}/{name}"));
    let own = world.snapshot().policy(namespace, name).filter(|_| was_said && is_converted(name));
    if own.is_some_and(|own| **own != *policy) {
        let message = format!(
            "`{namespace}/{name}` is not what the PeerAuthentications beside this file come to"
        );
        let help = "leave it out, or give it another name".to_owned();
        reporter.report(Problem::error(place, message).help(help));
    }
}

/// A workload with a policy that nobody knows lets nobody in, which is not what a file without it means.
fn report_unknown_policies(
    named: &BTreeMap<String, Place>,
    world: &World,
    reporter: &mut Reporter,
) {
    let known = world.policies();
    for (name, place) in named.iter().filter(|(name, _)| !known.contains(*name)) {
        let message = format!("there is no policy `{name}`");
        let help = did_you_mean(name, known.iter().map(String::as_str));
        reporter.report(Problem::error(*place, message).help(help));
    }
}

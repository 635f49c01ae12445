//! Policies that nobody enforces: what they are attached to has no waypoint before it.

use ringway_engine::snapshot::{NamespacedHostname, Snapshot};
use ringway_http::model::ServiceName;
use ringway_http::model::policy::{Attached, Policies, Target};

use super::{PolicyObject, PolicyObjects};
use crate::source::diagnostics::{Problem, Reporter};

/// Tells of each such policy that says who may come in, and returns how many there are. One for two services of which only
/// one has a waypoint is one.
pub(crate) fn report_unenforced(
    objects: &PolicyObjects,
    policies: &Policies,
    snapshot: &Snapshot,
    reporter: &mut Reporter,
) -> usize {
    report(&objects.authorizations, &policies.authorizations, snapshot, reporter)
        + report(&objects.authentications, &policies.authentications, snapshot, reporter)
}

/// Attached policies stand in the order of their documents.
fn report<P>(
    objects: &[PolicyObject<P>],
    policies: &[Attached<P>],
    snapshot: &Snapshot,
    reporter: &mut Reporter,
) -> usize {
    let mut unenforced = 0;
    for (object, policy) in objects.iter().zip(policies) {
        let services = policy.targets.iter().filter_map(|target| match target {
            Target::Service { service, .. } => Some(service),
            Target::Class | Target::Gateway { .. } | Target::Route { .. } => None,
        });
        let mut open = services.filter(|service| !has_waypoint(service, snapshot));
        let Some(service) = open.next() else { continue };
        unenforced += 1;
        let message = format!(
            "nobody enforces `{}` for the service `{}`, which has no waypoint",
            object.name, service.hostname
        );
        let help = "the label `istio.io/use-waypoint` says which it has".to_owned();
        reporter.report(Problem::warning(object.place, message).help(help));
    }
    unenforced
}

fn has_waypoint(service: &ServiceName, snapshot: &Snapshot) -> bool {
    let id = NamespacedHostname::new(service.namespace.clone(), service.hostname.clone());
    let service = snapshot.service(&id);
    service.is_some_and(|one| one.waypoint.is_some() || !one.weighted_waypoints.is_empty())
}

//! All policies together: attached to what there is, and held against what waypoints would refuse.

use ringway_http::model::policy::{Policies, PolicyName};
use ringway_http::path::PathMode;
use ringway_http::policies::{PolicyError, PolicyMistake, PolicyTables};

use super::targets::Resolver;
use super::{PolicyObject, PolicyObjects, backend_traffic};
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::gateway::{GatewayObjects, ObjectStatus, Registry};

/// Finds what all policies are attached to; tells what became of those that have conditions.
pub(crate) fn resolve(
    objects: &PolicyObjects,
    gateway: &GatewayObjects,
    registry: &Registry<'_>,
    root_namespace: &str,
    reporter: &mut Reporter,
) -> (Policies, Vec<ObjectStatus>) {
    let (backends, status) = backend_traffic::attach(&objects.backend_traffic, registry, reporter);
    let mut resolver = Resolver { gateway, registry, root_namespace, reporter };
    let rate_limits = resolver.rate_limits(&objects.rate_limits);
    let policies = Policies {
        providers: resolver.providers(&objects.providers),
        rate_limits,
        authorizations: resolver.all(&objects.authorizations, false),
        authentications: resolver.all(&objects.authentications, false),
        faults: resolver.all(&objects.faults, true),
        traffic: resolver.all(&objects.traffic, true).into_iter().chain(backends).collect(),
        external: Vec::new(),
    };
    report_mistakes(objects, &policies, reporter);
    (policies, status)
}

/// What waypoints would refuse is told with its place.
fn report_mistakes(objects: &PolicyObjects, policies: &Policies, reporter: &mut Reporter) {
    let Err(errors) = PolicyTables::compile(policies, PathMode::default()) else { return };
    for PolicyError { kind, policy, mistake } in errors {
        let place = match kind {
            "AuthorizationPolicy" => place_of(&objects.authorizations, &policy),
            "RequestAuthentication" => place_of(&objects.authentications, &policy),
            "RateLimitPolicy" => place_of(&objects.rate_limits, &policy),
            _ => place_of(&objects.faults, &policy),
        };
        let place = place.expect("errors are of policies that were given");
        let help = match &mistake {
            PolicyMistake::Provider(name) => {
                let known = policies.providers.iter().map(|one| &*one.name);
                let near = did_you_mean(name, known);
                near.or_else(|| Some("name it in `extensionProviders` of a MeshConfig".to_owned()))
            }
            _ => None,
        };
        reporter.report(Problem::error(place, format!("`{}`: {mistake}", policy.name)).help(help));
    }
}

fn place_of<P>(objects: &[PolicyObject<P>], name: &PolicyName) -> Option<Place> {
    let is_it = |one: &&PolicyObject<P>| one.name == name.name && one.namespace == name.namespace;
    objects.iter().find(is_it).map(|one| one.place)
}

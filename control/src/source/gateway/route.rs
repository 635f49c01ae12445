//! What routes of several kinds have in common.

use ringway_http::model::{HostPattern, Match, RouteKind};

use super::filters::filters;
use super::objects::routed::{BackendObject, ParentReference, RouteObject, RuleObject};
use super::references::{backend_reference, parent_references};
use super::values::hostname;
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Reporter};
use crate::source::kubernetes::{created, generation, metadata};
use crate::source::policy::session_persistence;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{integer, name};
use crate::source::yaml::value::Value;

/// What the `spec` of a route says.
pub(super) struct RouteSpec {
    pub(super) parents: Vec<ParentReference>,
    pub(super) hostnames: Vec<HostPattern>,
    pub(super) rules: Vec<RuleObject>,
}

/// What all kinds of routes have around their `spec`.
pub(super) fn route(
    what: &'static str,
    kind: RouteKind,
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
    spec: impl FnOnce(&Value, &str, &mut Context, &mut Reporter) -> Option<RouteSpec>,
) -> Option<RouteObject> {
    mapping(what, value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        // Without its name it is refused in any case; the spec is read for what else is wrong.
        let namespace = metadata.as_ref().map_or("default", |metadata| &*metadata.namespace);
        let spec =
            fields.required("spec", |value, reporter| spec(value, namespace, context, reporter));
        let (metadata, spec) = (metadata?, spec?);
        Some(RouteObject {
            place: metadata.place,
            kind,
            name: metadata.name,
            namespace: metadata.namespace,
            created: created(value),
            generation: generation(value),
            parents: spec.parents,
            hostnames: spec.hostnames,
            rules: spec.rules,
        })
    })?
}

/// The `spec` of a route of requests, whose rules `rule` reads.
pub(super) fn spec(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
    rule: impl Fn(&Value, &str, &mut Context, &mut Reporter) -> Option<RuleObject>,
) -> Option<RouteSpec> {
    mapping("spec", value, reporter, |fields| {
        let parents = parent_references(fields, namespace, context);
        let hostnames = hostnames(fields);
        let rules = fields.optional("rules", |value, reporter| {
            list(value, reporter, |value, reporter| rule(value, namespace, context, reporter))
        });
        // Left out, it is one rule that every request meets, without a backend.
        let rules = rules.unwrap_or_else(|| vec![RuleObject::new(value.place)]);
        RouteSpec { parents, hostnames, rules }
    })
}

/// `hostnames` of a route.
pub(super) fn hostnames(fields: &mut Fields<'_, '_>) -> Vec<HostPattern> {
    let read = fields.optional("hostnames", |value, reporter| {
        list(value, reporter, |value, reporter| hostname(value, reporter).map(host_pattern))
    });
    read.unwrap_or_default()
}

/// A host name that was checked.
pub(super) fn host_pattern(text: &str) -> HostPattern {
    match text.strip_prefix("*.") {
        Some(rest) => HostPattern::Suffix(rest.into()),
        None => HostPattern::Exact(text.into()),
    }
}

/// What every rule for requests may say; `matches` reads for which.
pub(super) fn of_requests(
    place: Place,
    fields: &mut Fields<'_, '_>,
    namespace: &str,
    context: &mut Context,
    matches: impl FnOnce(&Value, &mut Reporter) -> Option<Vec<Match>>,
) -> RuleObject {
    let own = fields.optional("name", name);
    let matches = fields.optional("matches", matches);
    let filters =
        fields.optional("filters", |value, reporter| filters(value, namespace, context, reporter));
    let backends = fields.optional("backendRefs", |value, reporter| {
        list(value, reporter, |value, reporter| backend(value, namespace, context, reporter))
    });
    let session = fields.optional("sessionPersistence", session_persistence);
    RuleObject {
        session,
        name: own.map(|name| context.names.share_ref(name)),
        matches: matches.unwrap_or_default(),
        filters: filters.unwrap_or_default(),
        backends: backends.unwrap_or_default(),
        ..RuleObject::new(place)
    }
}

/// Highest weight of a backend, as in the standard.
const WEIGHT_MAX: u64 = 1_000_000;

fn backend(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<BackendObject> {
    mapping("backendRefs[]", value, reporter, |fields| {
        let filters = fields
            .optional("filters", |value, reporter| filters(value, namespace, context, reporter));
        let filters = filters.unwrap_or_default();
        Some(BackendObject { filters, ..weighted(fields, namespace, context)? })
    })?
}

/// A backend without filters: which, and its share.
pub(super) fn weighted(
    fields: &mut Fields<'_, '_>,
    namespace: &str,
    context: &mut Context,
) -> Option<BackendObject> {
    let reference = backend_reference(fields, namespace, context);
    let weight = fields.optional("weight", integer(0..=WEIGHT_MAX));
    let weight = weight.unwrap_or(1) as u32;
    Some(BackendObject { reference: reference?, weight, filters: Vec::new() })
}

//! `HTTPRoute`.

use ringway_http::model::{Filter, HostPattern, PathChange, PathMatch, Retry, RouteKind, Timeouts};

use super::filters::filters;
use super::matches::http_matches;
use super::objects::routed::{
    BackendObject, FilterObject, ParentReference, RouteObject, RuleObject,
};
use super::references::{backend_reference, parent_references};
use super::values::hostname;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::kubernetes::{Context, created, generation, metadata};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{duration, integer, name};
use crate::source::yaml::value::Value;

pub(super) fn http_route(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RouteObject> {
    route("HTTPRoute", RouteKind::Http, value, context, reporter, spec)
}

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

fn spec(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
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

fn rule(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RuleObject> {
    mapping("rules[]", value, reporter, |fields| {
        let own = fields.optional("name", name);
        let matches = fields.optional("matches", http_matches);
        let filters = fields
            .optional("filters", |value, reporter| filters(value, namespace, context, reporter));
        let backends = fields.optional("backendRefs", |value, reporter| {
            list(value, reporter, |value, reporter| backend(value, namespace, context, reporter))
        });
        let timeouts = fields.optional("timeouts", timeouts);
        let retry = fields.optional("retry", retry);
        let rule = RuleObject {
            place: value.place,
            name: own.map(|name| context.names.share_ref(name)),
            matches: matches.unwrap_or_default(),
            filters: filters.unwrap_or_default(),
            backends: backends.unwrap_or_default(),
            timeouts: timeouts.unwrap_or_default(),
            retry,
        };
        report_contradictions(&rule, fields);
        rule
    })
}

fn report_contradictions(rule: &RuleObject, fields: &mut Fields<'_, '_>) {
    let redirects =
        |filter: &FilterObject| matches!(filter, FilterObject::Plain(Filter::Redirect(_)));
    if rule.filters.iter().any(redirects) && !rule.backends.is_empty() {
        let message = "a rule that redirects answers itself: it has no `backendRefs`";
        let place = fields.place("backendRefs");
        fields.reporter.report(Problem::error(place, message));
    }
    let filters = || rule.backends.iter().flat_map(|backend| &backend.filters).chain(&rule.filters);
    if filters().any(changes_prefix) && !has_one_prefix(rule) {
        let message = "`replacePrefixMatch` needs a rule with exactly one match, of a PathPrefix";
        let place = fields.place("matches");
        fields.reporter.report(Problem::error(place, message));
    }
}

fn changes_prefix(filter: &FilterObject) -> bool {
    let FilterObject::Plain(filter) = filter else { return false };
    let path = match filter {
        Filter::Redirect(redirect) => redirect.path.as_ref(),
        Filter::Rewrite(rewrite) => rewrite.path.as_ref(),
        _ => None,
    };
    matches!(path, Some(PathChange::Prefix(_)))
}

/// A rule without matches has the prefix `/`.
fn has_one_prefix(rule: &RuleObject) -> bool {
    match &rule.matches[..] {
        [] => true,
        [one] => matches!(one.path, None | Some(PathMatch::Prefix(_))),
        _ => false,
    }
}

/// Highest weight of a backend, as in the standard.
pub(super) const WEIGHT_MAX: u64 = 1_000_000;

pub(super) fn backend(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<BackendObject> {
    mapping("backendRefs[]", value, reporter, |fields| {
        let reference = backend_reference(fields, namespace, context);
        let weight = fields.optional("weight", integer(0..=WEIGHT_MAX));
        let filters = fields
            .optional("filters", |value, reporter| filters(value, namespace, context, reporter));
        Some(BackendObject {
            reference: reference?,
            weight: weight.unwrap_or(1) as u32,
            filters: filters.unwrap_or_default(),
        })
    })?
}

/// 0 is no limit.
fn timeouts(value: &Value, reporter: &mut Reporter) -> Option<Timeouts> {
    mapping("timeouts", value, reporter, |fields| {
        let request = fields.optional("request", duration).filter(|limit| !limit.is_zero());
        let one = fields.optional("backendRequest", duration).filter(|limit| !limit.is_zero());
        if let (Some(request), Some(one)) = (request, one)
            && one > request
        {
            let message = "`backendRequest` is longer than `request`, which ends every try";
            let place: Place = fields.value_place("backendRequest");
            fields.reporter.report(Problem::error(place, message));
        }
        Timeouts { request, backend_request: one }
    })
}

/// Tries beside the first when only `retry: {}` is given; as in Envoy and Istio.
const ATTEMPTS_DEFAULT: u32 = 1;

/// Tries that anybody may ask for: each holds a copy of the request.
const ATTEMPTS_MAX: u64 = 100;

fn retry(value: &Value, reporter: &mut Reporter) -> Option<Retry> {
    mapping("retry", value, reporter, |fields| {
        let codes =
            fields.optional("codes", |value, reporter| list(value, reporter, integer(400..=599)));
        let attempts = fields.optional("attempts", integer(0..=ATTEMPTS_MAX));
        let backoff = fields.optional("backoff", duration).filter(|pause| !pause.is_zero());
        Retry {
            attempts: attempts.map_or(ATTEMPTS_DEFAULT, |attempts| attempts as u32),
            backoff,
            codes: codes.unwrap_or_default().into_iter().map(|code| code as u16).collect(),
        }
    })
}

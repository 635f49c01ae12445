//! `HTTPRoute`.

use ringway_http::model::{Filter, PathChange, PathMatch, Retry, RouteKind, Timeouts};

use super::matches::http_matches;
use super::objects::routed::{FilterObject, RouteObject, RuleObject};
use super::route::{of_requests, route, spec};
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{duration, integer};
use crate::source::yaml::value::Value;

pub(super) fn http_route(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RouteObject> {
    route(
        "HTTPRoute",
        RouteKind::Http,
        value,
        context,
        reporter,
        |value, namespace, context, reporter| spec(value, namespace, context, reporter, rule),
    )
}

fn rule(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RuleObject> {
    mapping("rules[]", value, reporter, |fields| {
        let timeouts = fields.optional("timeouts", timeouts).unwrap_or_default();
        let retry = fields.optional("retry", retry);
        let of_requests = of_requests(value.place, fields, namespace, context, http_matches);
        let rule = RuleObject { timeouts, retry, ..of_requests };
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

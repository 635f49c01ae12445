//! `GRPCRoute`: services and methods are paths, `/package.Service/Method`.

use http::Method;
use ringway_http::model::{Match, PathMatch, RouteKind, whole};

use super::matches::headers;
use super::objects::routed::{RouteObject, RuleObject};
use super::route::{of_requests, route, spec};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{nonempty, word};
use crate::source::yaml::value::{Value, shortened};

pub(super) fn grpc_route(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RouteObject> {
    route(
        "GRPCRoute",
        RouteKind::Grpc,
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
        of_requests(value.place, fields, namespace, context, |value, reporter| {
            list(value, reporter, one_match)
        })
    })
}

/// gRPC's requests are all POST.
fn one_match(value: &Value, reporter: &mut Reporter) -> Option<Match> {
    mapping("matches[]", value, reporter, |fields| {
        let path = fields.optional("method", method);
        let headers = fields.optional("headers", headers);
        Match {
            path,
            headers: headers.unwrap_or_default(),
            query: Vec::new(),
            method: Some(Method::POST),
        }
    })
}

fn method(value: &Value, reporter: &mut Reporter) -> Option<PathMatch> {
    const TYPES: &[(&str, bool)] = &[("Exact", true), ("RegularExpression", false)];
    mapping("method", value, reporter, |fields| {
        let exact = fields.optional("type", word(TYPES)).unwrap_or(true);
        let read = |value: &Value, reporter: &mut Reporter| {
            grpc_name(value, exact, reporter).map(str::to_owned)
        };
        let service = fields.optional("service", read);
        let method = fields.optional("method", read);
        if fields.value("service").is_none() && fields.value("method").is_none() {
            let message = "a method match names a `service`, a `method` or both";
            fields.reporter.report(Problem::error(value.place, message));
            return None;
        }
        match (exact, service, method) {
            (true, Some(service), Some(method)) => {
                Some(PathMatch::Exact(format!("/{service}/{method}").into()))
            }
            (true, Some(service), None) => Some(PathMatch::Prefix(format!("/{service}").into())),
            (_, service, method) => {
                let part = |part: Option<String>| match (part, exact) {
                    (None, _) => "[^/]+".to_owned(),
                    (Some(text), true) => regex::escape(&text),
                    (Some(text), false) => format!("(?:{text})"),
                };
                let pattern = format!("/{}/{}", part(service), part(method));
                whole(&pattern).ok().map(PathMatch::Regex)
            }
        }
    })?
}

/// The name of a service or method, or an expression for it.
fn grpc_name<'v>(value: &'v Value, exact: bool, reporter: &mut Reporter) -> Option<&'v str> {
    let text = nonempty(value, reporter)?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let fault = match exact {
        true if text.bytes().all(is_letter) => return Some(text),
        true => "is no name of a gRPC service or method",
        false if whole(text).is_ok() => return Some(text),
        false => "is no regular expression",
    };
    let message = format!("{:?} {fault}", shortened(text));
    reporter.report(Problem::error(value.place, message));
    None
}

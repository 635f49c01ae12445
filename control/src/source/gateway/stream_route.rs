//! `TLSRoute` and `TCPRoute`: where whole connections go.

use ringway_http::model::RouteKind;

use super::objects::routed::{RouteObject, RuleObject};
use super::references::parent_references;
use super::route::{RouteSpec, hostnames, route, weighted};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::name;
use crate::source::yaml::value::Value;

pub(super) fn tls_route(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RouteObject> {
    route(
        "TLSRoute",
        RouteKind::Tls,
        value,
        context,
        reporter,
        |value, namespace, context, reporter| {
            mapping("spec", value, reporter, |fields| {
                let hostnames = hostnames(fields);
                RouteSpec { hostnames, ..spec(fields, namespace, context) }
            })
        },
    )
}

pub(super) fn tcp_route(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RouteObject> {
    route(
        "TCPRoute",
        RouteKind::Tcp,
        value,
        context,
        reporter,
        |value, namespace, context, reporter| {
            mapping("spec", value, reporter, |fields| spec(fields, namespace, context))
        },
    )
}

fn spec(fields: &mut Fields<'_, '_>, namespace: &str, context: &mut Context) -> RouteSpec {
    let parents = parent_references(fields, namespace, context);
    let rules = fields.required("rules", |value, reporter| {
        list(value, reporter, |value, reporter| rule(value, namespace, context, reporter))
    });
    let rules = rules.unwrap_or_default();
    if rules.len() > 1 {
        let message = "nothing tells connections apart: there is one rule";
        let place = fields.place("rules");
        fields.reporter.report(Problem::error(place, message));
    }
    RouteSpec { parents, hostnames: Vec::new(), rules }
}

fn rule(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<RuleObject> {
    mapping("rules[]", value, reporter, |fields| {
        let own = fields.optional("name", name);
        let backends = fields.required("backendRefs", |value, reporter| {
            list(value, reporter, |value, reporter| {
                mapping("backendRefs[]", value, reporter, |fields| {
                    weighted(fields, namespace, context)
                })?
            })
        });
        RuleObject {
            name: own.map(|name| context.names.share_ref(name)),
            backends: backends.unwrap_or_default(),
            ..RuleObject::new(value.place)
        }
    })
}

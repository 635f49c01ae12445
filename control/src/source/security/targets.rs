//! `targetRefs`: what a policy of a waypoint is attached to.

use std::sync::Arc;

use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{name, nonempty, text};
use crate::source::yaml::value::Value;

/// Names an object of the policy's own namespace, or a GatewayClass.
#[cfg_attr(
    not(feature = "waypoint"),
    expect(dead_code, reason = "read for its mistakes; nobody attaches anything")
)]
pub(crate) struct TargetReference {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) group: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) name: Arc<str>,
    /// A part of it: a listener, a rule.
    pub(crate) section: Option<Arc<str>>,
}

/// `targetRefs` and `targetRef` of a policy of `namespace`.
pub(crate) fn target_references(
    fields: &mut Fields<'_, '_>,
    namespace: &str,
) -> Vec<TargetReference> {
    let read = |value: &Value, reporter: &mut Reporter| target(value, namespace, reporter);
    fields.must_not_be_null("targetRefs", "leave the key out to attach it to nothing");
    let many = fields.optional("targetRefs", |value, reporter| list(value, reporter, read));
    let one = fields.optional("targetRef", read);
    many.unwrap_or_default().into_iter().chain(one).collect()
}

fn target(value: &Value, own: &str, reporter: &mut Reporter) -> Option<TargetReference> {
    mapping("targetRefs[]", value, reporter, |fields| {
        let place = fields.value_place("name");
        let group = fields.optional("group", text).unwrap_or_default();
        let kind = fields.required("kind", nonempty);
        let named = fields.required("name", nonempty);
        let section = fields.optional("sectionName", nonempty);
        let namespace = fields.optional("namespace", name);
        if namespace.is_some_and(|namespace| namespace != own) {
            let message = "a policy is attached to what is of its own namespace";
            let help = format!("leave `namespace` out, or write `{own}`");
            let place = fields.value_place("namespace");
            fields.reporter.report(Problem::error(place, message).help(help));
        }
        Some(TargetReference {
            place,
            group: group.into(),
            kind: kind?.into(),
            name: named?.into(),
            section: section.map(Into::into),
        })
    })?
}

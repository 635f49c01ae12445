//! References of routes: to what they attach, and who gets their requests.

use super::objects::routed::{BackendReference, ParentReference, Reference};
use super::values::GATEWAY_GROUP;
use crate::source::context::Context;
use crate::source::diagnostics::Reporter;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{name, nonempty, port, text};
use crate::source::yaml::value::Value;

/// `parentRefs`, of an object of `namespace`.
pub(super) fn parent_references(
    fields: &mut Fields<'_, '_>,
    namespace: &str,
    context: &mut Context,
) -> Vec<ParentReference> {
    let references = fields.optional("parentRefs", |value, reporter| {
        list(value, reporter, |value, reporter| parent(value, namespace, context, reporter))
    });
    references.unwrap_or_default()
}

fn parent(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<ParentReference> {
    mapping("parentRefs[]", value, reporter, |fields| {
        let to = reference(fields, (GATEWAY_GROUP, "Gateway"), namespace, context);
        let section = fields.optional("sectionName", name);
        let port = fields.optional("port", port);
        let place = fields.value_place("name");
        Some(ParentReference {
            place,
            to: to?,
            section: section.map(|name| context.names.share_ref(name)),
            port,
        })
    })?
}

/// The keys of every reference; what is not given is `default`, or of the namespace of whoever refers.
pub(super) fn reference(
    fields: &mut Fields<'_, '_>,
    default: (&str, &str),
    namespace: &str,
    context: &mut Context,
) -> Option<Reference> {
    let group = fields.optional("group", text).unwrap_or(default.0);
    let kind = fields.optional("kind", nonempty).unwrap_or(default.1);
    let namespace = fields.optional("namespace", name).unwrap_or(namespace);
    let name = fields.required("name", nonempty)?;
    Some(Reference {
        group: context.names.share_ref(group),
        kind: context.names.share_ref(kind),
        namespace: context.names.share_ref(namespace),
        name: context.names.share_ref(name),
    })
}

/// The keys of a reference to a backend: a Service unless it says otherwise.
pub(super) fn backend_reference(
    fields: &mut Fields<'_, '_>,
    namespace: &str,
    context: &mut Context,
) -> Option<BackendReference> {
    let to = reference(fields, ("", "Service"), namespace, context);
    let number = match &to {
        Some(to) if (&*to.group, &*to.kind) == ("", "Service") => fields.required("port", port),
        _ => fields.optional("port", port),
    };
    Some(BackendReference { place: fields.value_place("name"), to: to?, port: number })
}

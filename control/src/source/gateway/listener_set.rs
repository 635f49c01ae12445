//! `ListenerSet`: listeners that are added to those of a Gateway, by somebody else than who has that.

use super::gateways::{listener, report_same_name};
use super::objects::routed::ListenerSetObject;
use super::references::reference;
use super::values::GATEWAY_GROUP;
use crate::source::context::Context;
use crate::source::diagnostics::Reporter;
use crate::source::kubernetes::{created, generation, metadata};
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::value::Value;

/// `kind`: as the document calls it, with the group that it is of.
pub(super) fn listener_set(
    (group, kind): (&'static str, &'static str),
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<ListenerSetObject> {
    mapping(kind, value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let namespace = metadata.as_ref().map_or("default", |metadata| &*metadata.namespace);
        let spec = fields.required("spec", |value, reporter| {
            mapping("spec", value, reporter, |fields| {
                let parent = fields.required("parentRef", |value, reporter| {
                    mapping("parentRef", value, reporter, |fields| {
                        let to = reference(fields, (GATEWAY_GROUP, "Gateway"), namespace, context);
                        Some((fields.value_place("name"), to?))
                    })?
                });
                let listeners = fields.required("listeners", |value, reporter| {
                    list(value, reporter, |value, reporter| listener(value, context, reporter))
                });
                report_same_name(listeners.as_deref().unwrap_or_default(), fields.reporter);
                Some((parent?, listeners?))
            })?
        });
        let (metadata, ((parent_place, parent), listeners)) = (metadata?, spec?);
        Some(ListenerSetObject {
            place: metadata.place,
            group,
            kind,
            name: metadata.name,
            namespace: metadata.namespace,
            created: created(value),
            generation: generation(value),
            parent_place,
            parent,
            listeners,
        })
    })?
}

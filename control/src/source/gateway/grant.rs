//! `ReferenceGrant`: which objects of other namespaces may refer to objects of this one.

use super::objects::routed::{GrantFrom, GrantObject, GrantTo};
use crate::source::context::Context;
use crate::source::diagnostics::Reporter;
use crate::source::kubernetes::metadata;
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{name, nonempty, text};
use crate::source::yaml::value::Value;

pub(super) fn reference_grant(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<GrantObject> {
    mapping("ReferenceGrant", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields.required("spec", |value, reporter| {
            mapping("spec", value, reporter, |fields| {
                let from = fields.required("from", |value, reporter| {
                    list(value, reporter, |value, reporter| from(value, context, reporter))
                });
                let to = fields.required("to", |value, reporter| {
                    list(value, reporter, |value, reporter| to(value, context, reporter))
                });
                Some((from?, to?))
            })?
        });
        let (metadata, (from, to)) = (metadata?, spec?);
        Some(GrantObject { namespace: metadata.namespace, from, to })
    })?
}

fn from(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<GrantFrom> {
    mapping("from[]", value, reporter, |fields| {
        let group = fields.required("group", text);
        let kind = fields.required("kind", nonempty);
        let namespace = fields.required("namespace", name);
        Some(GrantFrom {
            group: context.names.share_ref(group?),
            kind: context.names.share_ref(kind?),
            namespace: context.names.share_ref(namespace?),
        })
    })?
}

fn to(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<GrantTo> {
    mapping("to[]", value, reporter, |fields| {
        let group = fields.required("group", text);
        let kind = fields.required("kind", nonempty);
        let name = fields.optional("name", nonempty);
        Some(GrantTo {
            group: context.names.share_ref(group?),
            kind: context.names.share_ref(kind?),
            name: name.map(|name| context.names.share_ref(name)),
        })
    })?
}

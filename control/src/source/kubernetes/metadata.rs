//! `metadata`: the name, the namespace and the labels of an object.

use std::sync::Arc;

use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::objects::{Labels, Owner};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, name, nonempty, text};
use crate::source::yaml::value::Value;

/// Where objects are that do not say where.
const NAMESPACE_DEFAULT: &str = "default";

/// What Ringway reads of the metadata of an object.
pub(crate) struct Metadata {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    /// The object that controls this one.
    pub(crate) owner: Option<Owner>,
}

pub(crate) fn metadata(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Metadata> {
    mapping("metadata", value, reporter, |fields| {
        fields.ignore(IGNORED);
        read(fields, context)
    })?
}

/// Which version of itself an object from a cluster is.
pub(crate) fn generation(object: &Value) -> Option<u64> {
    object.get("metadata")?.get("generation")?.text()?.parse().ok()
}

/// When an object from a cluster was made there, in seconds since 1970.
#[cfg(feature = "waypoint")]
pub(crate) fn created(object: &Value) -> Option<i64> {
    let text = object.get("metadata")?.get("creationTimestamp")?.text()?;
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
    time.ok().map(time::OffsetDateTime::unix_timestamp)
}
/// What the server of a cluster notes.
pub(crate) const IGNORED: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn read(fields: &mut Fields<'_, '_>, context: &mut Context) -> Option<Metadata> {
    let own = fields.required("name", name).map(Arc::from);
    let namespace = fields.optional("namespace", name).unwrap_or(NAMESPACE_DEFAULT);
    let namespace = context.names.share_ref(namespace);
    let labels =
        fields.optional("labels", |value, reporter| labels("labels", value, context, reporter));
    let annotations =
        fields.optional("annotations", |value, reporter| annotations(value, context, reporter));
    let owner =
        fields.optional("ownerReferences", |value, reporter| owner(value, context, reporter));
    Some(Metadata {
        place: fields.value_place("name"),
        name: own?,
        namespace,
        labels: labels.unwrap_or_default(),
        annotations: annotations.unwrap_or_default(),
        owner,
    })
}

/// Labels, and the selectors made of them.
pub(crate) fn labels(
    what: &'static str,
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Labels> {
    let Some(entries) = value.entries() else {
        return mapping(what, value, reporter, |_| None)?;
    };
    let mut labels = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if key.text.is_empty() {
            reporter
                .report(Problem::error(key.place, format!("a key of `{what}` must not be empty")));
        }
        if let Some(text) = text(value, reporter) {
            labels.push((context.names.share_ref(&key.text), context.names.share_ref(text)));
        }
    }
    labels.sort();
    Some(labels.into())
}

/// `true` on a Gateway: backends are told which client asks. Istio's.
pub(crate) const TELLS_CLIENT: &str = "ambient.istio.io/xfcc-include-client-identity";

/// On what has a waypoint and a canary of it: how many connections of a hundred the second one gets.
pub(crate) const CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";

/// Annotations that are looked at. The others may be long, and different for every object.
pub(crate) const ANNOTATIONS: &[&str] = &[
    "ambient.istio.io/redirection",
    TELLS_CLIENT,
    "istio.io/dry-run",
    CANARY_WEIGHT,
    "networking.istio.io/traffic-distribution",
];

fn annotations(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Labels> {
    let Some(entries) = value.entries() else {
        return mapping("annotations", value, reporter, |_| None)?;
    };
    let mut annotations = Vec::new();
    for (key, value) in entries {
        let Some(text) = text(value, reporter) else { continue };
        if ANNOTATIONS.contains(&&*key.text) {
            annotations.push((context.names.share_ref(&key.text), context.names.share_ref(text)));
        }
    }
    Some(annotations.into())
}

fn owner(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Owner> {
    let owners = list(value, reporter, |value, reporter| {
        mapping("ownerReferences[]", value, reporter, |fields| {
            fields.ignore(&["apiVersion", "blockOwnerDeletion", "uid"]);
            let kind = fields.required("kind", nonempty);
            let name = fields.required("name", nonempty);
            let controls = fields.optional("controller", boolean) == Some(true);
            Some((controls, kind?, name?))
        })?
        .map(|(controls, kind, name)| (controls, kind.to_owned(), name.to_owned()))
    })?;
    let (_, kind, name) = owners.into_iter().find(|(controls, ..)| *controls)?;
    Some(Owner { kind: context.names.share_ref(&kind), name: context.names.share_ref(&name) })
}

//! `tls` of a listener.

use std::sync::Arc;

use super::objects::{SecretReference, TlsAtListener};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::Context;
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{name, nonempty, text, word};
use crate::source::yaml::value::Value;

pub(super) fn listener_tls(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<TlsAtListener> {
    const MODES: &[(&str, bool)] = &[("Terminate", false), ("Passthrough", true)];
    mapping("tls", value, reporter, |fields| {
        let passthrough = fields.optional("mode", word(MODES)).unwrap_or(false);
        let certificates = fields.optional("certificateRefs", |value, reporter| {
            list(value, reporter, |value, reporter| {
                mapping("certificateRefs[]", value, reporter, |fields| {
                    secret_reference("Secret", fields, context)
                })?
            })
        });
        fields.optional("options", |value, reporter| {
            let entries = value.entries().unwrap_or_default();
            for (key, _) in entries {
                let message = format!("the option `{}` of TLS is not supported", key.text);
                reporter.report(Problem::error(key.place, message));
            }
            Some(())
        });
        Some(TlsAtListener { passthrough, certificates: certificates.unwrap_or_default() })
    })?
}

/// A reference to a Secret, or to what else may hold certificates.
pub(super) fn secret_reference(
    default_kind: &str,
    fields: &mut crate::source::yaml::fields::Fields<'_, '_>,
    context: &mut Context,
) -> Option<SecretReference> {
    let group = fields.optional("group", text).unwrap_or("");
    let kind = fields.optional("kind", nonempty).unwrap_or(default_kind);
    let namespace = fields.optional("namespace", name).map(Arc::from);
    let name = fields.required("name", nonempty)?;
    Some(SecretReference {
        place: fields.value_place("name"),
        group: context.names.share_ref(group),
        kind: context.names.share_ref(kind),
        namespace,
        name: context.names.share_ref(name),
    })
}

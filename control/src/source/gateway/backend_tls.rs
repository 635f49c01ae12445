//! `BackendTLSPolicy`: TLS to the backends of a Service, and by whom and what they are known.

use std::sync::Arc;

use ringway_http::model::traffic::AlternativeName;

use super::values::hostname;
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::kubernetes::{created, generation, metadata};
use crate::source::security::{TargetReference, target_references};
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{nonempty, text, word};
use crate::source::yaml::value::Value;

/// A BackendTLSPolicy.
pub(crate) struct BackendTlsObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    /// Seconds since 1970, as far as the document says it.
    pub(crate) created: Option<i64>,
    pub(crate) generation: Option<u64>,
    pub(crate) targets: Vec<TargetReference>,
    pub(crate) authorities: Authorities,
    /// What servers are told, and known by unless there are `names`.
    pub(crate) hostname: Arc<str>,
    pub(crate) names: Vec<AlternativeName>,
}

/// Who may sign for the servers.
pub(crate) enum Authorities {
    /// `wellKnownCACertificates: System`.
    System,
    /// `caCertificateRefs`.
    Listed(Vec<AuthorityReference>),
}

/// One of `caCertificateRefs`, in the policy's own namespace.
pub(crate) struct AuthorityReference {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) group: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) name: Arc<str>,
}

/// What `spec.validation` says.
struct Validation {
    authorities: Authorities,
    hostname: Arc<str>,
    names: Vec<AlternativeName>,
}

pub(super) fn backend_tls_policy(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<BackendTlsObject> {
    mapping("BackendTLSPolicy", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let namespace = metadata.as_ref().map_or("default", |metadata| &*metadata.namespace);
        let spec = fields.required("spec", |value, reporter| {
            mapping("spec", value, reporter, |fields| {
                let targets = target_references(fields, namespace);
                let validation = fields.required("validation", validation);
                Some((targets, validation?))
            })?
        });
        let (metadata, (targets, validation)) = (metadata?, spec?);
        if targets.is_empty() {
            let message = format!("`{}` is attached to nothing", metadata.name);
            let help = "say by `targetRefs` to which Service".to_owned();
            fields.reporter.report(Problem::error(metadata.place, message).help(help));
        }
        let Validation { authorities, hostname, names } = validation;
        Some(BackendTlsObject {
            place: metadata.place,
            name: metadata.name,
            namespace: metadata.namespace,
            created: created(value),
            generation: generation(value),
            targets,
            authorities,
            hostname,
            names,
        })
    })?
}

fn validation(value: &Value, reporter: &mut Reporter) -> Option<Validation> {
    const WELL_KNOWN: &[(&str, ())] = &[("System", ())];
    mapping("validation", value, reporter, |fields| {
        let listed = fields.optional("caCertificateRefs", |value, reporter| {
            list(value, reporter, authority_reference)
        });
        let system = fields.optional("wellKnownCACertificates", word(WELL_KNOWN));
        let name = fields.required("hostname", precise);
        let names = fields
            .optional("subjectAltNames", |value, reporter| list(value, reporter, alternative_name));
        let listed = listed.filter(|listed| !listed.is_empty());
        let authorities = match (listed, system) {
            (Some(listed), None) => Authorities::Listed(listed),
            (None, Some(())) => Authorities::System,
            _ => {
                let message = "expected either `caCertificateRefs` or `wellKnownCACertificates`";
                let place = fields.place("hostname");
                fields.reporter.report(Problem::error(place, message));
                return None;
            }
        };
        let names = names.unwrap_or_default();
        Some(Validation { authorities, hostname: name?.into(), names })
    })?
}

/// A host name without a star.
fn precise<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let name = hostname(value, reporter)?;
    if name.starts_with("*.") {
        let message = "this is the name of one host: a `*` is for `subjectAltNames`";
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    Some(name)
}

fn authority_reference(value: &Value, reporter: &mut Reporter) -> Option<AuthorityReference> {
    mapping("caCertificateRefs[]", value, reporter, |fields| {
        let group = fields.optional("group", text).unwrap_or_default();
        let kind = fields.required("kind", nonempty);
        let name = fields.required("name", nonempty);
        let place = fields.value_place("name");
        let (group, kind, name) = (group.into(), kind?.into(), name?.into());
        Some(AuthorityReference { place, group, kind, name })
    })?
}

fn alternative_name(value: &Value, reporter: &mut Reporter) -> Option<AlternativeName> {
    const TYPES: &[(&str, bool)] = &[("Hostname", false), ("URI", true)];
    mapping("subjectAltNames[]", value, reporter, |fields| {
        let is_uri = fields.required("type", word(TYPES))?;
        let (key, other) = if is_uri { ("uri", "hostname") } else { ("hostname", "uri") };
        let name = match is_uri {
            true => AlternativeName::Uri(fields.required(key, nonempty)?.into()),
            false => AlternativeName::Host(fields.required(key, hostname)?.into()),
        };
        if fields.value(other).is_some() {
            let message = format!("`{other}` does not go with this `type`");
            let place = fields.place(other);
            fields.reporter.report(Problem::error(place, message));
        }
        Some(name)
    })?
}

//! `tls` of a listener, and of a Gateway.

use std::sync::Arc;

use super::objects::{
    ClientValidation, FrontendTls, MutualTls, SecretReference, TlsAtListener, ValidationMode,
};
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{name, nonempty, port, text, word};
use crate::source::yaml::value::Value;

/// Istio's option: clients must, or may, show a certificate that the authority in the listener's own Secret has signed.
const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";

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
        let validation = fields.optional("frontendValidation", |value, reporter| {
            client_validation("frontendValidation", value, context, reporter)
        });
        let mutual = fields.optional("options", options);
        let certificates = certificates.unwrap_or_default();
        Some(TlsAtListener { passthrough, certificates, validation, mutual })
    })?
}

/// `None`: clients need no certificate for all that is said here.
fn options(value: &Value, reporter: &mut Reporter) -> Option<MutualTls> {
    const MODES: &[(&str, MutualTls)] =
        &[("MUTUAL", MutualTls::Mutual), ("OPTIONAL_MUTUAL", MutualTls::OptionalMutual)];
    let mut mutual = None;
    for (key, value) in value.entries().unwrap_or_default() {
        if &*key.text == TERMINATE_MODE {
            mutual = word(MODES)(value, reporter);
        } else {
            let message = format!("the option `{}` of TLS is not supported", key.text);
            reporter.report(Problem::error(key.place, message));
        }
    }
    mutual
}

/// `tls` of a Gateway. Of its backends nothing is said there that is supported.
pub(super) fn gateway_tls(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<FrontendTls> {
    mapping("tls", value, reporter, |fields| {
        fields.optional("frontend", |value, reporter| {
            mapping("frontend", value, reporter, |fields| {
                let default = fields.required("default", |value, reporter| {
                    port_tls("default", value, context, reporter)
                });
                let per_port = fields.optional("perPort", |value, reporter| {
                    list(value, reporter, |value, reporter| of_port(value, context, reporter))
                });
                let per_port = per_port.unwrap_or_default();
                report_same_port(&per_port, fields.place("perPort"), fields.reporter);
                Some(FrontendTls { default: default?, per_port })
            })?
        })
    })?
}

fn of_port(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<(u16, Option<ClientValidation>)> {
    mapping("perPort[]", value, reporter, |fields| {
        let port = fields.required("port", port);
        let tls =
            fields.required("tls", |value, reporter| port_tls("tls", value, context, reporter));
        Some((port?, tls?))
    })?
}

fn report_same_port(
    all: &[(u16, Option<ClientValidation>)],
    place: Place,
    reporter: &mut Reporter,
) {
    for (index, (port, _)) in all.iter().enumerate() {
        if all[..index].iter().any(|(other, _)| other == port) {
            let message = format!("`perPort` has the port {port} twice");
            reporter.report(Problem::error(place, message));
        }
    }
}

/// Of one or all ports; it may say nothing.
fn port_tls(
    what: &'static str,
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Option<ClientValidation>> {
    mapping(what, value, reporter, |fields| {
        let given = fields.value("validation").is_some();
        let validation = fields.optional("validation", |value, reporter| {
            client_validation("validation", value, context, reporter)
        });
        // What could not be read is not the same as nothing.
        (validation.is_some() || !given).then_some(validation)
    })?
}

fn client_validation(
    what: &'static str,
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<ClientValidation> {
    const MODES: &[(&str, ValidationMode)] = &[
        ("AllowValidOnly", ValidationMode::AllowValidOnly),
        ("AllowInsecureFallback", ValidationMode::AllowInsecureFallback),
    ];
    mapping(what, value, reporter, |fields| {
        let mode = fields.optional("mode", word(MODES)).unwrap_or(ValidationMode::AllowValidOnly);
        let authorities = fields.required("caCertificateRefs", |value, reporter| {
            list(value, reporter, |value, reporter| {
                mapping("caCertificateRefs[]", value, reporter, |fields| {
                    secret_reference("ConfigMap", fields, context)
                })?
            })
        })?;
        if authorities.is_empty() {
            let place = fields.place("caCertificateRefs");
            let message = "`caCertificateRefs` names nobody who may sign for clients";
            fields.reporter.report(Problem::error(place, message));
        }
        Some(ClientValidation { authorities, mode })
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

//! `security.istio.io PeerAuthentication`: whether workloads are reached without a tunnel.

use super::selector::selector;
use super::{MutualTls, PeerAuthenticationObject};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::metadata;
use crate::source::objects::Labels;
use crate::source::yaml::fields::mapping;
use crate::source::yaml::scalars::{parse_port, word};
use crate::source::yaml::value::Value;

pub(crate) fn peer_authentication(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<PeerAuthenticationObject> {
    mapping("PeerAuthentication", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields.required("spec", |value, reporter| spec(value, context, reporter));
        let (metadata, spec) = (metadata?, spec?);
        Some(PeerAuthenticationObject {
            place: metadata.place,
            name: metadata.name,
            namespace: metadata.namespace,
            selector: spec.selector,
            mode: spec.mode,
            ports: spec.ports,
        })
    })?
}

struct Spec {
    selector: Option<Labels>,
    mode: Option<MutualTls>,
    ports: Vec<(u16, MutualTls)>,
}

fn spec(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Spec> {
    mapping("spec", value, reporter, |fields| {
        let selector = selector(fields, context);
        let mode = fields.optional("mtls", |value, reporter| mode("mtls", value, reporter));
        let ports = fields.optional("portLevelMtls", ports);
        if selector.is_none() && ports.is_some() {
            let message = "`portLevelMtls` needs a `selector`";
            let help = "ports mean something for chosen workloads only".to_owned();
            let problem = Problem::error(fields.place("portLevelMtls"), message).help(help);
            fields.reporter.report(problem);
        }
        Spec { selector, mode: mode.flatten(), ports: ports.unwrap_or_default() }
    })
}

/// `Some(None)`: nothing is said here.
fn mode(what: &'static str, value: &Value, reporter: &mut Reporter) -> Option<Option<MutualTls>> {
    const MODES: &[(&str, Option<MutualTls>)] = &[
        ("STRICT", Some(MutualTls::Strict)),
        ("PERMISSIVE", Some(MutualTls::Permissive)),
        ("DISABLE", Some(MutualTls::Permissive)),
        ("UNSET", None),
    ];
    mapping(what, value, reporter, |fields| {
        let Some(given) = fields.value("mode") else { return Some(None) };
        if given.text() == Some("DISABLE") {
            let message = "DISABLE means PERMISSIVE: tunnels are accepted all the same";
            fields.reporter.report(Problem::warning(given.place, message));
        }
        fields.optional("mode", word(MODES))
    })?
}

fn ports(value: &Value, reporter: &mut Reporter) -> Option<Vec<(u16, MutualTls)>> {
    let Some(entries) = value.entries() else {
        return mapping("portLevelMtls", value, reporter, |_| None)?;
    };
    let mut ports = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let mode = mode("portLevelMtls", value, reporter).flatten();
        match parse_port(&key.text) {
            Some(port) => ports.extend(mode.map(|mode| (port, mode))),
            None => {
                let message = format!("expected a port from 1 to 65535, found {:?}", key.text);
                reporter.report(Problem::error(key.place, message));
            }
        }
    }
    ports.sort_unstable_by_key(|(port, _)| *port);
    Some(ports)
}

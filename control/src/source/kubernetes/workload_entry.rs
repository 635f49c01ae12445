//! `networking.istio.io WorkloadEntry`: a workload that is not a Pod, such as a process in a network namespace or a
//! virtual machine.

use std::sync::Arc;

use super::metadata::labels;
use super::{Context, metadata};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::objects::{Addresses, Labels, NamedPorts, Origin, Template, WorkloadObject};
use crate::source::yaml::fields::mapping;
use crate::source::yaml::scalars::{integer, ip, name, port, text};
use crate::source::yaml::value::Value;

/// Highest share of its Service's connections a workload may ask for, relative to the others.
pub(super) const WEIGHT_MAX: u64 = 1_000_000;

pub(crate) fn workload_entry(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<(Arc<str>, WorkloadObject)> {
    mapping("WorkloadEntry", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields.required("spec", |value, reporter| spec(value, context, reporter));
        let (metadata, spec) = (metadata?, spec?);
        let template = Template {
            origin: Origin::WorkloadEntry,
            namespace: metadata.namespace,
            service_account: spec.service_account,
            labels: merged(metadata.labels, spec.labels),
            listed_by: None,
            owner: None,
            ports: spec.ports,
            ready: true,
            host_network: false,
            captured: false,
            network: spec.network,
            locality: spec.locality,
            weight: spec.weight,
        };
        let object = WorkloadObject {
            place: metadata.place,
            addresses: spec.addresses,
            node: None,
            template: context.templates.share(template),
        };
        Some((metadata.name, object))
    })?
}

struct Spec {
    addresses: Addresses,
    ports: NamedPorts,
    labels: Labels,
    network: Option<Arc<str>>,
    locality: Option<Arc<str>>,
    weight: u32,
    service_account: Arc<str>,
}

fn spec(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Spec> {
    mapping("spec", value, reporter, |fields| {
        let address = fields.required("address", ip);
        let ports = fields.optional("ports", |value, reporter| ports(value, context, reporter));
        let labels =
            fields.optional("labels", |value, reporter| labels("labels", value, context, reporter));
        let network = fields.optional("network", text).filter(|network| !network.is_empty());
        let locality = fields.optional("locality", locality);
        let weight = fields.optional("weight", integer(0..=WEIGHT_MAX));
        let service_account = fields.optional("serviceAccount", name).unwrap_or("default");
        Some(Spec {
            addresses: Addresses::One(address?),
            ports: ports.unwrap_or_default(),
            labels: labels.unwrap_or_default(),
            network: network.map(|network| context.names.share_ref(network)),
            locality: locality.map(|locality| context.names.share_ref(locality)),
            // As in Istio, 0 says nothing.
            weight: weight.map_or(1, |weight| weight.max(1) as u32),
            service_account: context.names.share_ref(service_account),
        })
    })?
}

pub(super) fn ports(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<NamedPorts> {
    let Some(entries) = value.entries() else {
        return mapping("ports", value, reporter, |_| None)?;
    };
    let mut ports = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let port = port(value, reporter);
        ports.extend(port.map(|port| (context.names.share_ref(&key.text), port)));
    }
    ports.sort();
    Some(ports.into())
}

/// `region/zone/subzone`, of which the later parts may be left out.
pub(crate) fn locality<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = text(value, reporter)?;
    if text.split('/').count() > 3 {
        let message = "a locality has at most three parts: region/zone/subzone";
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    Some(text).filter(|text| !text.is_empty())
}

/// The labels of the entry itself win over those of its metadata.
fn merged(metadata: Labels, spec: Labels) -> Labels {
    let mut labels = spec.into_vec();
    for (key, value) in metadata {
        if !labels.iter().any(|(own, _)| *own == key) {
            labels.push((key, value));
        }
    }
    labels.sort();
    labels.into()
}

//! `networking.istio.io WorkloadEntry`: a workload that is not a Pod, such as a process in a network namespace or a
//! virtual machine.

use std::sync::Arc;

use super::metadata;
use super::metadata::labels;
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::objects::{Addresses, Labels, NamedPorts, Origin, Template, WorkloadObject};
use crate::source::yaml::fields::mapping;
use crate::source::yaml::scalars::{integer, ip_or_host, name, port, text};
use crate::source::yaml::value::Value;

/// Highest share of its Service's connections a workload may ask for, relative to the others.
const WEIGHT_MAX: u64 = 1_000_000;

pub(crate) fn workload_entry(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<(Arc<str>, WorkloadObject)> {
    mapping("WorkloadEntry", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields
            .required("spec", |value, reporter| workload_spec("spec", value, context, reporter));
        let (metadata, spec) = (metadata?, spec?);
        let labels = merged(metadata.labels, &spec.labels);
        let spec = WorkloadSpec { labels, ..spec };
        let name = Arc::clone(&metadata.name);
        let (place, namespace) = (metadata.place, metadata.namespace);
        Some((name, spec.object(place, namespace, Origin::WorkloadEntry, None, context)))
    })?
}

/// A workload, as a WorkloadEntry and an endpoint of a ServiceEntry tell of it.
pub(super) struct WorkloadSpec {
    pub(super) addresses: Addresses,
    ports: NamedPorts,
    labels: Labels,
    network: Option<Arc<str>>,
    locality: Option<Arc<str>>,
    weight: u32,
    service_account: Arc<str>,
}

impl WorkloadSpec {
    /// The workload, with what it has from the object that it stands in.
    pub(super) fn object(
        self,
        place: Place,
        namespace: Arc<str>,
        origin: Origin,
        listed_by: Option<ListedBy>,
        context: &mut Context,
    ) -> WorkloadObject {
        let template = Template {
            origin,
            namespace,
            service_account: self.service_account,
            labels: self.labels,
            listed_by: listed_by.as_ref().map(|by| Arc::clone(&by.entry)),
            only_host: listed_by.and_then(|by| by.only_host),
            owner: None,
            ports: self.ports,
            ready: true,
            host_network: false,
            captured: false,
            network: self.network,
            locality: self.locality,
            weight: self.weight,
        };
        let (addresses, template) = (self.addresses, context.templates.share(template));
        WorkloadObject { place, addresses, node: None, template }
    }

    /// A host that nothing is said of but its name.
    pub(super) fn of_host(host: &Arc<str>, context: &mut Context) -> WorkloadSpec {
        WorkloadSpec {
            addresses: Addresses::Host(Arc::clone(host)),
            ports: Box::default(),
            labels: Box::default(),
            network: None,
            locality: None,
            weight: 1,
            service_account: context.names.share_ref("default"),
        }
    }
}

/// The ServiceEntry that lists a workload.
pub(super) struct ListedBy {
    pub(super) entry: Arc<str>,
    /// The only one of its hosts that it is for.
    pub(super) only_host: Option<Arc<str>>,
}

/// Reads one; `what` is what it is called where it stands.
pub(super) fn workload_spec(
    what: &'static str,
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<WorkloadSpec> {
    mapping(what, value, reporter, |fields| {
        let address = fields.required("address", ip_or_host);
        let ports = fields.optional("ports", |value, reporter| ports(value, context, reporter));
        let labels =
            fields.optional("labels", |value, reporter| labels("labels", value, context, reporter));
        let network = fields.optional("network", text).filter(|network| !network.is_empty());
        let locality = fields.optional("locality", locality);
        let weight = fields.optional("weight", integer(0..=WEIGHT_MAX));
        let service_account = fields.optional("serviceAccount", name).unwrap_or("default");
        Some(WorkloadSpec {
            addresses: match address? {
                Ok(ip) => Addresses::One(ip),
                Err(host) => Addresses::Host(context.names.share_ref(host)),
            },
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

fn ports(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<NamedPorts> {
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
fn merged(metadata: Labels, spec: &Labels) -> Labels {
    let mut labels = spec.to_vec();
    for (key, value) in metadata {
        if !labels.iter().any(|(own, _)| *own == key) {
            labels.push((key, value));
        }
    }
    labels.sort();
    labels.into()
}

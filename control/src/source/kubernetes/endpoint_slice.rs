//! `discovery.k8s.io/v1 EndpointSlice`: endpoints of a Service that are no Pods, such as a database outside of the cluster.
//!
//! Endpoints that are Pods say nothing that the Pods and the Service's selector do not say.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Metadata, metadata};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::objects::{
    Addresses, Labels, NamedPorts, Origin, Template, WorkloadObject, find,
};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, ip, name, nonempty, port, text, word};
use crate::source::yaml::value::Value;

/// The Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Endpoints and their names: that of the slice, and the address.
pub(crate) fn endpoint_slice(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Vec<(Arc<str>, WorkloadObject)>> {
    mapping("EndpointSlice", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let ports = fields.optional("ports", |value, reporter| ports(value, context, reporter));
        let endpoints = endpoints(fields, context);
        let metadata = metadata?;
        let Some(service) = find(&metadata.labels, SERVICE_NAME) else { return Some(Vec::new()) };
        let ports: NamedPorts = ports.unwrap_or_default().into();
        let listed = endpoints.into_iter().map(|endpoint| {
            let template = template(&metadata, service, &ports, endpoint.ready, context);
            let object = WorkloadObject {
                place: metadata.place,
                addresses: Addresses::One(endpoint.ip),
                node: endpoint.node,
                template: context.templates.share(template),
            };
            (format!("{}/{}", metadata.name, endpoint.ip).into(), object)
        });
        Some(listed.collect())
    })?
}

/// The mesh does not carry them, so who they are is of no importance.
fn template(
    metadata: &Metadata,
    service: &Arc<str>,
    ports: &NamedPorts,
    ready: bool,
    context: &mut Context,
) -> Template {
    Template {
        origin: Origin::EndpointSlice,
        namespace: Arc::clone(&metadata.namespace),
        service_account: context.names.share_ref("default"),
        labels: Labels::default(),
        listed_by: Some(Arc::clone(service)),
        only_host: None,
        owner: None,
        ports: ports.clone(),
        ready,
        host_network: false,
        captured: false,
        network: None,
        locality: None,
        weight: 1,
    }
}

struct Endpoint {
    ip: IpAddr,
    node: Option<Arc<str>>,
    ready: bool,
}

/// Those that are no Pods.
fn endpoints(fields: &mut Fields<'_, '_>, context: &mut Context) -> Vec<Endpoint> {
    const TYPES: &[(&str, bool)] = &[("IPv4", true), ("IPv6", true), ("FQDN", false)];
    if fields.required("addressType", word(TYPES)) == Some(false) {
        let message = "endpoints that are host names are not supported: they have no effect";
        let place = fields.value_place("addressType");
        fields.reporter.report(Problem::warning(place, message));
        fields.ignore(&["endpoints"]);
        return Vec::new();
    }
    let endpoints = fields.optional("endpoints", |value, reporter| {
        list(value, reporter, |value, reporter| endpoint(value, context, reporter))
    });
    endpoints.unwrap_or_default()
}

/// Several addresses of one endpoint are the same to clients, so the first stands for all, as it does for kube-proxy.
fn endpoint(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Endpoint> {
    mapping("endpoints[]", value, reporter, |fields| {
        fields.ignore(&["deprecatedTopology", "hints", "hostname", "zone"]);
        let addresses = fields.required("addresses", |value, reporter| list(value, reporter, ip));
        let ready = fields.optional("conditions", ready).unwrap_or(true);
        let node = fields.optional("nodeName", name);
        let is_pod = fields.optional("targetRef", |value, reporter| {
            mapping("targetRef", value, reporter, |fields| {
                fields.ignore(&[
                    "apiVersion",
                    "fieldPath",
                    "name",
                    "namespace",
                    "resourceVersion",
                    "uid",
                ]);
                fields.optional("kind", nonempty) == Some("Pod")
            })
        });
        let ip = *addresses?.first()?;
        let node = node.map(|name| context.names.share_ref(name));
        (is_pod != Some(true)).then_some(Endpoint { ip, node, ready })
    })?
}

fn ready(value: &Value, reporter: &mut Reporter) -> Option<bool> {
    mapping("conditions", value, reporter, |fields| {
        fields.ignore(&["serving", "terminating"]);
        fields.optional("ready", boolean).unwrap_or(true)
    })
}

fn ports(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Vec<(Arc<str>, u16)>> {
    let mut ports = list(value, reporter, |value, reporter| {
        mapping("ports[]", value, reporter, |fields| {
            fields.ignore(&["appProtocol"]);
            let name = fields.optional("name", text).unwrap_or_default();
            let tcp = fields.optional("protocol", word(PROTOCOLS)).unwrap_or(true);
            let number = fields.optional("port", port)?;
            tcp.then(|| (context.names.share_ref(name), number))
        })?
    })?;
    ports.sort();
    Some(ports)
}

const PROTOCOLS: &[(&str, bool)] = &[("TCP", true), ("UDP", false), ("SCTP", false)];

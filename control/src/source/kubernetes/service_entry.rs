//! `networking.istio.io ServiceEntry`: host names that stand for workloads, listed or selected.
//!
//! Only those whose endpoints are addresses (`resolution: STATIC`): of the others a file cannot say where they lead.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_engine::snapshot::{AppProtocol, IpFamilies};

use super::metadata::labels;
use super::workload_entry::{WEIGHT_MAX, ports as named_ports};
use super::{Context, Metadata, locality, metadata};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::objects::{
    Addresses, Labels, NamedPorts, Origin, Preference, ServiceObject, ServicePort, TargetPort,
    Template, WorkloadObject,
};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{integer, ip, name, nonempty, port, text, word};
use crate::source::yaml::value::{Value, shortened};

/// What a ServiceEntry comes to.
pub(crate) struct ServiceEntry {
    /// One for each host.
    pub(crate) services: Vec<ServiceObject>,
    /// The endpoints it lists, and their names: that of the entry, and the address.
    pub(crate) endpoints: Vec<(Arc<str>, WorkloadObject)>,
}

pub(crate) fn service_entry(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<ServiceEntry> {
    mapping("ServiceEntry", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields.required("spec", |value, reporter| spec(value, context, reporter));
        let assigned = fields.optional("status", assigned).unwrap_or_default();
        let (metadata, spec) = (metadata?, spec?);
        let services =
            spec.hosts.iter().map(|host| service(host, &metadata, &spec, &assigned)).collect();
        let endpoints = spec.endpoints.into_iter();
        let endpoints = endpoints.map(|endpoint| object(endpoint, &metadata, context)).collect();
        Some(ServiceEntry { services, endpoints })
    })?
}

fn service(
    host: &Arc<str>,
    metadata: &Metadata,
    spec: &Spec,
    assigned: &[(Option<String>, IpAddr)],
) -> ServiceObject {
    let mut addresses: Vec<_> = spec.addresses.iter().map(|ip| (*ip, metadata.place)).collect();
    if addresses.is_empty() && spec.ranges.is_empty() {
        let own = assigned.iter().filter(|(of, _)| of.as_deref().is_none_or(|of| *of == **host));
        addresses.extend(own.map(|(_, ip)| (*ip, metadata.place)));
    }
    ServiceObject {
        place: metadata.place,
        name: Arc::clone(&metadata.name),
        namespace: Arc::clone(&metadata.namespace),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        hostname: Some(Arc::clone(host)),
        selector: spec.selector.clone(),
        addresses,
        ranges: spec.ranges.clone(),
        ports: spec.ports.clone(),
        families: IpFamilies::Automatic,
        preference: Preference::None,
        unready: false,
        subject_alt_names: spec.subject_alt_names.clone(),
        private: spec.private,
    }
}

fn object(
    endpoint: Endpoint,
    metadata: &Metadata,
    context: &mut Context,
) -> (Arc<str>, WorkloadObject) {
    let template = Template {
        origin: Origin::ServiceEntry,
        namespace: Arc::clone(&metadata.namespace),
        service_account: endpoint.service_account,
        labels: endpoint.labels,
        listed_by: Some(Arc::clone(&metadata.name)),
        owner: None,
        ports: endpoint.ports,
        ready: true,
        host_network: false,
        captured: false,
        network: endpoint.network,
        locality: endpoint.locality,
        weight: endpoint.weight,
    };
    let object = WorkloadObject {
        place: metadata.place,
        addresses: Addresses::One(endpoint.address),
        node: None,
        template: context.templates.share(template),
    };
    (format!("{}/{}", metadata.name, endpoint.address).into(), object)
}

struct Spec {
    hosts: Vec<Arc<str>>,
    addresses: Vec<IpAddr>,
    ranges: Vec<(IpAddr, u8)>,
    ports: Vec<ServicePort>,
    endpoints: Vec<Endpoint>,
    selector: Labels,
    subject_alt_names: Vec<Arc<str>>,
    private: bool,
}

fn spec(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Spec> {
    mapping("spec", value, reporter, |fields| {
        // Whether it is a part of the mesh follows from its workloads.
        fields.ignore(&["location"]);
        check_resolution(fields);
        let hosts = fields.required("hosts", |value, reporter| texts(value, context, reporter));
        let given =
            fields.optional("addresses", |value, reporter| list(value, reporter, address_or_range));
        let (one, ranges): (Vec<_>, Vec<_>) =
            given.unwrap_or_default().into_iter().partition(|(_, bits)| bits.is_none());
        let ports = fields.optional("ports", |value, reporter| {
            list(value, reporter, |value, reporter| service_port(value, context, reporter))
        });
        let endpoints = fields.optional("endpoints", |value, reporter| {
            list(value, reporter, |value, reporter| endpoint(value, context, reporter))
        });
        let selector = fields.optional("workloadSelector", |value, reporter| {
            mapping("workloadSelector", value, reporter, |fields| {
                fields.required("labels", |value, reporter| {
                    labels("labels", value, context, reporter)
                })
            })?
        });
        if selector.is_some() && endpoints.is_some() {
            let message = "`endpoints` and `workloadSelector` cannot stand in one ServiceEntry";
            fields.reporter.report(Problem::error(fields.place("endpoints"), message));
        }
        let subject_alt_names =
            fields.optional("subjectAltNames", |value, reporter| texts(value, context, reporter));
        let private = fields.optional("exportTo", private).unwrap_or(false);
        Some(Spec {
            hosts: hosts?,
            addresses: one.into_iter().map(|(ip, _)| ip).collect(),
            ranges: ranges.into_iter().filter_map(|(ip, bits)| Some((ip, bits?))).collect(),
            ports: ports.unwrap_or_default(),
            endpoints: endpoints.unwrap_or_default(),
            selector: selector.unwrap_or_default(),
            subject_alt_names: subject_alt_names.unwrap_or_default(),
            private,
        })
    })?
}

/// Nothing said means NONE.
fn check_resolution(fields: &mut Fields<'_, '_>) {
    const RESOLUTIONS: &[(&str, bool)] = &[
        ("STATIC", true),
        ("NONE", false),
        ("DNS", false),
        ("DNS_ROUND_ROBIN", false),
        ("DYNAMIC_DNS", false),
    ];
    let is_given = fields.value("resolution").is_some();
    let is_static = fields.optional("resolution", word(RESOLUTIONS));
    if is_static == Some(false) || !is_given {
        let place = fields.value_place("resolution");
        let message = "only a ServiceEntry of `resolution: STATIC` is supported";
        let help = "connections to others are carried to where they go without it".to_owned();
        fields.reporter.report(Problem::error(place, message).help(help));
    }
}

fn texts(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Vec<Arc<str>>> {
    list(value, reporter, |value, reporter| {
        nonempty(value, reporter).map(|text| context.names.share_ref(text))
    })
}

fn address_or_range(value: &Value, reporter: &mut Reporter) -> Option<(IpAddr, Option<u8>)> {
    let Some((address, bits)) = value.text().and_then(|text| text.split_once('/')) else {
        return ip(value, reporter).map(|ip| (ip, None));
    };
    let parsed = address.parse::<IpAddr>().ok().zip(bits.parse::<u8>().ok());
    let all = |ip: &IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    match parsed.filter(|(ip, bits)| *bits <= all(ip)) {
        Some((ip, bits)) => Some((ip, (bits < all(&ip)).then_some(bits))),
        None => {
            let text = shortened(value.text().unwrap_or_default());
            let message =
                format!("expected an IP address or a range such as 10.0.0.0/8, found {text:?}");
            reporter.report(Problem::error(value.place, message));
            None
        }
    }
}

fn service_port(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<ServicePort> {
    mapping("ports[]", value, reporter, |fields| {
        let name = fields.optional("name", text).unwrap_or_default();
        let protocol = fields.optional("protocol", nonempty);
        let target = fields.optional("targetPort", port);
        let number = fields.required("number", port)?;
        Some(ServicePort {
            name: context.names.share_ref(name),
            number,
            target: TargetPort::Number(target.unwrap_or(number)),
            protocol: protocol.map_or(AppProtocol::Unknown, application_protocol),
        })
    })?
}

/// What is not among these is bytes to a node proxy.
fn application_protocol(text: &str) -> AppProtocol {
    match text.to_ascii_uppercase().as_str() {
        "HTTP" => AppProtocol::Http11,
        "HTTP2" => AppProtocol::Http2,
        "GRPC" => AppProtocol::Grpc,
        "TCP" | "MONGO" => AppProtocol::Tcp,
        "TLS" | "HTTPS" => AppProtocol::Tls,
        _ => AppProtocol::Unknown,
    }
}

struct Endpoint {
    address: IpAddr,
    ports: NamedPorts,
    labels: Labels,
    network: Option<Arc<str>>,
    locality: Option<Arc<str>>,
    weight: u32,
    service_account: Arc<str>,
}

fn endpoint(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Endpoint> {
    mapping("endpoints[]", value, reporter, |fields| {
        let address = fields.required("address", ip);
        let ports =
            fields.optional("ports", |value, reporter| named_ports(value, context, reporter));
        let labels =
            fields.optional("labels", |value, reporter| labels("labels", value, context, reporter));
        let network = fields.optional("network", text).filter(|network| !network.is_empty());
        let locality = fields.optional("locality", locality);
        let weight = fields.optional("weight", integer(0..=WEIGHT_MAX));
        let service_account = fields.optional("serviceAccount", name).unwrap_or("default");
        Some(Endpoint {
            address: address?,
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

/// `.` alone keeps it within its namespace. Other lists are wider than that, and a mesh of files has no others.
fn private(value: &Value, reporter: &mut Reporter) -> Option<bool> {
    let namespaces = list(value, reporter, nonempty)?;
    Some(namespaces == ["."])
}

/// Addresses that the control plane gave to a host that has none.
fn assigned(value: &Value, reporter: &mut Reporter) -> Option<Vec<(Option<String>, IpAddr)>> {
    mapping("status", value, reporter, |fields| {
        fields.ignore(&["conditions", "observedGeneration", "validationMessages"]);
        let addresses = fields.optional("addresses", |value, reporter| {
            list(value, reporter, |value, reporter| {
                mapping("addresses[]", value, reporter, |fields| {
                    let host = fields.optional("host", nonempty).map(str::to_owned);
                    Some((host, fields.required("value", ip)?))
                })?
            })
        });
        addresses.unwrap_or_default()
    })
}

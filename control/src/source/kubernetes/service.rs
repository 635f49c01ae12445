//! `v1 Service`: addresses and ports that stand for the workloads its selector selects.

use std::net::IpAddr;

use ringway_engine::snapshot::{AppProtocol, IpFamilies};

use super::metadata;
use super::metadata::labels;
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::objects::{Labels, Preference, ServiceObject, ServicePort, TargetPort, find};
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{boolean, ip, nonempty, port, text, word};
use crate::source::yaml::value::{Content, Meaning, Value};

/// `Some(None)`: an `ExternalName` Service, which is an alias for DNS and nothing a proxy sees.
pub(crate) fn service(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Option<ServiceObject>> {
    mapping("Service", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields.required("spec", |value, reporter| spec(value, context, reporter));
        let (metadata, spec) = (metadata?, spec?);
        let annotation = find(&metadata.annotations, "networking.istio.io/traffic-distribution");
        let annotated = annotation.map_or(Preference::None, |text| distribution(text));
        if spec.external {
            return Some(None);
        }
        Some(Some(ServiceObject {
            place: metadata.place,
            name: metadata.name,
            namespace: metadata.namespace,
            labels: metadata.labels,
            annotations: metadata.annotations,
            hostname: None,
            selector: spec.selector,
            addresses: spec.addresses,
            ranges: Vec::new(),
            ports: spec.ports,
            families: spec.families,
            preference: spec.preference.unwrap_or(annotated),
            unready: spec.unready,
            subject_alt_names: Vec::new(),
            private: false,
        }))
    })?
}

/// The annotation is free text: what is not understood has no effect, as in Istio.
fn distribution(text: &str) -> Preference {
    DISTRIBUTIONS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map_or(Preference::None, |(_, preference)| *preference)
}

struct Spec {
    selector: Labels,
    addresses: Vec<(IpAddr, Place)>,
    ports: Vec<ServicePort>,
    families: IpFamilies,
    preference: Option<Preference>,
    unready: bool,
    external: bool,
}

fn spec(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Spec> {
    mapping("spec", value, reporter, |fields| {
        fields.ignore(SPEC_IGNORED);
        let kind = fields.optional("type", word(TYPES)).unwrap_or(Type::Internal);
        let mut addresses = Vec::new();
        addresses.extend(fields.optional("clusterIP", cluster_ip).flatten());
        let more =
            fields.optional("clusterIPs", |value, reporter| list(value, reporter, cluster_ip));
        for address in more.into_iter().flatten().flatten() {
            if !addresses.iter().any(|(own, _)| *own == address.0) {
                addresses.push(address);
            }
        }
        let selector = fields
            .optional("selector", |value, reporter| labels("selector", value, context, reporter));
        let ports = fields.optional("ports", |value, reporter| ports(value, context, reporter));
        let families = fields.optional("ipFamilies", families);
        let distribution = fields.optional("trafficDistribution", word(DISTRIBUTIONS));
        let policy = fields.optional("internalTrafficPolicy", word(POLICIES)).flatten();
        Spec {
            selector: selector.unwrap_or_default(),
            addresses,
            ports: ports.unwrap_or_default(),
            families: families.unwrap_or(IpFamilies::Automatic),
            preference: policy.or(distribution),
            unready: fields.optional("publishNotReadyAddresses", boolean).unwrap_or(false),
            external: kind == Type::External,
        }
    })
}

const SPEC_IGNORED: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "sessionAffinity",
    "sessionAffinityConfig",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Internal,
    External,
}

const TYPES: &[(&str, Type)] = &[
    ("ClusterIP", Type::Internal),
    ("NodePort", Type::Internal),
    ("LoadBalancer", Type::Internal),
    ("ExternalName", Type::External),
];

const DISTRIBUTIONS: &[(&str, Preference)] = &[
    ("PreferClose", Preference::Close),
    ("PreferSameZone", Preference::Close),
    ("PreferSameNode", Preference::SameNode),
];

const POLICIES: &[(&str, Option<Preference>)] =
    &[("Cluster", None), ("Local", Some(Preference::OnlyNode))];

/// `Some(None)`: the Service is headless, it has no address of its own.
fn cluster_ip(value: &Value, reporter: &mut Reporter) -> Option<Option<(IpAddr, Place)>> {
    if matches!(text(value, reporter)?, "None" | "") {
        return Some(None);
    }
    ip(value, reporter).map(|ip| Some((ip, value.place)))
}

fn families(value: &Value, reporter: &mut Reporter) -> Option<IpFamilies> {
    const FAMILIES: &[(&str, IpFamilies)] =
        &[("IPv4", IpFamilies::Ipv4), ("IPv6", IpFamilies::Ipv6)];
    let families = list(value, reporter, word(FAMILIES))?;
    match families[..] {
        [] => Some(IpFamilies::Automatic),
        [one] => Some(one),
        _ => Some(IpFamilies::Dual),
    }
}

fn ports(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Vec<ServicePort>> {
    let ports = list(value, reporter, |value, reporter| service_port(value, context, reporter))?;
    let mut given: Vec<(u16, Place)> =
        ports.iter().map(|(port, place)| (port.number, *place)).collect();
    given.sort();
    for pair in given.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let message = format!("the port {} is given twice", pair[1].0);
        let problem = Problem::error(pair[1].1, message).related(pair[0].1, "first given here");
        reporter.report(problem);
    }
    Some(ports.into_iter().map(|(port, _)| port).collect())
}

/// `None` also for UDP and SCTP, which a mesh leaves alone.
fn service_port(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<(ServicePort, Place)> {
    const PROTOCOLS: &[(&str, bool)] = &[("TCP", true), ("UDP", false), ("SCTP", false)];
    mapping("ports[]", value, reporter, |fields| {
        fields.ignore(&["nodePort"]);
        let name = fields.optional("name", nonempty);
        let stated = fields.optional("appProtocol", nonempty);
        let tcp = fields.optional("protocol", word(PROTOCOLS)).unwrap_or(true);
        let target =
            fields.optional("targetPort", |value, reporter| target(value, context, reporter));
        let number = fields.required("port", port)?;
        let protocol = application_protocol(stated.or(name).unwrap_or_default(), number);
        let target = target.unwrap_or(TargetPort::Number(number));
        let name = context.names.share_ref(name.unwrap_or_default());
        let port = ServicePort { name, number, target, protocol };
        tcp.then(|| (port, fields.value_place("port")))
    })?
}

/// A number, or the name of a port of the workload.
fn target(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<TargetPort> {
    match &value.content {
        Content::Scalar(scalar) if scalar.meaning() == Meaning::Text && !scalar.text.is_empty() => {
            let named = scalar.text.bytes().any(|byte| byte.is_ascii_alphabetic());
            match named {
                true => Some(TargetPort::Named(context.names.share_ref(&scalar.text), value.place)),
                false => port(value, reporter).map(TargetPort::Number),
            }
        }
        _ => port(value, reporter).map(TargetPort::Number),
    }
}

/// By `appProtocol`, else by the first part of the port's name, else by a port that servers who speak first are known
/// to have; as in Istio.
pub(crate) fn application_protocol(text: &str, port: u16) -> AppProtocol {
    let text = text.to_ascii_lowercase();
    if text == "grpc-web" || text.starts_with("grpc-web-") {
        return AppProtocol::Http11;
    }
    match text.split('-').next().unwrap_or_default() {
        "http" | "kubernetes.io/ws" => AppProtocol::Http11,
        "http2" | "kubernetes.io/h2c" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tcp" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
        "tls" | "https" | "kubernetes.io/wss" => AppProtocol::Tls,
        _ if SERVER_FIRST_PORTS.contains(&port) => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}

/// SMTP, DNS, MySQL, MongoDB.
const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

//! `networking.istio.io ServiceEntry`: host names that stand for workloads, listed or selected.
//!
//! | resolution | its endpoints |
//! |---|---|
//! | `STATIC` | addresses |
//! | `DNS`, `DNS_ROUND_ROBIN` | addresses and names; where none are listed or selected, each host is its own |
//! | `NONE` | none: connections go on to where they were going |

use std::net::IpAddr;
use std::sync::Arc;

use ringway_engine::snapshot::{AppProtocol, IpFamilies};

use super::metadata::labels;
use super::workload_entry::{ListedBy, WorkloadSpec, workload_spec};
use super::{Metadata, metadata};
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::objects::{
    Addresses, Labels, Origin, Preference, ServiceObject, ServicePort, TargetPort, WorkloadObject,
};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{ip, is_host, nonempty, port, text, word};
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
        let endpoints = endpoints(spec, &metadata, context);
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
        preference: match spec.resolution {
            Resolution::None => Preference::Passthrough,
            Resolution::Static | Resolution::Dns => Preference::None,
        },
        unready: false,
        subject_alt_names: spec.subject_alt_names.clone(),
        private: spec.private,
    }
}

/// What it lists; or, where hosts stand for themselves, these.
fn endpoints(
    spec: Spec,
    metadata: &Metadata,
    context: &mut Context,
) -> Vec<(Arc<str>, WorkloadObject)> {
    if spec.hosts_are_endpoints() {
        let hosts = spec.hosts.iter();
        let hosts = hosts.map(|host| {
            let endpoint = WorkloadSpec::of_host(host, context);
            object(endpoint, metadata, Some(Arc::clone(host)), context)
        });
        return hosts.collect();
    }
    let listed = spec.endpoints.into_iter();
    listed.map(|(_, endpoint)| object(endpoint, metadata, None, context)).collect()
}

fn object(
    endpoint: WorkloadSpec,
    metadata: &Metadata,
    only_host: Option<Arc<str>>,
    context: &mut Context,
) -> (Arc<str>, WorkloadObject) {
    let name = match &endpoint.addresses {
        Addresses::One(ip) => format!("{}/{ip}", metadata.name),
        other => format!("{}/{}", metadata.name, other.hostname()),
    };
    let (place, namespace) = (metadata.place, Arc::clone(&metadata.namespace));
    let listed_by = ListedBy { entry: Arc::clone(&metadata.name), only_host };
    let origin = Origin::ServiceEntry;
    (name.into(), endpoint.object(place, namespace, origin, Some(listed_by), context))
}

/// How its endpoints are found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resolution {
    None,
    Static,
    Dns,
}

struct Spec {
    resolution: Resolution,
    hosts: Vec<Arc<str>>,
    addresses: Vec<IpAddr>,
    ranges: Vec<(IpAddr, u8)>,
    ports: Vec<ServicePort>,
    endpoints: Vec<(Place, WorkloadSpec)>,
    selector: Labels,
    subject_alt_names: Vec<Arc<str>>,
    private: bool,
}

impl Spec {
    fn hosts_are_endpoints(&self) -> bool {
        self.resolution == Resolution::Dns && self.endpoints.is_empty() && self.selector.is_empty()
    }
}

fn spec(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Spec> {
    mapping("spec", value, reporter, |fields| {
        // Whether it is a part of the mesh follows from its workloads.
        fields.ignore(&["location"]);
        let resolution = resolution(fields);
        let hosts = fields.required("hosts", |value, reporter| texts(value, context, reporter));
        let given =
            fields.optional("addresses", |value, reporter| list(value, reporter, address_or_range));
        let (one, ranges): (Vec<_>, Vec<_>) =
            given.unwrap_or_default().into_iter().partition(|(_, bits)| bits.is_none());
        let ports = fields.optional("ports", |value, reporter| {
            list(value, reporter, |value, reporter| service_port(value, context, reporter))
        });
        let endpoints = fields.optional("endpoints", |value, reporter| {
            list(value, reporter, |value, reporter| {
                let endpoint = workload_spec("endpoints[]", value, context, reporter)?;
                Some((value.place, endpoint))
            })
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
        let spec = Spec {
            resolution: resolution?,
            hosts: hosts?,
            addresses: one.into_iter().map(|(ip, _)| ip).collect(),
            ranges: ranges.into_iter().filter_map(|(ip, bits)| Some((ip, bits?))).collect(),
            ports: ports.unwrap_or_default(),
            endpoints: endpoints.unwrap_or_default(),
            selector: selector.unwrap_or_default(),
            subject_alt_names: subject_alt_names.unwrap_or_default(),
            private,
        };
        check_endpoints(&spec, fields);
        Some(spec)
    })?
}

/// Nothing said means NONE.
fn resolution(fields: &mut Fields<'_, '_>) -> Option<Resolution> {
    const RESOLUTIONS: &[(&str, Option<Resolution>)] = &[
        ("NONE", Some(Resolution::None)),
        ("STATIC", Some(Resolution::Static)),
        ("DNS", Some(Resolution::Dns)),
        // Which of its addresses a name leads to is drawn for each connection in any case.
        ("DNS_ROUND_ROBIN", Some(Resolution::Dns)),
        ("DYNAMIC_DNS", None),
    ];
    if fields.value("resolution").is_none() {
        return Some(Resolution::None);
    }
    let resolution = fields.optional("resolution", word(RESOLUTIONS))?;
    if resolution.is_none() {
        let place = fields.value_place("resolution");
        let message = "`resolution: DYNAMIC_DNS` is not supported";
        let help = "it is for names that only a request tells; name the hosts, with `DNS`";
        fields.reporter.report(Problem::error(place, message).help(help.to_owned()));
    }
    resolution
}

/// What cannot be for its resolution.
fn check_endpoints(spec: &Spec, fields: &mut Fields<'_, '_>) {
    let of_hosts = fields.value_place("hosts");
    let mut report = |place, message: String, help: &str| {
        fields.reporter.report(Problem::error(place, message).help(help.to_owned()));
    };
    match spec.resolution {
        Resolution::None => {
            if let Some((place, _)) = spec.endpoints.first() {
                let help = "without one, connections go on to where they were going";
                report(*place, "endpoints want a `resolution`: STATIC or DNS".to_owned(), help);
            }
        }
        Resolution::Static => {
            let named =
                spec.endpoints.iter().filter(|(_, one)| !one.addresses.hostname().is_empty());
            for (place, endpoint) in named {
                let host = endpoint.addresses.hostname();
                let message = format!("with `resolution: STATIC`, `{host}` must be an IP address");
                report(*place, message, "names are resolved with `resolution: DNS`");
            }
        }
        Resolution::Dns if spec.hosts_are_endpoints() => {
            for host in spec.hosts.iter().filter(|host| !is_host(host)) {
                let message = format!("`{host}` is no name that can be resolved");
                report(of_hosts, message, "list `endpoints`, or write a name in full");
            }
        }
        Resolution::Dns => {}
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

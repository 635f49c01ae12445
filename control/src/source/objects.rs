//! What the documents of a load say, before it is known what they mean together.
//!
//! These are kept only while loading. There may be 150,000 workloads, so what many have in common is shared.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_engine::snapshot::{AppProtocol, IpFamilies};

use super::diagnostics::Place;

/// Key and value, sorted by key.
pub(crate) type Labels = Box<[(Arc<str>, Arc<str>)]>;

/// The ports of a workload that have a name, sorted by it.
pub(crate) type NamedPorts = Box<[(Arc<str>, u16)]>;

/// What there is, but could not be read: a reference to it is not a mistake of its own.
#[derive(Default)]
pub(crate) struct Unreadable {
    /// Namespace and name of objects.
    pub(crate) names: Vec<(Arc<str>, Arc<str>)>,
    /// There is an object whose name is not even known.
    pub(crate) nameless: bool,
    /// There is a file of which nothing is known.
    pub(crate) files: bool,
}

/// A Namespace: the default of what its workloads do not say themselves.
pub(crate) struct NamespaceObject {
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) labels: Labels,
    /// Those that are looked at.
    pub(crate) annotations: Labels,
}

/// A ServiceAccount: who its workloads are, and the default of what they do not say themselves.
pub(crate) struct ServiceAccountObject {
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) labels: Labels,
}

/// A Service; or a ServiceEntry, one for each of its hosts.
pub(crate) struct ServiceObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) labels: Labels,
    /// Those that are looked at.
    pub(crate) annotations: Labels,
    /// Of a ServiceEntry; a Service's follows from its name.
    pub(crate) hostname: Option<Arc<str>>,
    /// Empty: no workload is selected, but some may be listed.
    pub(crate) selector: Labels,
    pub(crate) addresses: Vec<(IpAddr, Place)>,
    /// Ranges of addresses, with their lengths.
    pub(crate) ranges: Vec<(IpAddr, u8)>,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) families: IpFamilies,
    pub(crate) preference: Preference,
    /// Endpoints that are not ready are used too.
    pub(crate) unready: bool,
    /// Names its workloads may show besides their own.
    pub(crate) subject_alt_names: Vec<Arc<str>>,
    /// Only its namespace sees it.
    pub(crate) private: bool,
}

/// A port of a Service.
#[derive(Clone)]
pub(crate) struct ServicePort {
    /// Empty where it has none.
    pub(crate) name: Arc<str>,
    pub(crate) number: u16,
    pub(crate) target: TargetPort,
    pub(crate) protocol: AppProtocol,
}

/// Where a port leads.
#[derive(Clone)]
pub(crate) enum TargetPort {
    Number(u16),
    /// A container port, or a port of a WorkloadEntry.
    Named(Arc<str>, Place),
}

/// Which endpoints are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preference {
    None,
    /// `trafficDistribution: PreferClose` or `PreferSameZone`.
    Close,
    /// `trafficDistribution: PreferSameNode`.
    SameNode,
    /// `internalTrafficPolicy: Local`: only these.
    OnlyNode,
    /// `resolution: NONE`: connections go on to where they were going.
    Passthrough,
}

/// A Pod or WorkloadEntry; its name stands beside it.
pub(crate) struct WorkloadObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) addresses: Addresses,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) template: Arc<Template>,
}

/// The addresses of a workload; nearly every one has one.
pub(crate) enum Addresses {
    One(IpAddr),
    Many(Box<[IpAddr]>),
    /// A host's name, which is resolved when somebody connects.
    Host(Arc<str>),
}

impl Addresses {
    pub(crate) fn as_slice(&self) -> &[IpAddr] {
        match self {
            Addresses::One(address) => std::slice::from_ref(address),
            Addresses::Many(addresses) => addresses,
            Addresses::Host(_) => &[],
        }
    }

    /// The name to resolve; empty for none.
    pub(crate) fn hostname(&self) -> &str {
        match self {
            Addresses::Host(name) => name,
            Addresses::One(_) | Addresses::Many(_) => "",
        }
    }
}

impl From<Vec<IpAddr>> for Addresses {
    fn from(addresses: Vec<IpAddr>) -> Addresses {
        match addresses[..] {
            [address] => Addresses::One(address),
            _ => Addresses::Many(addresses.into()),
        }
    }
}

/// What workloads made from one template have in common.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Template {
    pub(crate) origin: Origin,
    pub(crate) namespace: Arc<str>,
    pub(crate) service_account: Arc<str>,
    pub(crate) labels: Labels,
    /// The Service or ServiceEntry that lists it as its endpoint; only that leads to it.
    pub(crate) listed_by: Option<Arc<str>>,
    /// Of the hosts of that ServiceEntry, the only one that it is an endpoint of.
    pub(crate) only_host: Option<Arc<str>>,
    /// The controller that made it.
    pub(crate) owner: Option<Owner>,
    /// Named ports, for Services that lead to a name. Of an endpoint that is listed they have the names of the Service's ports.
    pub(crate) ports: NamedPorts,
    pub(crate) ready: bool,
    pub(crate) host_network: bool,
    /// Annotated by a cluster's CNI as captured.
    pub(crate) captured: bool,
    pub(crate) network: Option<Arc<str>>,
    pub(crate) locality: Option<Arc<str>>,
    pub(crate) weight: u32,
}

/// Which kind of document a workload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Pod,
    WorkloadEntry,
    /// An endpoint of a Service that is no Pod.
    EndpointSlice,
    /// An endpoint of a ServiceEntry.
    ServiceEntry,
}

/// The controller of a Pod, as far as it names the workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) kind: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Template {
    pub(crate) fn label(&self, key: &str) -> Option<&Arc<str>> {
        find(&self.labels, key)
    }
}

/// The value of a label.
pub(crate) fn find<'l>(labels: &'l Labels, key: &str) -> Option<&'l Arc<str>> {
    labels.iter().find(|(own, _)| &**own == key).map(|(_, value)| value)
}

//! The waypoint before each service and workload: `istio.io/use-waypoint`.
//!
//! A service that is to have a waypoint is never reached past it: the label names a Gateway there is, or the files are
//! refused; and a node refuses connections to the service while none of the Gateway's workloads can be used.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ringway_engine::snapshot::{
    GatewayAddress, GatewayDestination, NamespacedHostname, NetworkAddress, WeightedWaypoint,
};

use super::objects::{Addressed, GatewayObject, GatewayObjects, SpokenAtListener};
use crate::source::chunks::Chunks;
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::kubernetes::CANARY_WEIGHT;
use crate::source::node::config::NodeConfig;
use crate::source::objects::{
    Labels, NamespaceObject, ServiceAccountObject, ServiceObject, Template, Unreadable,
    WorkloadObject, find,
};

/// Which Gateway stands before an object; `none`: none does, whatever its namespace says.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";
const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// A second one, for a part of the connections.
const CANARY: &str = "istio.io/use-waypoint-canary";
const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
/// Whether ingress goes through the waypoint, too.
const INGRESS: &str = "istio.io/ingress-use-waypoint";
/// What a waypoint is for: `service`, `workload`, `all` or `none`.
const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// Of whose Gateway a workload is.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The port of tunnels when a Gateway has no listener for them.
const HBONE_PORT: u16 = 15008;

/// Everything that is given of a load.
pub(crate) struct Placed<'o, 'w> {
    pub(crate) gateways: &'o GatewayObjects,
    pub(crate) namespaces: &'o [NamespaceObject],
    pub(crate) accounts: &'o [ServiceAccountObject],
    pub(crate) services: &'o [ServiceObject],
    pub(crate) workloads: &'w Chunks<WorkloadObject>,
    pub(crate) unreadable: &'o Unreadable,
    pub(crate) own: &'o NodeConfig,
}

/// All waypoints, and who has which by its namespace.
pub(crate) struct Waypoints<'o> {
    /// By `namespace/name`.
    known: BTreeMap<String, Waypoint<'o>>,
    namespaces: HashMap<&'o str, Namespace<'o>>,
    /// By namespace and name; only those that say something.
    accounts: HashMap<(&'o str, &'o str), Bound>,
    unreadable: &'o Unreadable,
}

/// A Gateway as a waypoint.
struct Waypoint<'o> {
    object: &'o GatewayObject,
    for_services: bool,
    for_workloads: bool,
    /// Where it is; of several, each gets its share.
    at: Vec<GatewayAddress>,
}

struct Namespace<'o> {
    labels: &'o Labels,
    bound: Bound,
}

/// What the labels of an object come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Bound {
    /// They say nothing.
    #[default]
    Unsaid,
    /// No waypoint.
    OptedOut,
    /// This one.
    To { primary: String, canary: Option<(String, u32)> },
}

/// What a service has before it.
#[derive(Default)]
pub(crate) struct BeforeService {
    pub(crate) waypoint: Option<GatewayAddress>,
    pub(crate) weighted: Box<[WeightedWaypoint]>,
    pub(crate) ingress: bool,
    /// Namespace and name of the Gateway.
    #[cfg_attr(not(feature = "waypoint"), expect(dead_code, reason = "only L7 is told of it"))]
    pub(crate) gateway: Option<(Arc<str>, Arc<str>)>,
}

/// What a waypoint is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Service,
    Workload,
    /// Of a namespace: whichever it is for.
    Either,
}

impl<'o> Waypoints<'o> {
    pub(crate) fn new(placed: &Placed<'o, '_>, reporter: &mut Reporter) -> Waypoints<'o> {
        let mut known = BTreeMap::new();
        for object in &placed.gateways.gateways {
            let (for_services, for_workloads) = traffic(object, placed.gateways, reporter);
            let at = placed.addresses(object);
            known.insert(
                path(&object.namespace, &object.name),
                Waypoint { object, for_services, for_workloads, at },
            );
        }
        let mut waypoints = Waypoints {
            known,
            namespaces: HashMap::new(),
            accounts: HashMap::new(),
            unreadable: placed.unreadable,
        };
        // Which namespaces a waypoint admits depends on their labels.
        for each in placed.namespaces {
            let namespace = Namespace { labels: &each.labels, bound: Bound::Unsaid };
            waypoints.namespaces.insert(&each.name, namespace);
        }
        for each in placed.namespaces {
            let said = Said {
                place: each.place,
                namespace: &each.name,
                labels: &each.labels,
                annotations: &each.annotations,
                purpose: Purpose::Either,
            };
            let bound = waypoints.bound(&said, reporter);
            if let Some(namespace) = waypoints.namespaces.get_mut(&*each.name) {
                namespace.bound = bound;
            }
        }
        for each in placed.accounts {
            let said = Said {
                place: each.place,
                namespace: &each.namespace,
                labels: &each.labels,
                annotations: &Labels::default(),
                purpose: Purpose::Workload,
            };
            let bound = waypoints.bound(&said, reporter);
            if bound != Bound::Unsaid {
                waypoints.accounts.insert((&each.namespace, &each.name), bound);
            }
        }
        waypoints
    }

    /// What stands before a Service.
    pub(crate) fn of_service(
        &self,
        service: &ServiceObject,
        reporter: &mut Reporter,
    ) -> BeforeService {
        let said = Said {
            place: service.place,
            namespace: &service.namespace,
            labels: &service.labels,
            annotations: &service.annotations,
            purpose: Purpose::Service,
        };
        let own = self.bound(&said, reporter);
        let namespace = self.namespaces.get(&*service.namespace);
        // A waypoint's own Service leads to the waypoint.
        if service.hostname.is_none()
            && self.known.contains_key(&path(&service.namespace, &service.name))
        {
            return BeforeService::default();
        }
        let ingress = find(&service.labels, INGRESS)
            .or_else(|| find(namespace?.labels, INGRESS))
            .is_some_and(|value| &**value == "true");
        let inherited = namespace.map_or(&Bound::Unsaid, |namespace| &namespace.bound);
        let bound = if own == Bound::Unsaid { inherited } else { &own };
        let Bound::To { primary, canary } = bound else { return BeforeService::default() };
        let Some(primary) = self.known.get(primary).filter(|waypoint| waypoint.for_services) else {
            return BeforeService::default();
        };
        let canary = canary.as_ref().and_then(|(path, weight)| {
            let canary = self.known.get(path).filter(|waypoint| waypoint.for_services)?;
            Some((canary, *weight))
        });
        let gateway = Some((primary.object.namespace.clone(), primary.object.name.clone()));
        BeforeService { gateway, ..primary.before(canary, ingress) }
    }

    /// The waypoint of a workload for connections to its own address.
    pub(crate) fn of_workload(
        &self,
        object: &WorkloadObject,
        reporter: &mut Reporter,
    ) -> Option<GatewayAddress> {
        let Template { namespace, labels, service_account, .. } = &*object.template;
        let said = Said {
            place: object.place,
            namespace,
            labels,
            annotations: &Labels::default(),
            purpose: Purpose::Workload,
        };
        let own = self.bound(&said, reporter);
        let of_account = self.accounts.get(&(&**namespace, &**service_account));
        let of_namespace = || self.namespaces.get(&**namespace).map(|namespace| &namespace.bound);
        let inherited = || of_account.or_else(of_namespace);
        let bound = if own == Bound::Unsaid { inherited()? } else { &own };
        let Bound::To { primary, .. } = bound else { return None };
        let waypoint = self.known.get(primary).filter(|waypoint| waypoint.for_workloads)?;
        let is_itself = find(labels, GATEWAY_NAME).is_some()
            || waypoint.at.iter().any(|at| is_at(at, object.addresses.as_slice()));
        waypoint.at.first().filter(|_| !is_itself).cloned()
    }

    /// What the labels of an object say; what they say wrong is reported.
    fn bound(&self, said: &Said<'_>, reporter: &mut Reporter) -> Bound {
        let Some(name) = find(said.labels, USE_WAYPOINT).filter(|name| !name.is_empty()) else {
            if find(said.labels, CANARY).is_some() {
                let message =
                    format!("the label `{CANARY}` means nothing without `{USE_WAYPOINT}`");
                reporter.report(Problem::error(said.place, message));
            }
            return Bound::Unsaid;
        };
        if &**name == "none" {
            return Bound::OptedOut;
        }
        let namespace_of = |label| find(said.labels, label).map_or(said.namespace, |name| &**name);
        let primary = self.named(namespace_of(USE_WAYPOINT_NAMESPACE), name, said, reporter);
        let canary = find(said.labels, CANARY).and_then(|name| {
            let canary = self.named(namespace_of(CANARY_NAMESPACE), name, said, reporter)?;
            Some((canary, canary_weight(said, reporter)))
        });
        match primary {
            Some(primary) => Bound::To { primary, canary },
            None => Bound::OptedOut,
        }
    }

    /// The Gateway a label names, if there is one that may be named.
    fn named(
        &self,
        namespace: &str,
        name: &str,
        said: &Said<'_>,
        reporter: &mut Reporter,
    ) -> Option<String> {
        let path = path(namespace, name);
        let Some(waypoint) = self.known.get(&path) else {
            if !self.may_be_unreadable(namespace, name) {
                let message = format!(
                    "the label `{USE_WAYPOINT}` names the Gateway `{name}`, which the namespace `{namespace}` does not have"
                );
                let names = self
                    .known
                    .keys()
                    .filter_map(|path| path.strip_prefix(namespace)?.strip_prefix('/'));
                let help = did_you_mean(name, names).or_else(|| {
                    Some("without the waypoint nobody could connect; add it, or say `none`".into())
                });
                reporter.report(Problem::error(said.place, message).help(help));
            }
            return None;
        };
        self.report_not_for(waypoint, said, reporter);
        let labels = self.namespace_labels(said.namespace);
        if !waypoint.admits(said.namespace, &labels) {
            let message =
                format!("the waypoint `{path}` does not admit the namespace `{}`", said.namespace);
            let help =
                "its listener says which, under `allowedRoutes.namespaces`; else it is for its own"
                    .to_owned();
            let problem = Problem::error(said.place, message).help(help);
            reporter.report(problem.related(waypoint.object.place, "the waypoint"));
        }
        Some(path)
    }

    fn report_not_for(&self, waypoint: &Waypoint<'_>, said: &Said<'_>, reporter: &mut Reporter) {
        let (fits, what) = match said.purpose {
            Purpose::Service => (waypoint.for_services, "services"),
            Purpose::Workload => (waypoint.for_workloads, "workloads"),
            Purpose::Either => return,
        };
        if !fits {
            let message = format!("the waypoint `{}` is not for {what}", waypoint.object.name);
            let help =
                format!("its label `{WAYPOINT_FOR}` says what it is for: `service`, unless given");
            let problem = Problem::error(said.place, message).help(help);
            reporter.report(problem.related(waypoint.object.place, "the waypoint"));
        }
    }

    fn may_be_unreadable(&self, namespace: &str, name: &str) -> bool {
        let Unreadable { names, nameless, files } = self.unreadable;
        *nameless || *files || names.iter().any(|(a, b)| (&**a, &**b) == (namespace, name))
    }

    fn namespace_labels(&self, namespace: &str) -> Labels {
        let given = self.namespaces.get(namespace).map(|namespace| namespace.labels);
        with_name(given, namespace)
    }
}

/// The labels of a namespace, with the one that Kubernetes gives every namespace.
pub(super) fn with_name(given: Option<&Labels>, namespace: &str) -> Labels {
    const NAME: &str = "kubernetes.io/metadata.name";
    let mut labels: Vec<(Arc<str>, Arc<str>)> = given.map_or_else(Vec::new, |own| own.to_vec());
    if !labels.iter().any(|(key, _)| &**key == NAME) {
        labels.push((NAME.into(), namespace.into()));
    }
    labels.into()
}

/// An object and its labels.
struct Said<'s> {
    place: Place,
    namespace: &'s str,
    labels: &'s Labels,
    annotations: &'s Labels,
    purpose: Purpose,
}

fn canary_weight(said: &Said<'_>, reporter: &mut Reporter) -> u32 {
    let Some(text) = find(said.annotations, CANARY_WEIGHT) else { return 0 };
    match text.parse().ok().filter(|weight| *weight <= 100) {
        Some(weight) => weight,
        None => {
            let message = format!(
                "the annotation `{CANARY_WEIGHT}` is {text:?}, expected a number from 0 to 100"
            );
            reporter.report(Problem::error(said.place, message));
            0
        }
    }
}

/// Whether a waypoint is for services, and for workloads.
fn traffic(
    object: &GatewayObject,
    objects: &GatewayObjects,
    reporter: &mut Reporter,
) -> (bool, bool) {
    let class = objects.classes.iter().find(|class| class.name == object.class);
    let own = find(&object.labels, WAYPOINT_FOR).map(|value| (value, object.place));
    let said = own.or_else(|| {
        class.and_then(|class| Some((find(&class.labels, WAYPOINT_FOR)?, class.place)))
    });
    match said.map(|(value, place)| (&**value, place)) {
        None | Some(("service", _)) => (true, false),
        Some(("workload", _)) => (false, true),
        Some(("all", _)) => (true, true),
        Some(("none", _)) => (false, false),
        Some((other, place)) => {
            let message = format!(
                "the label `{WAYPOINT_FOR}` is {other:?}, expected `service`, `workload`, `all` or `none`"
            );
            let help = did_you_mean(other, ["service", "workload", "all", "none"]);
            reporter.report(Problem::error(place, message).help(help));
            (true, false)
        }
    }
}

impl Placed<'_, '_> {
    /// Where a Gateway is: where it says, else where the Service of its name leads, else its workloads.
    fn addresses(&self, gateway: &GatewayObject) -> Vec<GatewayAddress> {
        let port = hbone_port(gateway);
        let at = |destination| GatewayAddress { destination, hbone_mtls_port: port };
        let given = gateway.addresses.iter().filter_map(|address| match address {
            Addressed::Ip(ip) => Some(at(self.address(None, *ip))),
            Addressed::Hostname(name) => {
                let name = NamespacedHostname::new(gateway.namespace.clone(), name.clone());
                Some(at(GatewayDestination::Hostname(name)))
            }
            Addressed::Other(_) => None,
        });
        let given: Vec<GatewayAddress> = given.collect();
        if !given.is_empty() {
            return given;
        }
        let service = self.services.iter().find(|service| {
            service.hostname.is_none()
                && (&service.namespace, &service.name) == (&gateway.namespace, &gateway.name)
        });
        let workloads = || self.workloads_of(gateway).map(at).collect::<Vec<_>>();
        match service.filter(|service| service.ports.iter().any(|each| each.number == port)) {
            Some(_) => vec![at(self.service_of(gateway))],
            None => Some(workloads())
                .filter(|found| !found.is_empty())
                // Nobody is it: connections are refused by this name.
                .unwrap_or_else(|| vec![at(self.service_of(gateway))]),
        }
    }

    fn service_of(&self, gateway: &GatewayObject) -> GatewayDestination {
        let GatewayObject { name, namespace, .. } = gateway;
        let hostname = format!("{name}.{namespace}.svc.{}", self.own.cluster_domain);
        GatewayDestination::Hostname(NamespacedHostname::new(namespace.clone(), hostname))
    }

    fn workloads_of(&self, gateway: &GatewayObject) -> impl Iterator<Item = GatewayDestination> {
        self.workloads.iter().filter_map(|(_, workload)| {
            let Template { namespace, labels, network, ready, .. } = &*workload.template;
            let is_of = *namespace == gateway.namespace
                && find(labels, GATEWAY_NAME).is_some_and(|name| *name == gateway.name);
            let ip = workload.addresses.as_slice().first().filter(|_| is_of && *ready)?;
            Some(self.address(network.as_deref(), *ip))
        })
    }

    fn address(&self, network: Option<&str>, ip: IpAddr) -> GatewayDestination {
        let network = network.unwrap_or(&self.own.network);
        GatewayDestination::Address(NetworkAddress::new(network, ip))
    }
}

fn hbone_port(gateway: &GatewayObject) -> u16 {
    let mut listeners = gateway.listeners.iter();
    let tunnels = listeners.find(|listener| listener.protocol == SpokenAtListener::Hbone);
    tunnels.map_or(HBONE_PORT, |listener| listener.port)
}

impl Waypoint<'_> {
    /// Whether objects of a namespace may have it as their waypoint: each listener for tunnels may say so.
    fn admits(&self, namespace: &str, labels: &Labels) -> bool {
        let own = &self.object.namespace;
        let mut tunnels = self
            .object
            .listeners
            .iter()
            .filter(|listener| listener.protocol == SpokenAtListener::Hbone);
        **own == *namespace
            || tunnels.any(|listener| listener.from.admits(own, namespace, Some(labels)))
    }

    fn before(&self, canary: Option<(&Waypoint<'_>, u32)>, ingress: bool) -> BeforeService {
        let waypoint = self.at.first().cloned();
        let rest = canary.map_or(100, |(_, weight)| 100 - weight);
        if canary.is_none() && self.at.len() == 1 {
            return BeforeService { waypoint, ingress, ..BeforeService::default() };
        }
        let mut weighted = self.share(rest);
        if let Some((canary, weight)) = canary {
            // Shares stay comparable when the two have different numbers of places.
            let (own, other) = (self.at.len() as u32, canary.at.len() as u32);
            weighted.iter_mut().for_each(|each| each.weight *= other);
            let shares = canary.share(weight).into_iter();
            weighted
                .extend(shares.map(|each| WeightedWaypoint { weight: each.weight * own, ..each }));
        }
        BeforeService { waypoint, weighted: weighted.into(), ingress, gateway: None }
    }

    fn share(&self, weight: u32) -> Vec<WeightedWaypoint> {
        let each = |at: &GatewayAddress| WeightedWaypoint { destination: at.clone(), weight };
        self.at.iter().map(each).collect()
    }
}

fn is_at(at: &GatewayAddress, addresses: &[IpAddr]) -> bool {
    matches!(&at.destination, GatewayDestination::Address(own) if addresses.contains(&own.ip))
}

fn path(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

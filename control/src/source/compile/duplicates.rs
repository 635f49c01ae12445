//! What may be there only once: names, addresses of workloads, virtual addresses of a namespace.

use std::fmt::Display;
use std::net::IpAddr;

use super::nodes::Nodes;
use crate::source::chunks::Chunks;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::documents::Objects;
use crate::source::gateway;
use crate::source::local::LocalObjects;
use crate::source::objects::{ServiceObject, WorkloadObject};

pub(super) fn report(
    objects: &Objects,
    local: &LocalObjects,
    nodes: &Nodes<'_>,
    reporter: &mut Reporter,
) {
    let mut twice = Twice { reporter };
    twice.names("Nodes", objects.nodes.iter().map(|each| (&each.config.name, each.place)));
    twice.names("Namespaces", objects.namespaces.iter().map(|each| (&each.name, each.place)));
    twice.paths(
        "Services",
        of_cluster(objects).map(|each| ((&each.namespace, &each.name), each.place)),
    );
    twice.paths(
        "PeerAuthentications",
        objects.peer_authentications.iter().map(|each| ((&each.namespace, &each.name), each.place)),
    );
    let authorizations = objects.authorizations.iter().map(|each| (each.place, &each.policy));
    let policies = authorizations.chain(local.policies.iter().map(|(place, each)| (*place, each)));
    twice.paths("policies", policies.map(|(place, each)| ((&each.namespace, &each.name), place)));
    gateway::paths(&objects.gateway, |what, names| twice.paths(what, names.into_iter()));
    twice.workload_names(&objects.workloads);
    twice.workload_addresses(&objects.workloads, nodes);
    twice.all(virtual_addresses(objects), |(namespace, ip)| {
        format!("two Services of the namespace `{namespace}` have the address {ip}")
    });
}

fn virtual_addresses(objects: &Objects) -> impl Iterator<Item = ((&str, IpAddr), Place)> {
    of_cluster(objects).flat_map(|service| {
        service.addresses.iter().map(|(ip, place)| ((&*service.namespace, *ip), *place))
    })
}

/// Hosts of ServiceEntries have names of others, and may share addresses; of one name there is one all the same.
fn of_cluster(objects: &Objects) -> impl Iterator<Item = &ServiceObject> {
    objects.services.iter().filter(|service| service.hostname.is_none())
}

struct Twice<'r> {
    reporter: &'r mut Reporter,
}

impl Twice<'_> {
    fn names<K: Ord + Display>(&mut self, what: &str, each: impl Iterator<Item = (K, Place)>) {
        self.all(each, |name| format!("two {what} are named `{name}`"));
    }

    fn paths<N: Ord + Display, K: Ord + Display>(
        &mut self,
        what: &str,
        each: impl Iterator<Item = ((N, K), Place)>,
    ) {
        self.all(each, |(namespace, name)| format!("two {what} are named `{namespace}/{name}`"));
    }

    fn all<K: Ord>(
        &mut self,
        each: impl Iterator<Item = (K, Place)>,
        message: impl Fn(&K) -> String,
    ) {
        let mut sorted: Vec<(K, Place)> = each.collect();
        sorted.sort_unstable();
        for pair in sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            self.report(message(&pair[1].0), pair[1].1, pair[0].1);
        }
    }

    /// Of 150,000 workloads only the numbers are sorted.
    fn workload_names(&mut self, workloads: &Chunks<WorkloadObject>) {
        let key = |index: u32| {
            let (name, WorkloadObject { template, place, .. }) = workloads.at(index as usize);
            (&template.namespace, name, *place)
        };
        let mut sorted: Vec<u32> = (0..workloads.len() as u32).collect();
        sorted.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)));
        for pair in sorted.windows(2) {
            let ((namespace, name, place), (other_namespace, other_name, other)) =
                (key(pair[1]), key(pair[0]));
            if (namespace, name) == (other_namespace, other_name) {
                let message = format!("two workloads are named `{namespace}/{name}`");
                self.report(message, place, other);
            }
        }
    }

    /// An address of its host says nothing about a workload, and several services may list one endpoint. Addresses are compared part by part of all that are
    /// possible, so that there is never a list of all that there are.
    fn workload_addresses(&mut self, workloads: &Chunks<WorkloadObject>, nodes: &Nodes<'_>) {
        let mut sorted: Vec<(IpAddr, u32)> = Vec::new();
        for part in 0..PARTS {
            sorted.clear();
            for (index, (_, workload)) in (0..).zip(workloads.iter()) {
                let addresses = workload.addresses.as_slice().iter();
                let template = &workload.template;
                let is_own = !template.host_network && template.listed_by.is_none();
                let own = addresses.filter(|ip| is_own && part_of(**ip) == part);
                sorted.extend(own.map(|ip| (*ip, index)));
            }
            sorted.sort_unstable();
            for same in sorted.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
                self.one_address(same, workloads, nodes);
            }
        }
    }

    /// On several networks one address is several.
    fn one_address(
        &mut self,
        same: &[(IpAddr, u32)],
        workloads: &Chunks<WorkloadObject>,
        nodes: &Nodes<'_>,
    ) {
        let ip = same[0].0;
        let mut same: Vec<(&str, Place)> = same
            .iter()
            .map(|(_, index)| workloads.at(*index as usize))
            .map(|(name, workload)| (network(name, workload, nodes), workload.place))
            .collect();
        same.sort_unstable();
        for pair in same.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let message = format!("two workloads have the address {ip}");
            self.report(message, pair[1].1, pair[0].1);
        }
    }

    fn report(&mut self, message: String, place: Place, other: Place) {
        self.reporter.report(Problem::error(place, message).related(other, "the other one"));
    }
}

/// Parts into which addresses are divided.
const PARTS: u8 = 16;

fn part_of(ip: IpAddr) -> u8 {
    let last = match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    last % PARTS
}

fn network<'o>(name: &str, workload: &'o WorkloadObject, nodes: &'o Nodes<'_>) -> &'o str {
    let capture = nodes.capture(&workload.template.namespace, name);
    match &workload.template.network {
        Some(network) => network,
        None => &nodes.placement(capture).config.network,
    }
}

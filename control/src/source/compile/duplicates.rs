//! What may be there only once: names, addresses of workloads, virtual addresses of a namespace.

use std::fmt::Display;
use std::net::IpAddr;

use super::nodes::Nodes;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::local::LocalObjects;
use crate::source::objects::Objects;

pub(super) fn report(
    objects: &Objects,
    local: &LocalObjects,
    nodes: &Nodes<'_>,
    reporter: &mut Reporter,
) {
    let named = objects.nodes.iter().map(|node| (&node.config.name, node.place));
    twice(named, |name| format!("two Nodes are named `{name}`"), reporter);
    let named = objects.namespaces.iter().map(|namespace| (&namespace.name, namespace.place));
    twice(named, |name| format!("two Namespaces are named `{name}`"), reporter);

    let named =
        objects.workloads.iter().map(|each| ((&each.template.namespace, &each.name), each.place));
    twice(named, |name| format!("two workloads are named {}", path(name)), reporter);
    let named = objects.services.iter().map(|each| ((&each.namespace, &each.name), each.place));
    twice(named, |name| format!("two Services are named {}", path(name)), reporter);

    twice(
        workload_addresses(objects, nodes),
        |(_, ip)| format!("two workloads have the address {ip}"),
        reporter,
    );
    twice(
        virtual_addresses(objects),
        |(namespace, ip)| {
            format!("two Services of the namespace `{namespace}` have the address {ip}")
        },
        reporter,
    );

    let uids = local.workloads.iter().map(|(place, workload)| (workload.uid(), *place));
    twice(uids, |uid| format!("two workloads have the uid `{uid}`"), reporter);
    let names = local
        .services
        .iter()
        .map(|(place, service)| ((service.namespace(), service.hostname()), *place));
    twice(names, |name| format!("two services are named {}", path(name)), reporter);
    let names =
        local.policies.iter().map(|(place, policy)| ((&policy.namespace, &policy.name), *place));
    twice(names, |name| format!("two policies are named {}", path(name)), reporter);
}

fn path((namespace, name): &(impl Display, impl Display)) -> String {
    format!("`{namespace}/{name}`")
}

/// An address of its host says nothing about a workload.
fn workload_addresses<'o>(
    objects: &'o Objects,
    nodes: &'o Nodes<'_>,
) -> impl Iterator<Item = ((&'o str, IpAddr), Place)> {
    let own = objects.workloads.iter().filter(|each| !each.template.host_network);
    own.flat_map(|each| {
        let capture = nodes.capture(&each.template.namespace, &each.name);
        let network: &str = match &each.template.network {
            Some(network) => network,
            None => &nodes.placement(capture).config.network,
        };
        each.addresses.as_slice().iter().map(move |ip| ((network, *ip), each.place))
    })
}

fn virtual_addresses(objects: &Objects) -> impl Iterator<Item = ((&str, IpAddr), Place)> {
    objects.services.iter().flat_map(|service| {
        service.addresses.iter().map(|(ip, place)| ((&*service.namespace, *ip), *place))
    })
}

fn twice<K: Ord>(
    each: impl Iterator<Item = (K, Place)>,
    message: impl Fn(&K) -> String,
    reporter: &mut Reporter,
) {
    let mut sorted: Vec<(K, Place)> = each.collect();
    sorted.sort_unstable();
    for pair in sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let problem = Problem::error(pair[1].1, message(&pair[1].0));
        reporter.report(problem.related(pair[0].1, "the other one"));
    }
}

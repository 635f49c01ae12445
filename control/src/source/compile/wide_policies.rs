//! Policies for a whole namespace in which nobody is for whom they could be enforced: its name is mistyped, or nobody there
//! is in the mesh.
//!
//! A namespace that a `Namespace` object describes may be empty: its workloads are yet to come, or in files of other hosts.
//! And as long as nobody at all is in the mesh, there is nothing to compare with.

use std::collections::BTreeSet;

use ringway_engine::snapshot::TunnelProtocol;

use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::objects::NamespaceObject;
use crate::source::security::{AuthorizationObject, PeerAuthenticationObject};
use crate::source::world::World;

/// The objects that say it.
pub(super) struct WidePolicies<'o> {
    pub(super) authorizations: &'o [AuthorizationObject],
    pub(super) peer_authentications: &'o [PeerAuthenticationObject],
    pub(super) namespaces: &'o [NamespaceObject],
    pub(super) root_namespace: &'o str,
}

/// Reports them, once every workload is in the world.
pub(super) fn report(objects: &WidePolicies<'_>, world: &World, reporter: &mut Reporter) {
    let root_namespace = objects.root_namespace;
    let wide: Vec<Wide<'_>> =
        wide_policies(objects).filter(|wide| wide.namespace != root_namespace).collect();
    // Who is missing may be in what could not be read.
    if wide.is_empty() || reporter.has_errors() {
        return;
    }
    let populated = Populated::of(world);
    if populated.in_mesh.is_empty() {
        return;
    }
    for Wide { place, name, namespace } in wide {
        let is_described = || objects.namespaces.iter().any(|one| *one.name == *namespace);
        let (whom, help) = if populated.in_mesh.contains(namespace) {
            continue;
        } else if populated.outside.contains(namespace) {
            ("only workloads outside the mesh, for whom nobody enforces it", None)
        } else if is_described() {
            continue;
        } else {
            let known = populated.in_mesh.iter().copied().chain([root_namespace]);
            let help = did_you_mean(namespace, known).unwrap_or_else(|| {
                "where its workloads are yet to come, a `Namespace` says so".to_owned()
            });
            ("no workload", Some(help))
        };
        let message = format!("`{name}` is for the namespace `{namespace}`, which has {whom}");
        reporter.report(Problem::warning(place, message).help(help));
    }
}

/// A policy without a selector.
struct Wide<'o> {
    place: Place,
    name: &'o str,
    namespace: &'o str,
}

fn wide_policies<'o>(objects: &WidePolicies<'o>) -> impl Iterator<Item = Wide<'o>> {
    let authorizations = objects.authorizations.iter().filter(|one| one.selector.is_none());
    let authorizations = authorizations.map(|one| Wide {
        place: one.place,
        name: &one.policy.name,
        namespace: &one.policy.namespace,
    });
    let peers = objects.peer_authentications.iter().filter(|one| one.selector.is_none());
    authorizations.chain(peers.map(|one| Wide {
        place: one.place,
        name: &one.name,
        namespace: &one.namespace,
    }))
}

/// The namespaces in which somebody is.
#[derive(Default)]
struct Populated<'w> {
    in_mesh: BTreeSet<&'w str>,
    outside: BTreeSet<&'w str>,
}

impl<'w> Populated<'w> {
    fn of(world: &'w World) -> Self {
        let mut populated = Self::default();
        for workload in world.snapshot().workloads() {
            let namespaces = match workload.protocol() {
                TunnelProtocol::Hbone => &mut populated.in_mesh,
                TunnelProtocol::Tcp => &mut populated.outside,
            };
            if !namespaces.contains(workload.namespace()) && world.describes(workload) {
                namespaces.insert(workload.namespace());
            }
        }
        populated
    }
}

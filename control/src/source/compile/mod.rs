//! What the objects of a load mean together.
//!
//! First who is meant (this node, the captured workloads), then what must not be (two of one name, one address for
//! two), then the snapshot: every workload with the services and policies that select it, every service, every policy, and
//! what local files say.

mod duplicates;
mod label_index;
mod local;
mod mutual_tls;
mod nodes;
mod policies;
pub(super) mod selectors;
mod services;
mod wide_policies;
mod workloads;

use std::collections::BTreeSet;

use ringway_engine::snapshot::{Settings, TunnelProtocol};
#[cfg(feature = "waypoint")]
use ringway_http::model::GatewayName;

use super::diagnostics::{Problem, Reporter};
use super::documents::Documents;
#[cfg(feature = "waypoint")]
use super::gateway;
use super::gateway::{Placed, Waypoints};
use super::mesh::MeshConfig;
use super::node::NodeDocument;
use super::node::config::NodeConfig;
#[cfg(feature = "waypoint")]
use super::policy::report_unenforced;
use super::world::World;
use super::{Diagnostics, NamedFiles};
use nodes::Nodes;
use policies::Policies;
use selectors::Selectors;
use services::service;
use wide_policies::WidePolicies;
use workloads::Workloads;

/// Makes the best of `documents`; what is wrong is reported, and then the result is not to be used.
pub(crate) fn compile(
    documents: Documents,
    node: Option<&str>,
    named_files: NamedFiles,
    reporter: &mut Reporter,
) -> MeshConfig {
    let Documents { context, objects, local, mut world, .. } = documents;
    let mut nodes = Nodes::new(&objects.nodes, node, reporter);
    let own = nodes.own().clone();
    duplicates::report(&objects, &local, &nodes, reporter);

    if named_files == NamedFiles::Read {
        nodes.report_revocation_lists(reporter);
    }
    nodes.report_captured(&world, reporter);
    let domains = trust_domains(&objects.nodes, &own, &world);
    Policies::report_trust_domains(&objects.authorizations, &domains, reporter);
    let mut selectors = Selectors::new(&objects.services, &own.cluster_domain);
    let mut policies = Policies::new(
        &objects.authorizations,
        &objects.peer_authentications,
        &own.root_namespace,
        reporter,
    );
    let workloads = Workloads::new(&objects.namespaces, reporter);
    let waypoints = Waypoints::new(
        &Placed {
            gateways: &objects.gateway,
            namespaces: &objects.namespaces,
            accounts: &objects.accounts,
            services: &objects.services,
            workloads: &objects.workloads,
            unreadable: &objects.unreadable,
            own: &own,
        },
        reporter,
    );
    objects.workloads.consume(|name, object| {
        let services = selectors.memberships(&object.template);
        let capture = nodes.capture(&object.template.namespace, name);
        let placement = nodes.placement(capture);
        let mut description = workloads.description(name, object, placement, services, reporter);
        let in_mesh = description.protocol == TunnelProtocol::Hbone;
        description.waypoint = waypoints.of_workload(object, reporter);
        description.authorization_policies = policies.names(&object.template, in_mesh);
        nodes.found(capture, &description.uid);
        if let Err(error) = world.add_workload(description, object.place, reporter) {
            reporter.report(Problem::error(object.place, error.to_string()));
        }
    });
    selectors.report(reporter);
    policies.report(reporter);
    #[cfg(feature = "waypoint")]
    let mut fronted = Vec::new();
    for object in &objects.services {
        let before = waypoints.of_service(object, reporter);
        #[cfg(feature = "waypoint")]
        fronted.extend(before.gateway.clone().map(|(namespace, name)| gateway::Fronted {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            waypoint: GatewayName { namespace, name },
        }));
        world.add_service(service(object, &own, before), object.place, reporter);
    }
    policies.report_unreached(&world, reporter);
    let wide = WidePolicies {
        authorizations: &objects.authorizations,
        peer_authentications: &objects.peer_authentications,
        namespaces: &objects.namespaces,
        root_namespace: &own.root_namespace,
    };
    wide_policies::report(&wide, &world, reporter);
    policies.add(&mut world);
    #[cfg(feature = "waypoint")]
    let compiled = {
        let given = gateway::Given {
            services: &objects.services,
            namespaces: &objects.namespaces,
            gateway: &objects.gateway,
            policies: &objects.policies,
            root_namespace: &own.root_namespace,
            local: &local,
            cluster_domain: &own.cluster_domain,
            fronted: &fronted,
        };
        // What dangles may be in what could not be read.
        match reporter.has_errors() {
            true => gateway::HttpCompiled::default(),
            false => gateway::compile(&given, reporter),
        }
    };
    local::add(local, &mut world, reporter);
    #[cfg(feature = "waypoint")]
    let unenforced =
        report_unenforced(&objects.policies, &compiled.http.policies, world.snapshot(), reporter);
    nodes.report_dangling(world.snapshot(), &objects.unreadable, reporter);
    // Until here the addresses of templates were keys.
    drop(context);
    let snapshot = world.finish(settings(&own));
    let enrollments = nodes.into_enrollments(&snapshot);
    MeshConfig {
        node: own,
        snapshot,
        enrollments,
        warnings: Diagnostics::default(),
        #[cfg(feature = "waypoint")]
        http: compiled.http,
        #[cfg(feature = "waypoint")]
        status: compiled.status,
        #[cfg(feature = "waypoint")]
        unenforced,
    }
}

/// Of which somebody of this mesh is.
fn trust_domains<'d>(
    nodes: &'d [NodeDocument],
    own: &'d NodeConfig,
    world: &'d World,
) -> BTreeSet<&'d str> {
    let nodes = nodes.iter().map(|node| &*node.config.trust_domain);
    let mut domains: BTreeSet<&str> = nodes.chain([&*own.trust_domain]).collect();
    if world.local_in_mesh() > 0 {
        let local = world.snapshot().workloads().filter(|each| world.describes(each));
        domains.extend(local.map(|each| each.trust_domain()));
    }
    domains
}

fn settings(own: &NodeConfig) -> Settings {
    let ports = own.ports;
    Settings {
        hbone_port: ports.tunnel,
        own_ports: vec![ports.outbound, ports.inbound, ports.tunnel],
        ..Settings::new(own.network.clone())
    }
}

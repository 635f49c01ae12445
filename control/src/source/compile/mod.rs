//! What the objects of a load mean together.
//!
//! First who is meant (this node, the captured workloads), then what must not be (two of one name, one address for
//! two), then the snapshot: every workload with the services that select it, every service, and what local files say.

mod duplicates;
mod local;
mod nodes;
mod selectors;
mod services;
mod workloads;

use ringway_engine::snapshot::Settings;

use super::Diagnostics;
use super::diagnostics::{Problem, Reporter};
use super::documents::Documents;
use super::mesh::MeshConfig;
use super::node::config::NodeConfig;
use nodes::Nodes;
use selectors::Selectors;
use services::service;
use workloads::Workloads;

/// Makes the best of `documents`; what is wrong is reported, and then the result is not to be used.
pub(crate) fn compile(
    documents: Documents,
    node: Option<&str>,
    reporter: &mut Reporter,
) -> MeshConfig {
    let Documents { context, objects, local, mut world } = documents;
    let mut nodes = Nodes::new(&objects.nodes, node, reporter);
    let own = nodes.own().clone();
    duplicates::report(&objects, &local, &nodes, reporter);

    nodes.report_captured(&world, reporter);
    let mut selectors = Selectors::new(&objects.services, &own.cluster_domain);
    let workloads = Workloads::new(&objects.namespaces, reporter);
    objects.workloads.consume(|name, object| {
        let services = selectors.memberships(&object.template);
        let capture = nodes.capture(&object.template.namespace, name);
        let placement = nodes.placement(capture);
        let description = workloads.description(name, object, placement, services, reporter);
        nodes.found(capture, &description.uid);
        if let Err(error) = world.add_workload(description, object.place, reporter) {
            reporter.report(Problem::error(object.place, error.to_string()));
        }
    });
    selectors.report(reporter);
    for object in &objects.services {
        world.add_service(service(object, &own), object.place, reporter);
    }
    local::add(local, &mut world, reporter);
    nodes.report_dangling(world.snapshot(), &objects.unreadable, reporter);
    // Until here the addresses of templates were keys.
    drop(context);
    let snapshot = world.finish(settings(&own));
    let enrollments = nodes.into_enrollments(&snapshot);
    MeshConfig { node: own, snapshot, enrollments, warnings: Diagnostics::default() }
}

fn settings(own: &NodeConfig) -> Settings {
    let ports = own.ports;
    Settings {
        hbone_port: ports.tunnel,
        own_ports: vec![ports.outbound, ports.inbound, ports.tunnel],
        ..Settings::new(own.network.clone())
    }
}

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

use ringway_engine::snapshot::{Settings, Snapshot};

use super::Diagnostics;
use super::config::NodeConfig;
use super::diagnostics::{Problem, Reporter};
use super::documents::Documents;
use super::mesh::MeshConfig;
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
    let Documents { context, objects, mut local } = documents;
    let mut nodes = Nodes::new(&objects.nodes, node, reporter);
    let own = nodes.own().clone();
    duplicates::report(&objects, &local, &nodes, reporter);

    let mut snapshot = Snapshot::new(&own.network);
    snapshot.set_settings(settings(&own));
    let mut selectors = Selectors::new(&objects.services, &own.cluster_domain);
    let workloads = Workloads::new(&objects.namespaces, reporter);
    for object in objects.workloads {
        let services = selectors.memberships(&object.template);
        let capture = nodes.capture(&object.template.namespace, &object.name);
        let description =
            workloads.description(&object, nodes.placement(capture), services, reporter);
        match local.interner.workload(description) {
            Ok(workload) => {
                nodes.found(capture, &workload);
                snapshot.upsert_workload(workload);
            }
            Err(error) => reporter.report(Problem::error(object.place, error.to_string())),
        }
    }
    selectors.report(reporter);
    for object in &objects.services {
        snapshot.upsert_service(service(object, &own, &mut local.interner));
    }
    let policies = local::add(local, &mut nodes, &mut snapshot, reporter);
    nodes.report_dangling(&snapshot, &objects.unreadable, reporter);
    drop(context);
    let enrollments = nodes.into_enrollments();
    MeshConfig { node: own, snapshot, enrollments, policies, warnings: Diagnostics::default() }
}

fn settings(own: &NodeConfig) -> Settings {
    let ports = own.ports;
    Settings {
        hbone_port: ports.tunnel,
        own_ports: vec![ports.outbound, ports.inbound, ports.tunnel],
        ..Settings::new(own.network.clone())
    }
}

//! What serves HTTP beside an arena's two proxies: a waypoint before a service, and a gateway that leads to it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};

use super::super::arena::{Arena, PATIENCE};
use super::super::trial::Trial;
use crate::http::get_from;
use crate::lab::{Process, Program, wait_until};

/// A process of its own in a pod of its own, on the host of the servers.
pub(super) struct Role {
    /// The verb that starts it, and the name of its Gateway and pod.
    pub(super) name: &'static str,
    pub(super) address: Ipv4Addr,
    class: &'static str,
    listener: &'static str,
}

pub(super) const WAYPOINT: Role = Role {
    name: "waypoint",
    address: Ipv4Addr::new(10, 2, 0, 20),
    class: "istio-waypoint",
    listener: "name: mesh, port: 15008, protocol: HBONE",
};

/// It listens on [`GATEWAY_PORT`].
pub(super) const GATEWAY: Role = Role {
    name: "gateway",
    address: Ipv4Addr::new(10, 2, 0, 21),
    class: "ringway",
    listener: "name: web, port: 8000, protocol: HTTP",
};
pub(super) const GATEWAY_PORT: u16 = 8000;

impl Role {
    /// Its Gateway and its pod.
    pub(super) fn documents(&self) -> String {
        let Role { name, address, class, listener } = self;
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
             spec: {{gatewayClassName: {class}, listeners: [{{{listener}}}]}}\n\
             ---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, labels: {{gateway.networking.k8s.io/gateway-name: {name}}}}}\n\
             spec: {{serviceAccountName: {name}}}\nstatus: {{podIP: {address}}}\n"
        )
    }

    /// Starts it in its pod.
    pub(super) fn start(&self, trial: &Trial<'_>, arena: &mut Arena) -> Result<Process> {
        let name = self.name;
        arena.lab.add_pod("host-b", name, self.address)?;
        let program = Program::new(&trial.settings.ringway)
            .arguments([name, "--name", &format!("default/{name}"), "--file"])
            .argument(arena.file())
            .arguments(["--node", "host-b", "--access-log", "off"]);
        arena.lab.start(name, name, &program)
    }
}

/// A service with a waypoint before it, of these ports of the pod `server`.
pub(super) fn behind_waypoint(
    name: &str,
    address: Ipv4Addr,
    ports: impl Iterator<Item = u16>,
) -> String {
    let ports: Vec<String> =
        ports.map(|port| format!("{{name: http-{port}, port: {port}}}")).collect();
    format!(
        "---\napiVersion: v1\nkind: Service\n\
         metadata: {{name: {name}, labels: {{istio.io/use-waypoint: {}}}}}\n\
         spec: {{clusterIP: {address}, selector: {{app: server}}, ports: [{}]}}\n",
        WAYPOINT.name,
        ports.join(", ")
    )
}

/// Waits until a pod's request for `path`, which is there, passes `process`.
pub(super) fn wait_for(
    arena: &Arena,
    process: &Process,
    (from, to): (&str, SocketAddr),
    path: &str,
) -> Result<()> {
    let passes = || get_from(arena.at(from), to, path).is_ok_and(|(status, _)| status == 200);
    wait_until(&format!("a request passes to {to}"), PATIENCE, passes).with_context(|| {
        let log = process.log();
        log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    })
}

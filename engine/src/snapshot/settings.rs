//! What this process is told about itself and decisions depend on.

use std::sync::Arc;

use super::local::Locals;

/// The facts about this process that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The network this process is on; empty for the only one.
    pub network: Arc<str>,
    /// Whose workloads the pods of this host may be.
    pub locals: Locals,
    /// The port of every proxy's HBONE service.
    pub hbone_port: u16,
    /// Ports of ours on which we must never call ourselves.
    pub own_ports: Vec<u16>,
    /// Whether an application tunnel with PROXY protocol is dialled over loopback rather than at the
    /// workload's address.
    pub application_tunnel_over_loopback: bool,
}

impl Settings {
    /// The usual ports, on this network.
    pub fn new(network: impl Into<Arc<str>>) -> Settings {
        Settings {
            network: network.into(),
            locals: Locals::Nobody,
            hbone_port: 15008,
            own_ports: vec![15001, 15006, 15008],
            application_tunnel_over_loopback: true,
        }
    }

    /// Whether a connection to this port of ours would come back to us.
    pub fn is_own_port(&self, port: u16) -> bool {
        self.own_ports.contains(&port)
    }
}

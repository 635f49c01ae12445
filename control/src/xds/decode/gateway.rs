//! Waypoints and gateways of networks.

use ringway_engine::snapshot::{
    GatewayAddress, GatewayDestination, NamespacedHostname, NetworkAddress,
};

use super::Rejection;
use super::values::{ip, nonempty, port};
use crate::proto::workload as told;
use crate::proto::workload::gateway_address::Destination;

/// A gateway that may be missing.
pub(super) fn optional(
    field: &'static str,
    gateway: Option<told::GatewayAddress>,
) -> Result<Option<GatewayAddress>, Rejection> {
    gateway.map(|gateway| read(field, gateway)).transpose()
}

pub(super) fn read(
    field: &'static str,
    gateway: told::GatewayAddress,
) -> Result<GatewayAddress, Rejection> {
    let destination = match gateway.destination {
        Some(Destination::Address(address)) => {
            let ip = ip(field, &address.address)?;
            GatewayDestination::Address(NetworkAddress::new(address.network, ip))
        }
        Some(Destination::Hostname(name)) => {
            let namespace = nonempty(field, name.namespace)?;
            let hostname = nonempty(field, name.hostname)?;
            GatewayDestination::Hostname(NamespacedHostname::new(namespace, hostname))
        }
        None => return Err(Rejection::Missing(field)),
    };
    let hbone_mtls_port = port(field, gateway.hbone_mtls_port)?;
    Ok(GatewayAddress { destination, hbone_mtls_port })
}

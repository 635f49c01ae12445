//! What a waypoint is asked for.

use std::{net::SocketAddr, sync::Arc};

use ringway_protocols::hbone::Authority;

use super::{
    inbound::{is_part_of, is_waypoint_of},
    refusal::Refusal,
};
use crate::snapshot::{Service, Snapshot, Workload};

/// What a waypoint stands before.
#[derive(Clone, Debug)]
pub enum Fronted {
    /// This port of a service.
    Service(Arc<Service>, u16),
    /// This address of a workload.
    Workload(Arc<Workload>, SocketAddr),
}

/// Decides what a CONNECT for `authority` that reached the waypoint `local` is for: a service, or a workload, that
/// names it as its waypoint, alone or among others.
///
/// # Errors
/// [`Refusal`] for everything else, with the status to answer.
pub fn fronted(
    snapshot: &Snapshot,
    local: &Workload,
    authority: &Authority,
) -> Result<Fronted, Refusal> {
    match authority {
        Authority::Address(address) => {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            by_address(snapshot, local, address)
        }
        Authority::Hostname { host, port } => {
            let ours = |service: &Service| is_waypoint_of(snapshot, service, local);
            match snapshot.service_by_hostname_if(host, local.namespace(), ours) {
                Some(service) => port_of(service, *port),
                None => Err(Refusal::NotFronted { authority: Box::new(authority.clone()) }),
            }
        }
    }
}

/// Whether `local` is a waypoint of a service, alone or among others.
pub fn fronts(snapshot: &Snapshot, service: &Service, local: &Workload) -> bool {
    is_waypoint_of(snapshot, service, local)
}

fn by_address(
    snapshot: &Snapshot,
    local: &Workload,
    address: SocketAddr,
) -> Result<Fronted, Refusal> {
    let network = local.network();
    // What is a workload's is not a service's: as the client's side has it.
    if let Some(workload) = snapshot.workload_by_address(network, address.ip()) {
        let waypoint = workload.waypoint();
        if waypoint.is_some_and(|gateway| is_part_of(snapshot, gateway, local)) {
            return Ok(Fronted::Workload(workload.clone(), address));
        }
    } else if let Some(service) = snapshot.service_by_vip(network, address.ip(), local.namespace())
        && is_waypoint_of(snapshot, service, local)
    {
        return port_of(service, address.port());
    }
    Err(Refusal::NotFronted { authority: Box::new(Authority::Address(address)) })
}

fn port_of(service: &Arc<Service>, port: u16) -> Result<Fronted, Refusal> {
    match service.port(port) {
        Some(_) => Ok(Fronted::Service(service.clone(), port)),
        None => Err(Refusal::UnknownPort { service: service.id.clone(), port }),
    }
}

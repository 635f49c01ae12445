//! Workloads.

use std::collections::BTreeMap;

use ringway_engine::snapshot::{
    ApplicationTunnel, ApplicationTunnelProtocol, Health, Locality, Membership, NamespacedHostname,
    NetworkMode, PortMapping, TunnelProtocol, WorkloadDescription, WorkloadType,
};

use super::values::{ip, nonempty, port, value};
use super::{Rejection, gateway};
use crate::proto::workload as told;

/// Whether it speaks the tunnel protocol that came before HBONE, and is therefore taken for one that speaks none.
pub(super) fn is_degraded(workload: &told::Workload) -> bool {
    workload.tunnel_protocol == told::TunnelProtocol::LegacyIstioMtls as i32
}

/// What is told empty has its default when a workload is made of the description.
pub(super) fn read(workload: told::Workload) -> Result<WorkloadDescription, Rejection> {
    const PROTOCOLS: &[TunnelProtocol] =
        &[TunnelProtocol::Tcp, TunnelProtocol::Hbone, TunnelProtocol::Tcp];
    const HEALTH: &[Health] = &[Health::Healthy, Health::Unhealthy];
    const MODES: &[NetworkMode] = &[NetworkMode::Standard, NetworkMode::HostNetwork];
    const TYPES: &[WorkloadType] =
        &[WorkloadType::Deployment, WorkloadType::CronJob, WorkloadType::Pod, WorkloadType::Job];
    let addresses = workload.addresses.iter().map(|bytes| ip("addresses", bytes));
    Ok(WorkloadDescription {
        addresses: addresses.collect::<Result<_, _>>()?,
        protocol: value("tunnel_protocol", workload.tunnel_protocol, PROTOCOLS)?,
        network_mode: value("network_mode", workload.network_mode, MODES)?,
        health: value("status", workload.status, HEALTH)?,
        workload_type: value("workload_type", workload.workload_type, TYPES)?,
        services: services(workload.services)?,
        waypoint: gateway::optional("waypoint", workload.waypoint)?,
        network_gateway: gateway::optional("network_gateway", workload.network_gateway)?,
        application_tunnel: workload.application_tunnel.map(application_tunnel).transpose()?,
        locality: workload.locality.map(locality).unwrap_or_default(),
        capacity: workload.capacity.unwrap_or(1),
        uid: nonempty("uid", workload.uid)?,
        name: workload.name,
        namespace: workload.namespace,
        service_account: workload.service_account,
        trust_domain: workload.trust_domain,
        network: workload.network,
        cluster: workload.cluster_id,
        node: workload.node,
        hostname: workload.hostname,
        native_tunnel: workload.native_tunnel,
        workload_name: workload.workload_name,
        canonical_name: workload.canonical_name,
        canonical_revision: workload.canonical_revision,
        authorization_policies: workload.authorization_policies,
    })
}

fn services(services: BTreeMap<String, told::PortList>) -> Result<Vec<Membership>, Rejection> {
    services.into_iter().map(|(key, list)| membership(&key, &list)).collect()
}

fn membership(key: &str, list: &told::PortList) -> Result<Membership, Rejection> {
    let service: Result<NamespacedHostname, _> = key.parse();
    let service = service.map_err(|_| Rejection::NotNamespacedHostname(key.to_owned()))?;
    let ports = list.ports.iter().map(|mapping| {
        Ok(PortMapping {
            service_port: port("service_port", mapping.service_port)?,
            target_port: port("target_port", mapping.target_port)?,
        })
    });
    Ok(Membership { service, ports: ports.collect::<Result<_, _>>()? })
}

fn application_tunnel(tunnel: told::ApplicationTunnel) -> Result<ApplicationTunnel, Rejection> {
    const PROTOCOLS: &[ApplicationTunnelProtocol] =
        &[ApplicationTunnelProtocol::None, ApplicationTunnelProtocol::Proxy];
    let port = port("application_tunnel.port", tunnel.port)?;
    Ok(ApplicationTunnel {
        protocol: value("application_tunnel.protocol", tunnel.protocol, PROTOCOLS)?,
        port: (port > 0).then_some(port),
    })
}

fn locality(locality: told::Locality) -> Locality {
    Locality {
        region: locality.region.into(),
        zone: locality.zone.into(),
        subzone: locality.subzone.into(),
    }
}

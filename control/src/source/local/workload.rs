//! A workload of ztunnel's local file.

use ringway_engine::snapshot::{
    ApplicationTunnel, ApplicationTunnelProtocol, Health, Locality, Membership, NamespacedHostname,
    NetworkMode, PortMapping, TunnelProtocol, WorkloadDescription, WorkloadError, WorkloadType,
};
use ringway_protocols::identity::IdentityError;

use super::{LocalObjects, gateway, report_no_hostname};
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::world::World;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{
    boolean, integer, ip, nonempty, parse_port, port, spelled, text,
};
use crate::source::yaml::value::Value;

pub(crate) fn workload(
    value: &Value,
    local: &mut LocalObjects,
    world: &mut World,
    reporter: &mut Reporter,
) {
    mapping("workloads[]", value, reporter, |fields| {
        let place = fields.value_place("uid");
        let Some(description) = description(fields, local, world) else { return };
        if let Err(error) = world.add_local_workload(description, place, fields.reporter) {
            let place = place_of(&error, fields);
            fields.reporter.report(Problem::error(place, error.to_string()));
        }
    });
}

fn description(
    fields: &mut Fields<'_, '_>,
    local: &mut LocalObjects,
    world: &mut World,
) -> Option<WorkloadDescription> {
    let protocol = fields
        .optional("protocol", spelled(TunnelProtocol::ALL, TunnelProtocol::as_str))
        .unwrap_or_default();
    let uid = fields.required("uid", nonempty).map(str::to_owned);
    let namespace = fields.required("namespace", nonempty).map(str::to_owned);
    let services = fields.required("services", services);
    let addresses = fields.required("workloadIps", |value, reporter| list(value, reporter, ip));
    let trust_domain = identity_part("trustDomain", protocol, fields);
    let service_account = identity_part("serviceAccount", protocol, fields);
    Some(WorkloadDescription {
        name: string("name", fields),
        network: string("network", fields),
        cluster: string("clusterId", fields),
        node: string("node", fields),
        locality: fields
            .optional("locality", |value, reporter| locality(value, world, reporter))
            .unwrap_or_default(),
        hostname: string("hostname", fields),
        network_mode: fields
            .optional("networkMode", spelled(NetworkMode::ALL, NetworkMode::as_str))
            .unwrap_or_default(),
        health: fields.optional("status", spelled(Health::ALL, Health::as_str)).unwrap_or_default(),
        capacity: fields
            .optional("capacity", integer(0..=u64::from(u32::MAX)))
            .map_or(1, |capacity| capacity as u32),
        native_tunnel: fields.optional("nativeTunnel", boolean).unwrap_or(false),
        workload_name: string("workloadName", fields),
        workload_type: fields
            .optional("workloadType", spelled(WorkloadType::ALL, WorkloadType::as_str))
            .unwrap_or_default(),
        canonical_name: string("canonicalName", fields),
        canonical_revision: string("canonicalRevision", fields),
        waypoint: fields.optional("waypoint", gateway),
        network_gateway: fields.optional("networkGateway", gateway),
        application_tunnel: fields.optional("applicationTunnel", application_tunnel),
        authorization_policies: policies(fields, local),
        protocol,
        uid: uid?,
        namespace: namespace?,
        trust_domain: trust_domain?,
        service_account: service_account?,
        addresses: addresses?,
        services: services?,
    })
}

/// The part of the identity that makes it none.
fn place_of(error: &WorkloadError, fields: &Fields<'_, '_>) -> Place {
    fields.value_place(match error {
        WorkloadError::Identity(IdentityError::BadPiece("trust domain")) => "trustDomain",
        WorkloadError::Identity(IdentityError::BadPiece("namespace")) => "namespace",
        WorkloadError::Identity(_) => "serviceAccount",
        WorkloadError::NoUid => "uid",
    })
}

fn string(key: &'static str, fields: &mut Fields<'_, '_>) -> String {
    fields.optional(key, text).unwrap_or_default().to_owned()
}

/// A part of the identity, which only matters behind HBONE.
fn identity_part(
    key: &'static str,
    protocol: TunnelProtocol,
    fields: &mut Fields<'_, '_>,
) -> Option<String> {
    match protocol {
        TunnelProtocol::Tcp => Some(string(key, fields)),
        TunnelProtocol::Hbone => fields.required(key, nonempty).map(str::to_owned),
    }
}

fn locality(value: &Value, world: &mut World, reporter: &mut Reporter) -> Option<Locality> {
    mapping("locality", value, reporter, |fields| {
        let mut part = |key| {
            let text = fields.optional(key, text).unwrap_or_default();
            world.interner().string(text)
        };
        Locality { region: part("region"), zone: part("zone"), subzone: part("subzone") }
    })
}

fn application_tunnel(value: &Value, reporter: &mut Reporter) -> Option<ApplicationTunnel> {
    mapping("applicationTunnel", value, reporter, |fields| {
        let protocols = spelled(ApplicationTunnelProtocol::ALL, ApplicationTunnelProtocol::as_str);
        let protocol = fields.required("protocol", protocols);
        let port = fields.optional("port", port);
        Some(ApplicationTunnel { protocol: protocol?, port })
    })?
}

/// `namespace/hostname: {service port: workload port}`.
fn services(value: &Value, reporter: &mut Reporter) -> Option<Vec<Membership>> {
    let Some(entries) = value.entries() else {
        return mapping("services", value, reporter, |_| None)?;
    };
    let mut memberships = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let ports = ports(value, reporter);
        match key.text.parse::<NamespacedHostname>() {
            Ok(service) => memberships.push(Membership { service, ports: ports? }),
            Err(_) => report_no_hostname(&key.text, key.place, reporter),
        }
    }
    Some(memberships)
}

fn ports(value: &Value, reporter: &mut Reporter) -> Option<Box<[PortMapping]>> {
    let Some(entries) = value.entries() else {
        return mapping("ports", value, reporter, |_| None)?;
    };
    let mut ports = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let target_port = port(value, reporter);
        match parse_port(&key.text) {
            Some(service_port) => {
                ports.extend(
                    target_port.map(|target_port| PortMapping { service_port, target_port }),
                );
            }
            None => report_no_port(&key.text, key.place, reporter),
        }
    }
    Some(ports.into())
}

pub(super) fn report_no_port(text: &str, place: Place, reporter: &mut Reporter) {
    let message = format!("expected a port from 1 to 65535, found {text:?}");
    reporter.report(Problem::error(place, message));
}

fn policies(fields: &mut Fields<'_, '_>, local: &mut LocalObjects) -> Vec<String> {
    let policies = fields.optional("authorizationPolicies", |value, reporter| {
        list(value, reporter, |value, reporter| {
            let name = nonempty(value, reporter)?.to_owned();
            local.named_policies.entry(name.clone()).or_insert(value.place);
            Some(name)
        })
    });
    policies.unwrap_or_default()
}

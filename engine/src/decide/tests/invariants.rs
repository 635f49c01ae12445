//! What must hold for every mesh and every destination, however odd.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;
use ringway_protocols::hbone::Authority;

use crate::decide::{NextHop, Refusal, inbound_tunnel, outbound_except};
use crate::snapshot::fixture::{With, mesh, named, pod, port, serves, service};
use crate::snapshot::{
    ApplicationTunnel, ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Health,
    LoadBalancer, LoadBalancerMode, NetworkAddress, Scope, Service, Snapshot, SubjectAltName,
    TunnelProtocol, WeightedWaypoint, Workload, WorkloadDescription,
};

/// Few addresses, so that workloads, services and waypoints collide.
fn some_ip() -> impl Strategy<Value = IpAddr> {
    (0..6u8).prop_map(|last| IpAddr::from([10, 0, 0, last]))
}

fn some_gateway() -> impl Strategy<Value = GatewayAddress> {
    let destination = prop_oneof![
        some_ip().prop_map(|ip| GatewayDestination::Address(NetworkAddress::new("", ip))),
        (0..5u8).prop_map(|n| GatewayDestination::Hostname(named("shop", &format!("s{n}")))),
    ];
    let port = prop_oneof![Just(15008u16), Just(80)];
    (destination, port)
        .prop_map(|(destination, hbone_mtls_port)| GatewayAddress { destination, hbone_mtls_port })
}

fn some_pod(n: usize) -> impl Strategy<Value = WorkloadDescription> {
    let addresses = prop::collection::vec(some_ip(), 0..3);
    let memberships = prop::collection::btree_set(0..4u8, 0..3);
    let gateways = (prop::option::of(some_gateway()), prop::option::of(some_gateway()));
    let tunnel = prop::option::of(prop::option::of(Just(15088u16)));
    (addresses, memberships, gateways, tunnel, any::<[bool; 4]>(), 0..3u32).prop_map(
        move |(addresses, services, (waypoint, gateway), tunnel, flags, capacity)| {
            let [is_tcp, is_sick, is_far, has_hostname] = flags;
            pod(&format!("pod-{n}"), "").with(|pod| {
                pod.addresses = addresses;
                pod.services = services.into_iter().map(|n| serves(&format!("s{n}"), [])).collect();
                pod.waypoint = waypoint;
                pod.network_gateway = gateway;
                pod.application_tunnel = tunnel.map(|port| ApplicationTunnel {
                    protocol: ApplicationTunnelProtocol::Proxy,
                    port,
                });
                pod.capacity = capacity;
                if is_tcp {
                    pod.protocol = TunnelProtocol::Tcp;
                }
                if is_sick {
                    pod.health = Health::Unhealthy;
                }
                if is_far {
                    pod.network = "n2".to_owned();
                }
                if has_hostname {
                    pod.hostname = format!("s{n}.example");
                }
            })
        },
    )
}

fn some_service(n: usize) -> impl Strategy<Value = Service> {
    let vips = prop::collection::vec(some_ip(), 0..3);
    let waypoints =
        (prop::option::of(some_gateway()), prop::collection::vec((some_gateway(), 0..3u32), 0..3));
    let ports = prop::collection::vec((prop_oneof![Just(80u16), Just(15008)], 0..2u16), 0..3);
    (vips, waypoints, ports, 0..LoadBalancerMode::ALL.len()).prop_map(
        move |(vips, (waypoint, weighted), ports, mode)| Service {
            vips: vips.into_iter().map(|ip| NetworkAddress::new("", ip)).collect(),
            ports: ports.into_iter().map(|(listed, target)| port(listed, target * 8080)).collect(),
            waypoint,
            weighted_waypoints: weighted
                .into_iter()
                .map(|(destination, weight)| WeightedWaypoint { destination, weight })
                .collect(),
            load_balancer: LoadBalancer {
                mode: LoadBalancerMode::ALL[mode],
                routing_preferences: Box::new([Scope::Network, Scope::Zone]),
                ..LoadBalancer::default()
            },
            subject_alt_names: [SubjectAltName::from("spiffe://cluster.local/ns/shop/sa/any")]
                .into(),
            ..service(&format!("s{n}"), "")
        },
    )
}

fn some_mesh() -> impl Strategy<Value = Snapshot> {
    let pods = (some_pod(0), some_pod(1), some_pod(2), some_pod(3));
    let services = (some_service(0), some_service(1), some_service(2), some_service(3));
    (pods, services, any::<[bool; 8]>()).prop_map(|(pods, services, there)| {
        let pods = [pods.0, pods.1, pods.2, pods.3].into_iter().zip(&there[..4]);
        let services =
            [services.0, services.1, services.2, services.3].into_iter().zip(&there[4..]);
        mesh(
            pods.filter(|(_, there)| **there)
                .map(|(pod, _)| pod)
                .chain([pod("client", "10.0.9.9")]),
            services.filter(|(_, there)| **there).map(|(service, _)| service),
        )
    })
}

fn client(mesh: &Snapshot) -> &Arc<Workload> {
    mesh.workload_by_uid("c1//Pod/shop/client").unwrap()
}

/// Whether a waypoint stands before what this address means.
fn is_guarded(mesh: &Snapshot, ip: IpAddr) -> bool {
    if let Some(workload) = mesh.workload_by_address("", ip) {
        // A workload's own waypoint does not apply to a service that shares its address.
        return mesh.service_by_vip("", ip, "shop").is_none() && workload.waypoint().is_some();
    }
    mesh.service_by_vip("", ip, "shop").is_some_and(|service| {
        service.waypoint.is_some() || service.weighted_waypoints.iter().any(|one| one.weight > 0)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_leaves_the_mesh_by_accident_and_no_waypoint_is_bypassed(
        mesh in some_mesh(),
        ip in some_ip(),
        port in prop_oneof![Just(80u16), Just(15008)],
        random: u64,
        tries in 0..4usize,
    ) {
        let destination = SocketAddr::new(ip, port);
        let mut failed: Vec<Arc<Workload>> = Vec::new();
        for _ in 0..=tries {
            let route = match outbound_except(&mesh, client(&mesh), destination, random, &failed) {
                Ok(route) => route,
                Err(refusal) => {
                    prop_assert_eq!(refusal.status(), 503);
                    break;
                }
            };
            match &route.next_hop {
                NextHop::PassThrough { address } => {
                    prop_assert_eq!(*address, destination);
                    prop_assert!(mesh.workload_by_address("", ip).is_none());
                    let service = mesh.service_by_vip("", ip, "shop");
                    let mode = service.map(|service| service.load_balancer.mode);
                    prop_assert!(mode.is_none_or(|mode| mode == LoadBalancerMode::Passthrough));
                    prop_assert!(!is_guarded(&mesh, ip));
                    prop_assert!(route.destination_workload.is_none());
                    break;
                }
                NextHop::Direct { .. } => {
                    let workload = route.destination_workload.as_ref().unwrap();
                    prop_assert_eq!(workload.protocol(), TunnelProtocol::Tcp);
                    prop_assert!(!is_guarded(&mesh, ip));
                }
                NextHop::DoubleTunnel { gateway, expected, authority, expected_inside } => {
                    let workload = route.destination_workload.as_ref().unwrap();
                    prop_assert!(expected.contains(workload.identity()));
                    prop_assert!(workload.addresses().contains(&gateway.ip()));
                    // Those of a service, and that is the one that was meant, or its waypoint.
                    prop_assert!(!expected_inside.is_empty());
                    let meant = route.destination_service.as_ref().unwrap();
                    let asked = Authority::hostname(meant.hostname(), port).unwrap();
                    prop_assert_eq!(authority, &asked);
                }
                NextHop::Tunnel { peer, expected, authority } => {
                    let workload = route.destination_workload.as_ref().unwrap();
                    prop_assert!(expected.contains(workload.identity()));
                    prop_assert!(workload.addresses().contains(&peer.ip()));
                    if is_guarded(&mesh, ip) {
                        prop_assert_eq!(authority, &Authority::Address(destination));
                    }
                }
            }
            let workload = route.destination_workload.unwrap();
            let is_gateway = matches!(route.next_hop, NextHop::DoubleTunnel { .. });
            prop_assert!(is_gateway || workload.network().is_empty());
            prop_assert!(failed.iter().all(|other| other.uid() != workload.uid()));
            failed.push(workload);
        }
    }

    #[test]
    fn a_tunnel_ends_at_the_workload_and_never_on_our_own_ports(
        mesh in some_mesh(),
        asked in some_ip(),
        port in prop_oneof![Just(80u16), Just(15006)],
        host in prop::option::of(0..5u8),
    ) {
        let authority = match host {
            Some(n) => Authority::Hostname { host: format!("s{n}.example").into(), port },
            None => Authority::Address(SocketAddr::new(asked, port)),
        };
        for local in mesh.workloads() {
            let Some(&local_address) = local.addresses().first() else { continue };
            match inbound_tunnel(&mesh, local, local_address, &authority) {
                Ok(target) => {
                    prop_assert_eq!(target.destination.ip(), local_address);
                    prop_assert_eq!(target.as_client, target.address == target.destination);
                    let is_told_by_tunnel =
                        local.application_tunnel().is_some_and(|tunnel| tunnel.port.is_some());
                    let is_own = mesh.settings().is_own_port(target.address.port());
                    prop_assert!(is_told_by_tunnel || !is_own);
                }
                Err(refusal) => {
                    let is_ours = authority == Authority::Address(SocketAddr::new(local_address, 80));
                    prop_assert!(!is_ours, "{}", refusal);
                    prop_assert_eq!(
                        refusal.status() == 400,
                        matches!(refusal, Refusal::IpMismatch { .. } | Refusal::NotAnEndpoint { .. })
                    );
                }
            }
        }
    }
}

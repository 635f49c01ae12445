//! Every field, as it is read.

use proptest::prelude::*;
use ringway_engine::snapshot::{
    AppProtocol, ApplicationTunnelProtocol, Health, HealthPolicy, IpFamilies, LoadBalancerMode,
    NetworkMode, PolicyAction, PolicyScope, Scope, TextMatch, TunnelProtocol, Visibility,
    WorkloadDescription, WorkloadType,
};

use super::mesh::{Story, Told, bytes, pod, service, uid, vip_of};
use crate::proto::security::string_match::MatchType;
use crate::proto::security::{self, Authorization};
use crate::proto::workload::gateway_address::Destination;
use crate::proto::workload::{
    ApplicationTunnel, GatewayAddress, LoadBalancing, Locality, NamespacedHostname, Port, PortList,
    Service, WeightedWaypoint, Workload,
};
use crate::xds::decode::{AddressResource, Rejection, read_address, read_authorization};

fn read_workload(workload: Workload) -> Result<WorkloadDescription, Rejection> {
    match read_address(&workload.told("").resource.unwrap().value)? {
        AddressResource::Workload { description, .. } => Ok(description),
        AddressResource::Service(_) => unreachable!("it was a workload"),
    }
}

fn read_service(service: Service) -> Result<ringway_engine::snapshot::Service, Rejection> {
    match read_address(&service.told("").resource.unwrap().value)? {
        AddressResource::Service(service) => Ok(service),
        AddressResource::Workload { .. } => unreachable!("it was a service"),
    }
}

fn waypoint() -> GatewayAddress {
    let name =
        NamespacedHostname { namespace: "shop".to_owned(), hostname: "way.example".to_owned() };
    GatewayAddress { destination: Some(Destination::Hostname(name)), hbone_mtls_port: 15008 }
}

fn gateway() -> GatewayAddress {
    let address = vip_of("net2", "10.0.0.2");
    GatewayAddress { destination: Some(Destination::Address(address)), hbone_mtls_port: 15009 }
}

#[test]
fn a_workload_is_read_whole() {
    let port = Port { service_port: 80, target_port: 8080, app_protocol: 0 };
    let read = read_workload(Workload {
        name: "name".to_owned(),
        namespace: "namespace".to_owned(),
        addresses: vec![bytes("10.0.0.1"), bytes("fd00::1")],
        network: "network".to_owned(),
        tunnel_protocol: 1,
        trust_domain: "trust.domain".to_owned(),
        service_account: "account".to_owned(),
        waypoint: Some(waypoint()),
        node: "node".to_owned(),
        canonical_name: "canonical".to_owned(),
        canonical_revision: "revision".to_owned(),
        workload_type: 3,
        workload_name: "workload".to_owned(),
        native_tunnel: true,
        authorization_policies: vec!["shop/p".to_owned()],
        status: 1,
        cluster_id: "cluster".to_owned(),
        network_gateway: Some(gateway()),
        uid: "uid".to_owned(),
        hostname: "hostname".to_owned(),
        services: [("shop/web.example".to_owned(), PortList { ports: vec![port] })].into(),
        application_tunnel: Some(ApplicationTunnel { protocol: 1, port: 7 }),
        locality: Some(Locality {
            region: "region".to_owned(),
            zone: "zone".to_owned(),
            subzone: "subzone".to_owned(),
        }),
        network_mode: 1,
        extensions: vec![Default::default()],
        capacity: Some(5),
    });
    let read = read.unwrap();
    assert_eq!((&*read.uid, &*read.name, &*read.namespace), ("uid", "name", "namespace"));
    assert_eq!((&*read.trust_domain, &*read.service_account), ("trust.domain", "account"));
    assert_eq!((&*read.network, &*read.cluster, &*read.node), ("network", "cluster", "node"));
    assert_eq!((&*read.canonical_name, &*read.canonical_revision), ("canonical", "revision"));
    assert_eq!((&*read.workload_name, &*read.hostname), ("workload", "hostname"));
    assert_eq!(read.workload_type, WorkloadType::Job);
    let addresses: Vec<String> = read.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
    assert_eq!((read.protocol, read.health), (TunnelProtocol::Hbone, Health::Unhealthy));
    assert_eq!((read.network_mode, read.native_tunnel), (NetworkMode::HostNetwork, true));
    assert_eq!((read.capacity, &*read.authorization_policies), (5, &["shop/p".to_owned()][..]));
    let (waypoint, gateway) = (read.waypoint.unwrap(), read.network_gateway.unwrap());
    assert_eq!(waypoint.destination.to_string(), "shop/way.example");
    assert_eq!(gateway.destination.to_string(), "net2/10.0.0.2");
    assert_eq!((waypoint.hbone_mtls_port, gateway.hbone_mtls_port), (15008, 15009));
    let tunnel = read.application_tunnel.unwrap();
    assert_eq!((tunnel.protocol, tunnel.port), (ApplicationTunnelProtocol::Proxy, Some(7)));
    let locality = read.locality;
    assert_eq!(
        (&*locality.region, &*locality.zone, &*locality.subzone),
        ("region", "zone", "subzone")
    );
    assert_eq!(read.services[0].service.to_string(), "shop/web.example");
    assert_eq!(read.services[0].target_port(80), Some(8080));
}

#[test]
fn what_is_not_told_of_a_workload_has_its_default() {
    let mut story = Story::new();
    story.open();
    let bare = Workload { uid: "u".to_owned(), namespace: "n".to_owned(), ..Workload::default() };
    story.knows(vec![bare.told("")]);
    let workload = story.world().workload_by_uid("u").unwrap();
    assert_eq!(workload.identity().to_string(), "spiffe://cluster.local/ns/n/sa/default");
    assert_eq!((&**workload.cluster(), workload.capacity()), ("Kubernetes", 1));
    assert_eq!(workload.protocol(), TunnelProtocol::Tcp);
    assert_eq!(workload.health(), Health::Healthy);
    let tunnel = Some(ApplicationTunnel::default());
    let read = read_workload(Workload { application_tunnel: tunnel, ..pod("a", "10.0.0.1") });
    let tunnel = read.unwrap().application_tunnel.unwrap();
    assert_eq!((tunnel.protocol, tunnel.port), (ApplicationTunnelProtocol::None, None));
    let read = read_workload(Workload { capacity: Some(0), ..pod("a", "10.0.0.1") });
    assert_eq!(read.unwrap().capacity, 0, "told, and none");
}

#[test]
fn the_tunnel_protocol_before_hbone_is_none() {
    let old = Workload { tunnel_protocol: 2, ..pod("a", "10.0.0.1") };
    let mut story = Story::new();
    story.open();
    let told = vec![old.told(""), pod("b", "10.0.0.2").told("")];
    let finished = story.tells(crate::xds::state::Kind::Address, told);
    assert_eq!((finished.degraded, finished.request.error_detail), (1, None));
    let workload = story.world().workload_by_uid(&uid("a")).unwrap();
    assert_eq!(workload.protocol(), TunnelProtocol::Tcp);
}

#[test]
fn a_service_is_read_whole() {
    let read = read_service(Service {
        name: "name".to_owned(),
        namespace: "namespace".to_owned(),
        hostname: "host.example".to_owned(),
        addresses: vec![
            vip_of("", "10.9.0.1"),
            vip_of("n", "10.9.0.2/32"),
            vip_of("n", "10.8.1.1/16"),
            vip_of("", "fd00::5/64"),
            vip_of("", "fd00::5/128"),
            vip_of("", "::ffff:10.7.0.1/112"),
        ],
        ports: vec![
            Port { service_port: 80, target_port: 8080, app_protocol: 3 },
            Port { service_port: 81, target_port: 0, app_protocol: 0 },
        ],
        subject_alt_names: vec!["spiffe://td/ns/a/sa/b".to_owned(), "web.example".to_owned()],
        waypoint: Some(waypoint()),
        load_balancing: Some(LoadBalancing {
            routing_preference: vec![6, 1, 2, 3, 4, 5],
            mode: 2,
            health_policy: 1,
        }),
        ip_families: 3,
        extensions: vec![Default::default()],
        canonical: true,
        ingress_use_waypoint: true,
        weighted_waypoints: vec![WeightedWaypoint { destination: Some(gateway()), weight: 9 }],
        visibility: 1,
    });
    let read = read.unwrap();
    assert_eq!((read.id.to_string().as_str(), &*read.name), ("namespace/host.example", "name"));
    let vips: Vec<String> = read.vips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["/10.9.0.1", "n/10.9.0.2", "/fd00::5"]);
    let ranges = read.cidr_vips.iter().map(|vip| format!("{}:{}", vip.network, vip.cidr));
    let ranges: Vec<String> = ranges.collect();
    assert_eq!(ranges, ["n:10.8.0.0/16", ":fd00::/64", ":10.7.0.0/16"]);
    assert_eq!(read.port(80).unwrap().app_protocol, AppProtocol::Grpc);
    assert_eq!(read.port(81).unwrap().target_port, 0);
    let names: Vec<_> =
        read.subject_alt_names.iter().map(|name| name.identity().is_some()).collect();
    assert_eq!(names, [true, false]);
    assert_eq!(read.waypoint.unwrap().destination.to_string(), "shop/way.example");
    assert_eq!(read.weighted_waypoints[0].weight, 9);
    let balancer = read.load_balancer;
    assert_eq!(
        *balancer.routing_preferences,
        [Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node, Scope::Cluster]
    );
    assert_eq!(balancer.mode, LoadBalancerMode::Failover);
    assert_eq!(balancer.health_policy, HealthPolicy::AllowAll);
    assert_eq!((read.ip_families, read.visibility), (IpFamilies::Dual, Visibility::Namespace));
    assert!(read.canonical && read.ingress_use_waypoint);
}

#[test]
fn a_visibility_that_nobody_knows_is_public() {
    for unknown in [2, 77, -1] {
        let read = read_service(Service { visibility: unknown, ..service("web", "10.9.0.1") });
        assert_eq!(read.unwrap().visibility, Visibility::Public);
    }
}

#[test]
fn a_policy_is_read_whole() {
    let text = |match_type| security::StringMatch { match_type: Some(match_type) };
    let range = |ip: &str, length| security::Address { address: bytes(ip), length };
    let account = |name: &str| security::ServiceAccountMatch {
        namespace: "ns".to_owned(),
        service_account: name.to_owned(),
    };
    let one = security::Match {
        namespaces: vec![text(MatchType::Exact("a".to_owned()))],
        not_namespaces: vec![text(MatchType::Prefix("b".to_owned()))],
        principals: vec![text(MatchType::Suffix("c".to_owned()))],
        not_principals: vec![text(MatchType::Presence(()))],
        source_ips: vec![range("10.1.2.3", 8)],
        not_source_ips: vec![range("::ffff:10.2.0.0", 112)],
        destination_ips: vec![range("fd00::1", 128)],
        not_destination_ips: vec![range("0.0.0.0", 0)],
        destination_ports: vec![1],
        not_destination_ports: vec![65_535],
        service_accounts: vec![account("d")],
        not_service_accounts: vec![account("e")],
        // One would be a condition that nobody here understands.
        extensions: Vec::new(),
    };
    let clause = security::Clause { matches: vec![one, security::Match::default()] };
    let rule = security::Rule { clauses: vec![clause, security::Clause::default()] };
    let told = Authorization {
        name: "p".to_owned(),
        namespace: "ns".to_owned(),
        scope: 2,
        action: 1,
        rules: vec![rule, security::Rule::default()],
        dry_run: true,
        extensions: vec![Default::default()],
    };
    let read = read_authorization(&prost::Message::encode_to_vec(&told)).unwrap();
    assert_eq!((&*read.name, &*read.namespace, read.dry_run), ("p", "ns", true));
    assert_eq!((read.scope, read.action), (PolicyScope::WorkloadSelector, PolicyAction::Deny));
    // Empty rules, clauses and matches mean something, and stay.
    assert_eq!((read.rules.len(), read.rules[0].clauses.len()), (2, 2));
    assert_eq!(read.rules[0].clauses[0].matches.len(), 2);
    let one = &read.rules[0].clauses[0].matches[0];
    assert_eq!(one.namespaces, [TextMatch::Exact("a".into())]);
    assert_eq!(one.not_namespaces, [TextMatch::Prefix("b".into())]);
    assert_eq!(one.principals, [TextMatch::Suffix("c".into())]);
    assert_eq!(one.not_principals, [TextMatch::Presence]);
    let ranges =
        [&one.source_ips, &one.not_source_ips, &one.destination_ips, &one.not_destination_ips];
    let ranges = ranges.map(|list| list[0].to_string());
    assert_eq!(ranges, ["10.0.0.0/8", "10.2.0.0/16", "fd00::1/128", "0.0.0.0/0"]);
    assert_eq!(
        (&one.destination_ports[..], &one.not_destination_ports[..]),
        (&[1][..], &[65_535][..])
    );
    assert_eq!(&*one.service_accounts[0].service_account, "d");
    assert_eq!(&*one.not_service_accounts[0].service_account, "e");
}

/// Damages a good message in a few places.
fn damaged(message: &[u8], places: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for &(place, byte) in places {
        let place = place % bytes.len();
        bytes[place] = byte;
    }
    bytes
}

proptest! {
    #[test]
    fn damaged_resources_are_read_or_refused(
        places in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let pod = super::mesh::serving(pod("a", "10.0.0.1"), &["web"]).told("");
        let service = service("web", "10.9.0.1").told("");
        for told in [pod, service] {
            let value = damaged(&told.resource.unwrap().value, &places);
            match read_address(&value) {
                Ok(AddressResource::Workload { description, .. }) => {
                    prop_assert!(!description.uid.is_empty());
                }
                Ok(AddressResource::Service(service)) => {
                    let name = service.id.to_string();
                    prop_assert_eq!(name.parse(), Ok(service.id), "it could be removed");
                }
                Err(rejection) => prop_assert!(!rejection.to_string().is_empty()),
            }
        }
        let value = damaged(&super::mesh::policy("p", "a").told("").resource.unwrap().value, &places);
        if let Ok(policy) = read_authorization(&value) {
            let told = <Authorization as prost::Message>::decode(&value[..]).unwrap();
            prop_assert_eq!(policy.rules.len(), told.rules.len(), "nothing is left out");
        }
    }
}

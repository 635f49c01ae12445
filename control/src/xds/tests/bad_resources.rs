//! Resources that must be refused: each alone in a push with good ones, in place of one that was good before.

use super::mesh::{Story, Told, bytes, pod, policy, resource, service, vip_of};
use crate::proto::discovery::Resource;
use crate::proto::security::{self, Authorization, StringMatch};
use crate::proto::workload::gateway_address::Destination;
use crate::proto::workload::{
    ApplicationTunnel, GatewayAddress, LoadBalancing, NamespacedHostname, NetworkAddress, Port,
    PortList, Service, WeightedWaypoint, Workload,
};
use crate::xds::state::Kind;

/// What is wrong, the resource, and part of the reason.
struct Bad {
    what: String,
    resource: Resource,
    reason: &'static str,
}

/// Numbers that no enum has.
const NUMBERS: [i32; 4] = [8, 99, -1, i32::MAX];

/// Lengths that no address has.
const LENGTHS: [usize; 7] = [0, 1, 3, 5, 15, 17, 100];

const NO_PORTS: [u32; 3] = [65_536, 80_000, u32::MAX];

fn workload(
    what: impl Into<String>,
    reason: &'static str,
    change: impl FnOnce(&mut Workload),
) -> Bad {
    let mut workload = pod("x", "10.0.0.66");
    change(&mut workload);
    let mut resource = workload.told("bad");
    resource.name = name_of(Subject::Workload);
    Bad { what: what.into(), resource, reason }
}

fn bad_service(
    what: impl Into<String>,
    reason: &'static str,
    change: impl FnOnce(&mut Service),
) -> Bad {
    let mut service = service("x", "10.9.0.66");
    change(&mut service);
    let mut resource = service.told("bad");
    resource.name = name_of(Subject::Service);
    Bad { what: what.into(), resource, reason }
}

fn bad_policy(
    what: impl Into<String>,
    reason: &'static str,
    change: impl FnOnce(&mut Authorization),
) -> Bad {
    let mut policy = policy("x", "bad");
    change(&mut policy);
    let mut resource = policy.told("bad");
    resource.name = name_of(Subject::Policy);
    Bad { what: what.into(), resource, reason }
}

fn bad_match(
    what: impl Into<String>,
    reason: &'static str,
    change: impl FnOnce(&mut security::Match),
) -> Bad {
    bad_policy(what, reason, |policy| change(&mut policy.rules[0].clauses[0].matches[0]))
}

#[derive(Clone, Copy)]
enum Subject {
    Workload,
    Service,
    Policy,
}

fn good(subject: Subject) -> Resource {
    match subject {
        Subject::Workload => pod("x", "10.0.0.1").told("good"),
        Subject::Service => service("x", "10.9.0.1").told("good"),
        Subject::Policy => policy("x", "good").told("good"),
    }
}

fn name_of(subject: Subject) -> String {
    good(subject).name
}

fn gateway(destination: Option<Destination>, hbone_mtls_port: u32) -> GatewayAddress {
    GatewayAddress { destination, hbone_mtls_port }
}

fn at(ip: Vec<u8>) -> Option<Destination> {
    Some(Destination::Address(NetworkAddress { address: ip, ..NetworkAddress::default() }))
}

fn named(namespace: &str, hostname: &str) -> Option<Destination> {
    let (namespace, hostname) = (namespace.to_owned(), hostname.to_owned());
    Some(Destination::Hostname(NamespacedHostname { namespace, hostname }))
}

fn no_gateways() -> Vec<(&'static str, GatewayAddress)> {
    vec![
        ("no destination", gateway(None, 15008)),
        ("an address of 3 bytes", gateway(at(vec![1, 2, 3]), 15008)),
        ("an address of no bytes", gateway(at(Vec::new()), 15008)),
        ("no namespace", gateway(named("", "way.example"), 15008)),
        ("no hostname", gateway(named("shop", ""), 15008)),
        ("no port", gateway(at(vec![10, 0, 0, 1]), 65_536)),
    ]
}

fn workloads() -> Vec<Bad> {
    let mut all = vec![
        workload("no uid", "uid", |w| w.uid.clear()),
        workload("no namespace", "", |w| w.namespace.clear()),
        workload("a namespace with a slash", "", |w| w.namespace = "a/b".to_owned()),
        workload("an account with a slash", "", |w| w.service_account = "a/b".to_owned()),
        workload("a trust domain with a slash", "", |w| w.trust_domain = "a/b".to_owned()),
    ];
    for number in NUMBERS {
        all.push(workload(format!("tunnel {number}"), "tunnel_protocol", |w| {
            w.tunnel_protocol = number
        }));
        all.push(workload(format!("status {number}"), "status", |w| w.status = number));
        all.push(workload(format!("type {number}"), "workload_type", |w| w.workload_type = number));
        all.push(workload(format!("mode {number}"), "network_mode", |w| w.network_mode = number));
        all.push(workload(format!("application tunnel {number}"), "application_tunnel", |w| {
            w.application_tunnel = Some(ApplicationTunnel { protocol: number, port: 1 });
        }));
    }
    for length in LENGTHS {
        all.push(workload(format!("address of {length}"), "addresses", |w| {
            w.addresses.push(vec![1; length]);
        }));
    }
    for key in ["", "web", "/web", "shop/", "a/b/c"] {
        all.push(workload(format!("service {key:?}"), "namespace/hostname", |w| {
            w.services.insert(key.to_owned(), PortList::default());
        }));
    }
    for port in NO_PORTS {
        let list = |port| PortList { ports: vec![port] };
        all.push(workload(format!("service port {port}"), "service_port", |w| {
            let port = Port { service_port: port, ..Port::default() };
            w.services.insert("shop/web".to_owned(), list(port));
        }));
        all.push(workload(format!("target port {port}"), "target_port", |w| {
            let port = Port { target_port: port, ..Port::default() };
            w.services.insert("shop/web".to_owned(), list(port));
        }));
        all.push(workload(format!("tunnel's port {port}"), "application_tunnel", |w| {
            w.application_tunnel = Some(ApplicationTunnel { protocol: 0, port });
        }));
    }
    for (what, wrong) in no_gateways() {
        let other = wrong.clone();
        all.push(workload(format!("waypoint: {what}"), "waypoint", |w| w.waypoint = Some(wrong)));
        all.push(workload(format!("gateway: {what}"), "network_gateway", |w| {
            w.network_gateway = Some(other);
        }));
    }
    all
}

fn services() -> Vec<Bad> {
    let mut all = vec![
        bad_service("no namespace", "namespace", |s| s.namespace.clear()),
        bad_service("no hostname", "hostname", |s| s.hostname.clear()),
        bad_service("a hostname with a slash", "namespace/hostname", |s| {
            s.hostname = "a/b".to_owned()
        }),
        bad_service("a weighted waypoint that is none", "weighted_waypoints", |s| {
            s.weighted_waypoints.push(WeightedWaypoint::default());
        }),
    ];
    for number in NUMBERS {
        let balancing = |s: &mut Service, balancing| s.load_balancing = Some(balancing);
        all.push(bad_service(format!("families {number}"), "ip_families", |s| {
            s.ip_families = number
        }));
        all.push(bad_service(format!("mode {number}"), "mode", |s| {
            balancing(s, LoadBalancing { mode: number, ..LoadBalancing::default() });
        }));
        all.push(bad_service(format!("health policy {number}"), "health_policy", |s| {
            balancing(s, LoadBalancing { health_policy: number, ..LoadBalancing::default() });
        }));
        all.push(bad_service(format!("scope {number}"), "routing_preference", |s| {
            let routing_preference = vec![1, number];
            balancing(s, LoadBalancing { routing_preference, ..LoadBalancing::default() });
        }));
        all.push(bad_service(format!("protocol {number}"), "app_protocol", |s| {
            s.ports[0].app_protocol = number;
        }));
    }
    all.push(bad_service("the scope that is none", "routing_preference", |s| {
        let routing_preference = vec![0];
        s.load_balancing = Some(LoadBalancing { routing_preference, ..LoadBalancing::default() });
    }));
    for length in LENGTHS {
        all.push(bad_service(format!("address of {length}"), "addresses", |s| {
            s.addresses[0].address = vec![1; length];
        }));
    }
    for range in
        ["10.0.0.0/33", "10.0.0.0/128", "fd00::/129", "10.0.0.0/256", "10.0.0.0/4294967295"]
    {
        all.push(bad_service(format!("range {range}"), "addresses", |s| {
            s.addresses.push(vip_of("", range));
        }));
    }
    for port in NO_PORTS {
        all.push(bad_service(format!("port {port}"), "service_port", |s| {
            s.ports[0].service_port = port
        }));
        all.push(bad_service(format!("target {port}"), "target_port", |s| {
            s.ports[0].target_port = port
        }));
    }
    for (what, wrong) in no_gateways() {
        let other = wrong.clone();
        all.push(bad_service(format!("waypoint: {what}"), "waypoint", |s| {
            s.waypoint = Some(wrong)
        }));
        all.push(bad_service(format!("weighted: {what}"), "weighted_waypoints", |s| {
            s.weighted_waypoints.push(WeightedWaypoint { destination: Some(other), weight: 1 });
        }));
    }
    all
}

fn policies() -> Vec<Bad> {
    let mut all = vec![
        bad_policy("no name", "name", |p| p.name.clear()),
        bad_policy("no namespace", "namespace", |p| p.namespace.clear()),
    ];
    for number in NUMBERS {
        all.push(bad_policy(format!("scope {number}"), "scope", |p| p.scope = number));
        all.push(bad_policy(format!("action {number}"), "action", |p| p.action = number));
    }
    let texts: [fn(&mut security::Match) -> &mut Vec<StringMatch>; 4] = [
        |m| &mut m.namespaces,
        |m| &mut m.not_namespaces,
        |m| &mut m.principals,
        |m| &mut m.not_principals,
    ];
    for (number, list) in texts.into_iter().enumerate() {
        all.push(bad_match(format!("no way to compare, list {number}"), "match_type", |m| {
            list(m).push(StringMatch { match_type: None });
        }));
    }
    let ranges: [fn(&mut security::Match) -> &mut Vec<security::Address>; 4] = [
        |m| &mut m.source_ips,
        |m| &mut m.not_source_ips,
        |m| &mut m.destination_ips,
        |m| &mut m.not_destination_ips,
    ];
    for (number, list) in ranges.into_iter().enumerate() {
        let wrong = [("10.0.0.0", 33), ("10.0.0.0", 256), ("fd00::", 129), ("fd00::", u32::MAX)];
        for (ip, length) in wrong {
            all.push(bad_match(format!("{ip}/{length}, list {number}"), "_ips has a range", |m| {
                list(m).push(security::Address { address: bytes(ip), length });
            }));
        }
        for length in LENGTHS {
            all.push(bad_match(
                format!("address of {length}, list {number}"),
                "_ips has an",
                |m| {
                    list(m).push(security::Address { address: vec![1; length], length: 8 });
                },
            ));
        }
    }
    for port in NO_PORTS {
        all.push(bad_match(format!("port {port}"), "port", |m| m.destination_ports.push(port)));
        all.push(bad_match(format!("not port {port}"), "port", |m| {
            m.not_destination_ports.push(port)
        }));
    }
    all
}

/// What is no resource of its type at all.
fn strangers(subject: Subject, kind: Kind, other: Kind) -> Vec<Bad> {
    let name = name_of(subject);
    let value = good(subject).resource.unwrap().value;
    let of = |kind, value| resource(&name, "bad", kind, value);
    let wrong_url = |url: &str| {
        let mut resource = of(kind, value.clone());
        resource.resource.as_mut().unwrap().type_url = url.to_owned();
        resource
    };
    let mut not_text = value.clone();
    *not_text.iter_mut().rfind(|byte| byte.is_ascii_lowercase()).unwrap() = 0xff;
    let truncated = value[..value.len() - 1].to_vec();
    let nested = (0..200).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = vec![1 << 3 | 2];
        prost::encode_length_delimiter(inner.len(), &mut outer).unwrap();
        outer.extend(inner);
        outer
    });
    let rows = [
        ("of the other type", of(other, value.clone()), "another type"),
        ("of a type nobody knows", wrong_url("type.googleapis.com/x.Y"), "another type"),
        ("of no type", wrong_url(""), "another type"),
        ("nothing", Resource { resource: None, ..of(kind, Vec::new()) }, "missing"),
        ("empty", of(kind, Vec::new()), "missing"),
        ("no text", of(kind, not_text), "no such message"),
        ("truncated", of(kind, truncated), "no such message"),
        ("bytes", of(kind, vec![0xff; 100]), "no such message"),
        ("the wrong field", of(kind, vec![1 << 3, 7]), "no such message"),
        ("nested deeply", of(kind, nested), ""),
    ];
    let rows = rows.into_iter();
    rows.map(|(what, resource, reason)| Bad { what: what.to_owned(), resource, reason }).collect()
}

/// Puts each where a good one is, between two others.
fn all_are_refused(subject: Subject, kind: Kind, all: Vec<Bad>) {
    let name = name_of(subject);
    let beside = |name: &str| match kind {
        Kind::Address => pod(name, "10.0.0.2").told("1"),
        _ => policy(name, "ns").told("1"),
    };
    for (index, bad) in all.into_iter().enumerate() {
        let Bad { what, resource, reason } = bad;
        let mut story = Story::new();
        story.open();
        assert_eq!(story.tells(kind, vec![good(subject)]).request.error_detail, None);
        let before = story.world().clone();
        let mut push = vec![beside("b"), beside("c")];
        push.insert(index % 3, resource);
        let finished = story.tells(kind, push);
        let complaint = finished.request.error_detail.unwrap_or_default().message;
        assert!(complaint.starts_with(&format!("{name}: ")), "{what}: {complaint:?}");
        assert!(complaint.contains(reason), "{what}: {complaint:?}");
        assert!(!complaint.contains("; "), "{what}: {complaint:?}");
        assert_eq!(story.session.told(kind), 3, "{what}: the others apply");
        let (kept, was) = (story.world(), &before);
        let is_kept = match subject {
            Subject::Workload => {
                kept.workload_by_uid(&name).unwrap().addresses()
                    == was.workload_by_uid(&name).unwrap().addresses()
            }
            Subject::Service => {
                let id = name.parse().unwrap();
                kept.service(&id) == was.service(&id)
            }
            Subject::Policy => kept.policy("shop", "x") == was.policy("shop", "x"),
        };
        assert!(is_kept, "{what}: the last good one stays");
        let versions = story.open()[kind as usize].initial_resource_versions.clone();
        assert_eq!(versions[&name], "good", "{what}");
        let finished = story.removes(kind, &[&name]);
        assert_eq!(finished.request.error_detail, None, "{what}: and all goes on");
    }
}

#[test]
fn bad_workloads_are_refused() {
    let all = workloads();
    assert!(all.len() >= 50, "{}", all.len());
    all_are_refused(Subject::Workload, Kind::Address, all);
}

#[test]
fn bad_services_are_refused() {
    let all = services();
    assert!(all.len() >= 50, "{}", all.len());
    all_are_refused(Subject::Service, Kind::Address, all);
}

#[test]
fn bad_policies_are_refused() {
    let all = policies();
    assert!(all.len() >= 60, "{}", all.len());
    all_are_refused(Subject::Policy, Kind::Authorization, all);
}

#[test]
fn what_is_no_resource_is_refused() {
    let address = (Kind::Address, Kind::Authorization);
    let rows = [
        (Subject::Workload, address),
        (Subject::Service, address),
        (Subject::Policy, (Kind::Authorization, Kind::Address)),
    ];
    for (subject, (kind, other)) in rows {
        let mut all = strangers(subject, kind, other);
        if let Subject::Policy = subject {
            // It has no part that must be there but its name, which is told missing.
            all.retain(|bad| bad.what != "empty" || bad.reason == "missing");
        }
        all_are_refused(subject, kind, all);
    }
}

#[test]
fn a_resource_that_nobody_can_name_is_told_by_its_place() {
    let mut nameless = pod("a", "10.0.0.1").told("1");
    nameless.name.clear();
    let mut story = Story::new();
    story.open();
    let finished = story.tells(Kind::Address, vec![pod("b", "10.0.0.2").told("1"), nameless]);
    let complaint = finished.request.error_detail.unwrap().message;
    assert_eq!(complaint, "resource 2: the name of the resource is missing");
    assert_eq!(story.world().workload_count(), 1);
}

#[test]
fn the_same_mistake_again_and_again_leaves_nothing_behind() {
    let mut story = Story::new();
    story.open();
    story.knows(vec![pod("x", "10.0.0.1").told("good")]);
    let before = story.world().clone();
    for _ in 0..200 {
        let wrong = workload("no port", "", |w| w.waypoint = Some(gateway(at(vec![1]), 1)));
        assert!(story.tells(Kind::Address, vec![wrong.resource]).request.error_detail.is_some());
    }
    assert_eq!(story.world().footprint_beside(&before).nodes, 0);
    assert_eq!(story.session.told(Kind::Address), 1);
}

/// Waypoints of waypoints are followed once at most, so a circle is no mistake.
#[test]
fn a_circle_of_waypoints_is_good() {
    let through = |name: &str, ip: &str, waypoint: &str| {
        let mut workload = pod(name, ip);
        workload.waypoint = Some(gateway(at(bytes(waypoint)), 15008));
        workload.told("1")
    };
    let mut story = Story::new();
    story.open();
    story.knows(vec![through("a", "10.0.0.1", "10.0.0.2"), through("b", "10.0.0.2", "10.0.0.1")]);
    story.knows(vec![through("c", "10.0.0.3", "10.0.0.3")]);
    assert_eq!(story.world().workload_count(), 3);
}

#[test]
fn a_large_response_of_the_wrong_type_comes_to_nothing() {
    let many = (0..4000).map(|number| pod(&format!("p{number}"), "10.0.0.1").told("1"));
    let mut response = super::mesh::response(Kind::Address, "n", many.collect(), &[]);
    response.type_url = Kind::Authorization.type_url().to_owned();
    // Larger than what is read whole: its type is known at the end only.
    response.resources[0].version = "v".repeat(1 << 20);
    let mut story = Story::new();
    story.open();
    let finished = story.hears(&super::mesh::framed(&response));
    assert!(finished.request.error_detail.unwrap().message.contains("another type"));
    assert_eq!((story.world().workload_count(), story.session.told(Kind::Address)), (0, 0));
    // And removed names of a large response are removed, though it has no resource to tell its type.
    story.knows((0..20_000).map(|n| pod(&format!("p{n}"), "10.0.0.1").told("1")).collect());
    let names: Vec<String> =
        (0..20_000).map(|n| super::mesh::uid(&format!("{:0>60}", n))).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let last = super::mesh::uid("p7");
    names.push(&last);
    story.removes(Kind::Address, &names);
    assert_eq!(story.world().workload_count(), 19_999);
}

//! Stories of a snapshot.

mod collisions;
mod model;

use std::net::IpAddr;

use super::fixture::*;
use super::*;
use crate::publish::{Published, SnapshotReader};

/// Names of the endpoints, sorted.
fn endpoints(snapshot: &Snapshot, service: &str) -> Vec<String> {
    let mut names: Vec<String> = snapshot
        .endpoints(&named("shop", service))
        .map(|(workload, _)| workload.name().to_owned())
        .collect();
    names.sort();
    names
}

fn unhealthy(name: &str, ip: &str) -> WorkloadDescription {
    pod(name, ip).with(|pod| pod.health = Health::Unhealthy)
}

fn web(name: &str, ip: &str) -> WorkloadDescription {
    pod(name, ip).with(|pod| pod.services = vec![serves("web", [])])
}

fn allow_all(service: &mut Service) {
    service.load_balancer.health_policy = HealthPolicy::AllowAll;
}

#[test]
fn workloads_may_come_before_their_service() {
    let mut snapshot = mesh([web("web-1", "10.1.0.1")], []);
    assert_eq!(snapshot.missing_services().collect::<Vec<_>>(), [&named("shop", "web")]);
    snapshot.upsert_service(service("web", "10.2.0.1"));
    assert_eq!(snapshot.missing_services().count(), 0);
    assert_eq!(endpoints(&snapshot, "web"), ["web-1"]);
}

#[test]
fn a_service_that_is_not_there_shows_all_that_name_it() {
    let sick = web("web-2", "10.1.0.2").with(|pod| pod.health = Health::Unhealthy);
    let snapshot = mesh([web("web-1", "10.1.0.1"), sick], []);
    assert_eq!(endpoints(&snapshot, "web"), ["web-1", "web-2"]);
}

#[test]
fn a_removed_service_gets_its_endpoints_back() {
    let mut snapshot = mesh([web("web-1", "10.1.0.1")], [service("web", "10.2.0.1")]);
    assert!(snapshot.remove_service(&named("shop", "web")).is_some());
    assert!(snapshot.service_by_vip("", ips("10.2.0.1")[0], "shop").is_none());
    upsert(&mut snapshot, web("web-2", "10.1.0.2"));
    snapshot.upsert_service(service("web", "10.2.0.1"));
    assert_eq!(endpoints(&snapshot, "web"), ["web-1", "web-2"]);
}

#[test]
fn unhealthy_workloads_are_no_endpoints_unless_allowed() {
    let sick = unhealthy("web-2", "10.1.0.2").with(|pod| pod.services = vec![serves("web", [])]);
    let pods = [web("web-1", "10.1.0.1"), sick];
    for is_staged in [true, false] {
        let mut snapshot = Snapshot::new("");
        if !is_staged {
            snapshot.upsert_service(service("web", "10.2.0.1"));
        }
        for pod in pods.clone() {
            upsert(&mut snapshot, pod);
        }
        if is_staged {
            snapshot.upsert_service(service("web", "10.2.0.1"));
        }
        assert_eq!(endpoints(&snapshot, "web"), ["web-1"], "staged: {is_staged}");
        snapshot.upsert_service(service("web", "10.2.0.1").with(allow_all));
        assert_eq!(endpoints(&snapshot, "web"), ["web-1", "web-2"], "loosened");
        snapshot.upsert_service(service("web", "10.2.0.1"));
        assert_eq!(endpoints(&snapshot, "web"), ["web-1"], "tightened");
    }
}

#[test]
fn a_workload_that_turned_unhealthy_is_evicted_and_comes_back() {
    let mut snapshot = mesh([web("web-1", "10.1.0.1")], [service("web", "10.2.0.1")]);
    upsert(&mut snapshot, web("web-1", "10.1.0.1").with(|pod| pod.health = Health::Unhealthy));
    assert_eq!(endpoints(&snapshot, "web"), [""; 0]);
    upsert(&mut snapshot, web("web-1", "10.1.0.1"));
    assert_eq!(endpoints(&snapshot, "web"), ["web-1"]);
}

#[test]
fn a_workload_that_changed_leaves_nothing_of_its_old_self() {
    let mut snapshot = mesh([web("web-1", "10.1.0.1")], [service("web", "10.2.0.1")]);
    upsert(
        &mut snapshot,
        pod("web-1", "10.1.0.9").with(|pod| pod.hostname = "web-1.example".into()),
    );
    assert_eq!(endpoints(&snapshot, "web"), [""; 0]);
    assert!(snapshot.workload_by_address("", ips("10.1.0.1")[0]).is_none());
    assert!(snapshot.workload_by_address("", ips("10.1.0.9")[0]).is_some());
    assert!(snapshot.workload_by_hostname(&named("shop", "web-1")).is_some());
    let removed = snapshot.remove_workload("c1//Pod/shop/web-1").unwrap();
    assert_eq!(removed.name(), "web-1");
    assert!(snapshot.workload_by_hostname(&named("shop", "web-1")).is_none());
    assert!(snapshot.remove_workload("c1//Pod/shop/web-1").is_none());
    assert_eq!(snapshot.workload_count(), 0);
}

#[test]
fn of_several_workloads_with_one_address_the_pod_then_hbone_then_the_last_is_found() {
    let entry = |name: &str, protocol| {
        pod(name, "10.1.0.1").with(|entry| {
            entry.uid = format!("c1/networking.istio.io/WorkloadEntry/shop/{name}");
            entry.protocol = protocol;
        })
    };
    let tcp_pod = pod("tcp-pod", "10.1.0.1").with(|pod| pod.protocol = TunnelProtocol::Tcp);
    let rows = [
        (
            "a pod beats an entry",
            vec![tcp_pod.clone(), entry("e", TunnelProtocol::Hbone)],
            "tcp-pod",
        ),
        ("HBONE beats TCP", vec![pod("p", "10.1.0.1"), tcp_pod.clone()], "p"),
        ("the last of equals", vec![pod("p", "10.1.0.1"), pod("q", "10.1.0.1")], "q"),
        (
            "an HBONE entry beats a TCP entry",
            vec![entry("h", TunnelProtocol::Hbone), entry("t", TunnelProtocol::Tcp)],
            "h",
        ),
        (
            "one on the host's network has no address of its own",
            vec![
                tcp_pod,
                pod("h", "10.1.0.1").with(|pod| pod.network_mode = NetworkMode::HostNetwork),
            ],
            "tcp-pod",
        ),
    ];
    for (name, pods, want) in rows {
        let snapshot = mesh(pods, []);
        let found = snapshot.workload_by_address("", ips("10.1.0.1")[0]);
        assert_eq!(found.map(|workload| workload.name()), Some(want), "{name}");
    }
}

#[test]
fn addresses_mean_something_on_their_network_only_and_mapped_ones_are_plain() {
    let snapshot =
        mesh([pod("web-1", "::ffff:10.1.0.1").with(|pod| pod.network = "n2".into())], []);
    assert!(snapshot.workload_by_address("", ips("10.1.0.1")[0]).is_none());
    assert!(snapshot.workload_by_address("n2", ips("10.1.0.1")[0]).is_some());
    assert!(snapshot.workload_by_address("n2", ips("::ffff:10.1.0.1")[0]).is_some());
}

#[test]
fn the_best_of_several_services_is_found() {
    let at = |namespace: &str, change: fn(&mut Service)| {
        Service { id: named(namespace, "web"), ..service("web", "10.2.0.1") }.with(change)
    };
    let plain: fn(&mut Service) = |_| {};
    let canonical: fn(&mut Service) = |service| service.canonical = true;
    let private: fn(&mut Service) = |service| service.visibility = Visibility::Namespace;
    let rows = [
        ("the client's own first", vec![at("a", canonical), at("shop", plain)], Some("shop")),
        ("then a canonical one", vec![at("a", plain), at("b", canonical)], Some("b")),
        ("of several, the last", vec![at("a", canonical), at("b", canonical)], Some("b")),
        ("then the first", vec![at("a", plain), at("b", plain)], Some("a")),
        ("others' private ones are invisible", vec![at("a", private), at("b", plain)], Some("b")),
        (
            "one's own private one is not",
            vec![at("a", canonical), at("shop", private)],
            Some("shop"),
        ),
        ("nothing visible is nothing", vec![at("a", private)], None),
    ];
    for (name, services, want) in rows {
        let snapshot = mesh([], services);
        let by_vip = snapshot.service_by_vip("", ips("10.2.0.1")[0], "shop");
        assert_eq!(by_vip.map(|service| service.namespace()), want, "{name}, by address");
        let by_hostname = snapshot.service_by_hostname("web.example", "shop");
        assert_eq!(by_hostname.map(|service| service.namespace()), want, "{name}, by hostname");
    }
}

#[test]
fn ranges_are_ranked_by_namespace_then_length_then_canonical() {
    let range = |namespace: &str, name: &str, ranges: &[&str], change: fn(&mut Service)| Service {
        id: named(namespace, name),
        cidr_vips: ranges
            .iter()
            .map(|text| NetworkCidr { network: "".into(), cidr: cidr(text) })
            .collect(),
        ..service(name, "").with(change)
    };
    let plain: fn(&mut Service) = |_| {};
    let canonical: fn(&mut Service) = |service| service.canonical = true;
    let private: fn(&mut Service) = |service| service.visibility = Visibility::Namespace;
    let wide = range("a", "wide", &["10.0.0.0/8"], plain);
    let narrow = range("a", "narrow", &["10.2.0.0/16"], plain);
    let own = range("shop", "own", &["0.0.0.0/0"], plain);
    let rows = [
        ("the longest prefix", vec![wide.clone(), narrow.clone()], "10.2.0.1", Some("narrow")),
        (
            "its order does not matter",
            vec![narrow.clone(), wide.clone()],
            "10.2.0.1",
            Some("narrow"),
        ),
        ("outside the narrow one", vec![wide.clone(), narrow.clone()], "10.3.0.1", Some("wide")),
        ("the client's own beats length", vec![narrow.clone(), own], "10.2.0.1", Some("own")),
        (
            "canonical decides among equals",
            vec![wide.clone(), range("b", "canon", &["10.0.0.0/8"], canonical)],
            "10.9.0.1",
            Some("canon"),
        ),
        (
            "the first of equals",
            vec![wide.clone(), range("b", "second", &["10.0.0.0/8"], plain)],
            "10.9.0.1",
            Some("wide"),
        ),
        (
            "an invisible one does not hide a shorter one",
            vec![wide.clone(), range("b", "private", &["10.2.0.0/16"], private)],
            "10.2.0.1",
            Some("wide"),
        ),
        (
            "an exact address beats any range",
            vec![wide.clone(), service("web", "10.2.0.1")],
            "10.2.0.1",
            Some("web"),
        ),
        (
            "both families of one service",
            vec![range("a", "dual", &["10.0.0.0/8", "fd00::/8"], plain)],
            "fd00::1",
            Some("dual"),
        ),
        ("IPv6 is not found by an IPv4 range", vec![wide], "fd00::1", None),
    ];
    for (name, services, ip, want) in rows {
        let mut snapshot = mesh([], services.clone());
        let found = snapshot.service_by_vip("", ips(ip)[0], "shop").map(|service| &*service.name);
        assert_eq!(found, want, "{name}");
        assert!(snapshot.service_by_vip("n2", ips(ip)[0], "shop").is_none(), "{name}, elsewhere");
        for service in services {
            snapshot.remove_service(&service.id);
        }
        assert!(snapshot.service_by_vip("", ips(ip)[0], "shop").is_none(), "{name}, removed");
    }
}

#[test]
fn a_snapshot_is_shared_between_threads() {
    fn is_shared<T: Clone + Send + Sync>() {}
    is_shared::<Snapshot>();
}

/// A mesh of so many pods, 25 to a service, spread over three zones.
fn large(pods: usize) -> Snapshot {
    let mut snapshot = Snapshot::new("");
    let mut interner = Interner::new();
    for n in 0..pods {
        snapshot.upsert_workload(interner.workload(replica(n, "zone")).unwrap());
    }
    for n in 0..pods / 25 {
        let failover = |service: &mut Service| {
            service.load_balancer.mode = LoadBalancerMode::Failover;
            service.load_balancer.routing_preferences = Box::new([Scope::Zone]);
        };
        let vip = IpAddr::from([10, 200, (n / 250) as u8, (n % 250) as u8]);
        snapshot.upsert_service(service(&format!("s{n}"), &vip.to_string()).with(failover));
    }
    snapshot
}

fn replica(n: usize, zone: &str) -> WorkloadDescription {
    let ip = IpAddr::from([10, 1 + (n / 62_500) as u8, (n / 250 % 250) as u8, (n % 250) as u8]);
    pod(&format!("web-{n}"), &ip.to_string()).with(|pod| {
        pod.services = vec![serves(&format!("s{}", n / 25), [])];
        pod.locality.zone = format!("{zone}-{}", n % 3).into();
    })
}

#[test]
fn one_change_copies_a_few_nodes_however_many_workloads_there_are() {
    // A change touches four trees: by uid, by address, the services' endpoints, this service's endpoints.
    let footprints = [500, 5_000].map(|pods| {
        let before = large(pods);
        let nothing = before.clone().footprint_beside(&before);
        assert_eq!(nothing, Footprint::default(), "a clone costs nothing");
        let mut after = before.clone();
        after.upsert_workload(Interner::new().workload(replica(pods / 2, "moved")).unwrap());
        let changed = after.footprint_beside(&before);
        let whole = after.footprint_beside(&Snapshot::new(""));
        assert!(changed.nodes <= 16, "{pods} pods: {changed:?}");
        assert!(changed.bytes <= 16 * 1024, "{pods} pods: {changed:?}");
        assert!(whole.nodes > pods / 32 * 2, "{pods} pods: {whole:?}");
        changed
    });
    assert!(
        footprints[1].nodes <= footprints[0].nodes + 4,
        "ten times the pods, at most one more level in each of four trees: {footprints:?}"
    );
}

#[test]
fn a_change_of_a_service_copies_nothing_of_its_workloads() {
    let before = large(500);
    let mut after = before.clone();
    let old = before.service(&named("shop", "s7")).unwrap();
    after.upsert_service(Service { canonical: true, ..(**old).clone() });
    let changed = after.footprint_beside(&before);
    assert!((1..=8).contains(&changed.nodes), "{changed:?}");
    let ready = |snapshot: &Snapshot| {
        snapshot.endpoints_named(&named("shop", "s7")).unwrap().ready().clone()
    };
    assert!(ready(&after).is_same(&ready(&before)), "the endpoints stay as they are");
}

#[test]
fn what_every_shard_has_left_is_freed_without_another_publication() {
    let published = Published::new(Snapshot::new(""));
    let shards = [published.clone(), published.clone()].map(SnapshotReader::new);
    let decided_on = shards[1].current();
    published.publish(Snapshot::new(""));
    assert_eq!(published.free_left(), 0, "both shards hold it");
    shards[0].current();
    assert_eq!(published.free_left(), 0, "one shard holds it");
    shards[1].current();
    assert_eq!(published.free_left(), 0, "a decision holds it");
    drop(decided_on);
    assert_eq!((published.free_left(), published.free_left()), (1, 0));
}

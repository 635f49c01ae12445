//! What names mean, row by row; and the thread, in this process's own namespace, against name servers that are played.

mod serving;

use std::net::IpAddr;

use ringway_engine::snapshot::{
    Interner, IpFamilies, Membership, NamespacedHostname, NetworkAddress, Service, Snapshot,
    Visibility, Workload, WorkloadDescription,
};
use ringway_protocols::dns::{Answer, Name, Query, record_type};

use super::*;

/// A service that is known as `namespace/hostname`, with these addresses; `far:` before one is another network's.
fn service(namespace: &str, hostname: &str, vips: &str) -> Service {
    let vip = |text: &str| match text.strip_prefix("far:") {
        Some(ip) => NetworkAddress::new("far", ip.parse().unwrap()),
        None => NetworkAddress::new("", text.parse().unwrap()),
    };
    Service {
        name: hostname.split('.').next().unwrap_or_default().into(),
        vips: vips.split_whitespace().map(vip).collect(),
        ..Service::new(NamespacedHostname::new(namespace, hostname))
    }
}

fn with(mut service: Service, change: impl FnOnce(&mut Service)) -> Service {
    change(&mut service);
    service
}

fn pod(name: &str, network: &str, ips: &str, serves: &[(&str, &str)]) -> WorkloadDescription {
    let membership = |(namespace, hostname): &(&str, &str)| Membership {
        service: NamespacedHostname::new(*namespace, *hostname),
        ports: Box::default(),
    };
    WorkloadDescription {
        uid: format!("c1//Pod/shop/{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: "default".to_owned(),
        network: network.into(),
        addresses: ips.split_whitespace().map(|ip| ip.parse().unwrap()).collect(),
        services: serves.iter().map(membership).collect(),
        ..WorkloadDescription::default()
    }
}

/// The mesh that the table asks about. The client is `shop/client`.
fn mesh() -> Snapshot {
    const HEADLESS: (&str, &str) = ("shop", "db.shop.svc.cluster.local");
    const OUTSIDE: (&str, &str) = ("shop", "mongo.example.org");
    let mut snapshot = Snapshot::new("");
    let services = [
        service("shop", "web.shop.svc.cluster.local", "10.96.0.1 fd00:96::1"),
        service("other", "web.other.svc.cluster.local", "10.96.0.2"),
        service("shop", "api.example.com", "10.96.0.3"),
        service("shop", "*.wild.example.com", "10.96.0.4"),
        service("shop", "*.deep.wild.example.com", "10.96.0.5"),
        service("shop", "far.example.com", "far:10.97.0.6"),
        service("shop", HEADLESS.1, ""),
        service("shop", OUTSIDE.1, ""),
        with(service("shop", "four.example.com", "10.96.0.7 fd00:96::7"), |one| {
            one.ip_families = IpFamilies::Ipv4
        }),
        with(service("other", "hidden.example.com", "10.96.0.8"), |one| {
            one.visibility = Visibility::Namespace
        }),
        with(service("shop", "own.example.com", "10.96.0.9"), |one| {
            one.visibility = Visibility::Namespace
        }),
        // One name, many namespaces.
        service("a", "own-first.example.com", "10.96.1.1"),
        with(service("b", "own-first.example.com", "10.96.1.2"), |one| one.canonical = true),
        service("shop", "own-first.example.com", "10.96.1.3"),
        service("a", "canonical.example.com", "10.96.2.1"),
        with(service("b", "canonical.example.com", "10.96.2.2"), |one| one.canonical = true),
        service("preferred", "canonical.example.com", "10.96.2.3"),
        service("a", "preferred.example.com", "10.96.3.1"),
        service("preferred", "preferred.example.com", "10.96.3.2"),
        service("a", "first.example.com", "10.96.4.1"),
        service("b", "first.example.com", "10.96.4.2"),
    ];
    for service in services {
        snapshot.upsert_service(service);
    }
    let mut interner = Interner::new();
    let pods = [
        pod("client", "", "10.1.0.10", &[]),
        pod("db-0", "", "10.1.0.20 fd00:1::20", &[HEADLESS]),
        pod("db-1", "", "10.1.0.21", &[HEADLESS]),
        pod("db-2", "far", "10.2.0.22", &[HEADLESS]),
        pod("mongo-0", "", "10.1.0.30", &[OUTSIDE]),
    ];
    for pod in pods {
        snapshot.upsert_workload(interner.workload(pod).unwrap());
    }
    snapshot
}

fn settings() -> LookupSettings {
    LookupSettings {
        cluster_domain: "cluster.local".to_owned(),
        search: Search::OfKubernetes,
        ipv6: true,
        preferred_namespace: Some("preferred".to_owned()),
    }
}

fn client(snapshot: &Snapshot) -> Arc<Workload> {
    snapshot.workload_by_uid("c1//Pod/shop/client").unwrap().clone()
}

/// What is answered, in few words: `forward`, `nothing`, or the addresses in their order, behind the alias if there is one.
fn meaning(snapshot: &Snapshot, settings: &LookupSettings, name: &str, kind: u16) -> String {
    let query = Query::new(&Name::new(name).unwrap(), kind);
    let host = ["corp.example".to_owned()];
    let client = client(snapshot);
    match look_up(snapshot, &client, &query, settings, &host, &mut Random::new(7)) {
        Meaning::Forward => "forward".to_owned(),
        Meaning::Known { answer: Answer { alias, mut addresses, authoritative, .. }, .. } => {
            assert!(authoritative);
            addresses.sort();
            let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
            let alias = alias.map(|alias| format!("{alias}: ")).unwrap_or_default();
            if addresses.is_empty() { "nothing".to_owned() } else { alias + &addresses.join(" ") }
        }
    }
}

#[test]
fn names_mean_what_the_mesh_says() {
    use record_type::{A, AAAA};
    let (snapshot, settings) = (mesh(), settings());
    let rows = [
        //  what                                          asked                                           type  answered
        ("an outside name with an address", "api.example.com", A, "10.96.0.3"),
        ("the other family of it", "api.example.com", AAAA, "nothing"),
        (
            "through a search domain",
            "api.example.com.shop.svc.cluster.local",
            A,
            "api.example.com: 10.96.0.3",
        ),
        (
            "through a shorter search domain",
            "api.example.com.cluster.local",
            A,
            "api.example.com: 10.96.0.3",
        ),
        (
            "the other family through a search domain",
            "api.example.com.cluster.local",
            AAAA,
            "nothing",
        ),
        ("a service by its full name", "web.shop.svc.cluster.local", A, "10.96.0.1"),
        ("a service of two families", "web.shop.svc.cluster.local", AAAA, "fd00:96::1"),
        ("a service by its short name", "web", A, "10.96.0.1"),
        ("with its namespace", "web.shop", A, "10.96.0.1"),
        ("with its namespace and svc", "web.shop.svc", A, "10.96.0.1"),
        ("of another namespace", "web.other", A, "10.96.0.2"),
        (
            "of another namespace, completed by the client",
            "web.other.shop.svc.cluster.local",
            A,
            "web.other: 10.96.0.2",
        ),
        ("in whatever case", "WEB.Shop.SVC.cluster.local.", A, "10.96.0.1"),
        ("another cluster's domain", "web.shop.svc.remote.example", A, "forward"),
        ("a wildcard", "x.wild.example.com", A, "10.96.0.4"),
        ("more than one label under a wildcard", "y.x.wild.example.com", A, "10.96.0.4"),
        ("the more specific wildcard", "x.deep.wild.example.com", A, "10.96.0.5"),
        ("not the wildcard's own domain", "wild.example.com", A, "forward"),
        (
            "a wildcard through a search domain",
            "x.wild.example.com.svc.cluster.local",
            A,
            "10.96.0.4",
        ),
        ("the address of another network", "far.example.com", A, "nothing"),
        ("headless, IPv4, on this network", "db.shop", A, "10.1.0.20 10.1.0.21"),
        ("headless, IPv6", "db.shop.svc.cluster.local", AAAA, "fd00:1::20"),
        ("one pod of a headless service", "db-0.db.shop.svc.cluster.local", A, "forward"),
        ("outside, without an address", "mongo.example.org", A, "forward"),
        ("a family the service excludes", "four.example.com", AAAA, "nothing"),
        ("the family it includes", "four.example.com", A, "10.96.0.7"),
        ("somebody else's private service", "hidden.example.com", A, "forward"),
        ("one's own private service", "own.example.com", A, "10.96.0.9"),
        ("the client's namespace goes first", "own-first.example.com", A, "10.96.1.3"),
        ("then a canonical one", "canonical.example.com", A, "10.96.2.2"),
        ("then the preferred namespace", "preferred.example.com", A, "10.96.3.2"),
        ("then the first", "first.example.com", A, "10.96.4.1"),
        ("a name nobody has", "www.example.net", A, "forward"),
        ("another type of a name we know", "api.example.com", 33, "forward"),
    ];
    for (what, asked, kind, want) in rows {
        assert_eq!(meaning(&snapshot, &settings, asked, kind), want, "{what}: {asked}");
    }
}

#[test]
fn without_ipv6_there_are_no_such_addresses() {
    let settings = LookupSettings { ipv6: false, ..settings() };
    assert_eq!(meaning(&mesh(), &settings, "web", record_type::AAAA), "nothing");
    assert_eq!(meaning(&mesh(), &settings, "web", record_type::A), "10.96.0.1");
}

#[test]
fn search_domains_are_the_namespaces_or_the_hosts() {
    let own = settings();
    let host = LookupSettings { search: Search::OfHost, ..settings() };
    let (mesh, asked) = (mesh(), "api.example.com.corp.example");
    assert_eq!(meaning(&mesh, &own, asked, record_type::A), "forward");
    assert_eq!(meaning(&mesh, &host, asked, record_type::A), "api.example.com: 10.96.0.3");
    let asked = "api.example.com.shop.svc.cluster.local";
    assert_eq!(meaning(&mesh, &host, asked, record_type::A), "forward");
}

#[test]
fn every_address_is_first_sometimes() {
    let mut snapshot = Snapshot::new("");
    snapshot.upsert_service(service("shop", "many.example.com", "10.0.0.1 10.0.0.2 10.0.0.3"));
    let client = Interner::new().workload(pod("client", "", "10.1.0.1", &[])).unwrap();
    let query = Query::new(&Name::new("many.example.com").unwrap(), record_type::A);
    let mut firsts = std::collections::BTreeMap::new();
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let Meaning::Known { answer, .. } =
            look_up(&snapshot, &client, &query, &settings(), &[], &mut random)
        else {
            panic!("it is known")
        };
        assert_eq!(answer.addresses.len(), 3);
        *firsts.entry(answer.addresses[0]).or_insert(0) += 1;
    }
    assert!(
        firsts.len() == 3 && firsts.values().all(|count| (850..1150).contains(count)),
        "{firsts:?}"
    );
}

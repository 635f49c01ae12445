//! Which endpoint is chosen, and how often.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::decide::{Refusal, outbound};
use crate::snapshot::fixture::{With, gateway, mesh, pod, port, serves, service};
use crate::snapshot::{LoadBalancerMode, Locality, Scope, Service, Snapshot, WorkloadDescription};

/// How often each endpoint of `web` is chosen by the client, out of so many choices.
fn shares(mesh: &Snapshot, choices: u64) -> BTreeMap<String, u64> {
    let client = mesh.workload_by_uid("c1//Pod/shop/client").unwrap();
    let mut shares = BTreeMap::new();
    for random in 0..choices {
        if let Ok(route) = outbound(mesh, client, "10.2.0.1:80".parse().unwrap(), random) {
            let chosen = route.destination_workload.unwrap();
            *shares.entry(chosen.name().to_owned()).or_default() += 1;
        }
    }
    shares
}

/// A pod at `network/region/zone/node`.
fn at(name: &str, n: usize, place: &str) -> WorkloadDescription {
    let parts: Vec<&str> = place.split('/').collect();
    pod(name, &format!("10.1.{}.{}", n / 250, n % 250 + 1)).with(|pod| {
        pod.network = parts[0].to_owned();
        pod.locality =
            Locality { region: parts[1].into(), zone: parts[2].into(), ..Locality::default() };
        pod.node = parts[3].to_owned();
    })
}

fn endpoint(n: usize, place: &str) -> WorkloadDescription {
    at(&format!("web-{n}"), n, place).with(|pod| pod.services = vec![serves("web", [])])
}

fn balanced(mode: LoadBalancerMode, preferences: &[Scope]) -> Service {
    service("web", "10.2.0.1").with(|service| {
        service.load_balancer.mode = mode;
        service.load_balancer.routing_preferences = preferences.into();
    })
}

#[test]
fn capacity_is_the_share() {
    let with_capacity = |n, capacity| endpoint(n, "///").with(|pod| pod.capacity = capacity);
    let mesh = mesh(
        [with_capacity(1, 1), with_capacity(2, 3), with_capacity(3, 0), at("client", 99, "///")],
        [balanced(LoadBalancerMode::Standard, &[])],
    );
    let shares = shares(&mesh, 4000);
    assert!((900..1100).contains(&shares["web-1"]), "{shares:?}");
    assert!((2900..3100).contains(&shares["web-2"]), "{shares:?}");
    assert_eq!(shares.get("web-3"), None);
}

#[test]
fn candidates_that_are_few_among_many_still_share_equally() {
    // Only three of 300 know the named port, so drawing misses most of the time.
    let pods = (0..300).map(|n| {
        endpoint(n, "///").with(|pod| {
            if n % 100 == 0 {
                pod.services = vec![serves("web", [(80, 8080)])];
            }
        })
    });
    let named_port = balanced(LoadBalancerMode::Standard, &[])
        .with(|service| service.ports = Box::new([port(80, 0)]));
    let shares = shares(&mesh(pods.chain([at("client", 299, "///")]), [named_port]), 4000);
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["web-0", "web-100", "web-200"]);
    assert!(shares.values().all(|share| (1200..1470).contains(share)), "{shares:?}");
}

#[test]
fn preferences_narrow_the_choice() {
    use LoadBalancerMode::{Failover, Standard, Strict};
    use Scope::{Network, Node, Region, Zone};
    //  name, mode, preferences, endpoints web-0.., which of them may be chosen
    type Row = (
        &'static str,
        LoadBalancerMode,
        &'static [Scope],
        &'static [&'static str],
        &'static [&'static str],
    );
    let rows: [Row; 13] = [
        (
            "standard ignores preferences",
            Standard,
            &[Zone],
            &["/r/z/n", "/r/other/n"],
            &["web-0", "web-1"],
        ),
        ("strict keeps exact matches", Strict, &[Region, Zone], &["/r/z/n", "/r/y/n"], &["web-0"]),
        ("strict without a match has none", Strict, &[Region, Zone], &["/r/y/n"], &[]),
        ("strict to the node", Strict, &[Node], &["/r/z/n", "/r/z/m"], &["web-0"]),
        (
            "failover keeps the best rank",
            Failover,
            &[Region, Zone],
            &["/r/z/a", "/r/y/b", "/q/z/c", "/r/z/d"],
            &["web-0", "web-3"],
        ),
        (
            "failover spills to the next rank",
            Failover,
            &[Region, Zone],
            &["/q/z/a", "/r/y/b", "/r/x/c"],
            &["web-1", "web-2"],
        ),
        (
            "a later match without the earlier one counts nothing",
            Failover,
            &[Region, Zone],
            &["/q/z/a", "/q/y/b"],
            &["web-0", "web-1"],
        ),
        (
            "no preference ranks all alike",
            Failover,
            &[],
            &["/r/z/a", "/q/y/b"],
            &["web-0", "web-1"],
        ),
        (
            "one's own network goes first, however far the zone",
            Failover,
            &[Network, Region, Zone],
            &["n2/r/z/n", "/q/y/m"],
            &["web-1"],
        ),
        (
            "strict on the network too",
            Strict,
            &[Network, Region],
            &["n2/r/z/n", "/q/z/n", "/r/y/n"],
            &["web-2"],
        ),
        (
            "within one's own network locality ranks",
            Failover,
            &[Network, Region, Zone],
            &["/r/z/n", "/r/y/n", "/q/z/n"],
            &["web-0"],
        ),
        (
            "a scope named twice counts once",
            Failover,
            &[Zone, Zone, Node],
            &["/r/z/a", "/r/z/n", "/r/y/n"],
            &["web-1"],
        ),
        (
            "all six scopes",
            Failover,
            &[Network, Region, Zone, Scope::Subzone, Scope::Cluster, Node],
            &["/r/z/a", "/r/z/n", "/r/y/n"],
            &["web-1"],
        ),
    ];
    for (name, mode, preferences, places, want) in rows {
        let endpoints = places.iter().enumerate().map(|(n, place)| endpoint(n, place));
        let client = at("client", 99, "/r/z/n");
        let shares = shares(&mesh(endpoints.chain([client]), [balanced(mode, preferences)]), 500);
        assert_eq!(shares.keys().collect::<Vec<_>>(), want, "{name}");
    }
}

#[test]
fn on_other_networks_locality_still_ranks() {
    let rows: [(&str, &[&str], &str); 3] = [
        ("the nearest of two networks", &["n2/q/y/a", "n3/r/y/b"], "web-1"),
        ("the nearest of one network", &["n2/r/y/a", "n2/r/z/b", "n2/q/z/c"], "web-1"),
        ("a match after a mismatch counts nothing", &["n2/q/z/a", "n3/r/y/b"], "web-1"),
    ];
    for (name, places, want) in rows {
        let endpoints = places.iter().enumerate().map(|(n, place)| {
            endpoint(n, place).with(|pod| {
                // Nobody knows any gateway, so the refusal tells which was chosen.
                pod.network_gateway = Some(gateway(&format!("shop/{}", pod.name)));
            })
        });
        let preferences = [Scope::Network, Scope::Region, Scope::Zone];
        let service = balanced(LoadBalancerMode::Failover, &preferences);
        let mesh = mesh(endpoints.chain([at("client", 99, "/r/z/n")]), [service]);
        let client = mesh.workload_by_uid("c1//Pod/shop/client").unwrap();
        for random in 0..64 {
            let refusal =
                outbound(&mesh, client, "10.2.0.1:80".parse().unwrap(), random).unwrap_err();
            assert!(refusal.to_string().contains(want), "{name}: {refusal}");
        }
    }
}

#[test]
fn a_hash_in_common_is_nothing_in_common() {
    // More regions than there are hashes in tests: some share one, here as on other networks.
    let preferences = [Scope::Network, Scope::Region];
    for network in ["", "n2"] {
        for home in 0..12 {
            let endpoints = (0..12).map(|n| {
                endpoint(n, &format!("{network}/r{n}//")).with(|pod| {
                    pod.network_gateway = Some(gateway(&format!("shop/{}", pod.name)));
                })
            });
            let client = at("client", 99, &format!("/r{home}//"));
            let service = balanced(LoadBalancerMode::Failover, &preferences);
            let mesh = mesh(endpoints.chain([client]), [service]);
            let client = mesh.workload_by_uid("c1//Pod/shop/client").unwrap();
            let want = format!("web-{home}");
            for random in 0..32 {
                match outbound(&mesh, client, "10.2.0.1:80".parse().unwrap(), random) {
                    Ok(route) => assert_eq!(route.destination_workload.unwrap().name(), want),
                    // The gateway tells which one was chosen.
                    Err(Refusal::UnknownGateway { gateway }) => {
                        assert_eq!(gateway.to_string(), format!("shop/{want}.example"));
                    }
                    Err(refusal) => panic!("{refusal}"),
                }
            }
        }
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_does_not_hold_its_rank() {
    let full = endpoint(0, "/r/z/n").with(|pod| pod.capacity = 0);
    let far = endpoint(1, "/q/y/m");
    let service = balanced(LoadBalancerMode::Failover, &[Scope::Region, Scope::Zone]);
    let shares = shares(&mesh([full, far, at("client", 99, "/r/z/n")], [service]), 500);
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["web-1"]);
}

const SCOPES: [Scope; 4] = [Scope::Network, Scope::Region, Scope::Zone, Scope::Node];

fn value(workload: &WorkloadDescription, scope: Scope) -> &str {
    match scope {
        Scope::Region => &workload.locality.region,
        Scope::Zone => &workload.locality.zone,
        Scope::Subzone => &workload.locality.subzone,
        Scope::Node => &workload.node,
        Scope::Cluster => &workload.cluster,
        Scope::Network => &workload.network,
    }
}

/// The rank of the rules, told as they are told to people: matches in order, the first miss ends it; but
/// when the network is first, a match there counts for all that follow and a miss ends nothing.
fn rank(client: &WorkloadDescription, other: &WorkloadDescription, preferences: &[Scope]) -> usize {
    let mut rank = 0;
    for (index, &scope) in preferences.iter().enumerate() {
        let is_same = value(client, scope) == value(other, scope);
        match (is_same, index == 0 && scope == Scope::Network) {
            (true, true) => rank += preferences.len(),
            (true, false) => rank += 1,
            (false, true) => {}
            (false, false) => break,
        }
    }
    rank
}

fn some_place() -> impl Strategy<Value = String> {
    (0..2u8, 0..2u8, 0..3u8, 0..3u8).prop_map(|(network, region, zone, node)| {
        let network = if network == 0 { "" } else { "n2" };
        format!("{network}/r{region}/z{zone}/n{node}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_chosen_are_exactly_the_best_by_the_rules(
        places in prop::collection::vec((some_place(), 0..3u32), 0..24),
        home in some_place(),
        preferences in Just(SCOPES.to_vec()).prop_shuffle(),
        count in 0..=4usize,
        is_strict: bool,
    ) {
        let preferences = &preferences[..count];
        let client = at("client", 299, &home);
        let endpoints: Vec<WorkloadDescription> = places
            .iter()
            .enumerate()
            .map(|(n, (place, capacity))| endpoint(n, place).with(|pod| pod.capacity = *capacity))
            .collect();
        // What can be dialled: some capacity, and here.
        let candidates = endpoints
            .iter()
            .filter(|one| one.capacity > 0 && one.network == client.network);
        let best = candidates.clone().map(|one| rank(&client, one, preferences)).max();
        let is_match = |one: &WorkloadDescription| {
            preferences.iter().all(|&scope| value(&client, scope) == value(one, scope))
        };
        let want: Vec<&str> = candidates
            .filter(|one| match is_strict {
                true => is_match(one),
                false => Some(rank(&client, one, preferences)) == best,
            })
            .map(|one| &*one.name)
            .collect();
        let mode = if is_strict { LoadBalancerMode::Strict } else { LoadBalancerMode::Failover };
        let service = balanced(mode, preferences)
            .with(|service| service.vips = [crate::snapshot::NetworkAddress::new(client.network.as_str(), "10.2.0.1".parse().unwrap())].into());
        let shares = shares(&mesh(endpoints.iter().cloned().chain([client]), [service]), 1000);
        let got: std::collections::BTreeSet<&str> = shares.keys().map(|name| &**name).collect();
        prop_assert_eq!(got, want.into_iter().collect());
    }
}

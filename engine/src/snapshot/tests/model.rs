//! A snapshot against a naive model, through random changes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::super::fixture::named;
use super::super::*;

const NETWORKS: [&str; 2] = ["", "n2"];
const NAMESPACES: [&str; 2] = ["shop", "bank"];

/// Workloads and services in the order in which they came; every question is a search.
#[derive(Clone, Debug, Default)]
struct Naive {
    workloads: Vec<WorkloadDescription>,
    services: Vec<Service>,
}

impl Naive {
    fn upsert_workload(&mut self, workload: WorkloadDescription) {
        self.remove_workload(&workload.uid);
        self.workloads.push(workload);
    }

    fn remove_workload(&mut self, uid: &str) {
        self.workloads.retain(|other| other.uid != uid);
    }

    fn upsert_service(&mut self, service: Service) {
        self.remove_service(&service.id);
        self.services.push(service);
    }

    fn remove_service(&mut self, id: &NamespacedHostname) {
        self.services.retain(|other| other.id != *id);
    }

    fn workload_by_address(&self, network: &str, ip: IpAddr) -> Option<&str> {
        let here = self.workloads.iter().filter(|workload| {
            workload.network == network
                && workload.addresses.contains(&ip)
                && workload.network_mode == NetworkMode::Standard
        });
        let rank = |workload: &&WorkloadDescription| {
            (workload.uid.contains("//Pod/"), workload.protocol == TunnelProtocol::Hbone)
        };
        here.max_by_key(rank).map(|workload| &*workload.uid)
    }

    fn services_by_vip(&self, network: &str, ip: IpAddr, client: &str) -> Vec<&Service> {
        let has_it = |service: &&Service| service.vips.contains(&NetworkAddress::new(network, ip));
        self.services
            .iter()
            .filter(has_it)
            .filter(|service| service.is_visible_to(client))
            .collect()
    }

    /// The longest range in bits around `ip` of any visible service in the client's namespace, or of any.
    fn service_by_range(&self, network: &str, ip: IpAddr, client: &str) -> Option<&Service> {
        let mut best: Option<((bool, u8, bool), &Service)> = None;
        for service in self.services.iter().filter(|service| service.is_visible_to(client)) {
            for range in &service.cidr_vips {
                let rank = (service.namespace() == client, range.cidr.length(), service.canonical);
                let is_around = *range.network == *network && range.cidr.contains(ip);
                if is_around && best.is_none_or(|(other, _)| rank > other) {
                    best = Some((rank, service));
                }
            }
        }
        best.map(|(_, service)| service)
    }

    fn service_by_vip(
        &self,
        network: &str,
        ip: IpAddr,
        client: &str,
    ) -> Option<&NamespacedHostname> {
        let exact = self.services_by_vip(network, ip, client);
        let own = exact.iter().find(|service| service.namespace() == client);
        let canonical = exact.iter().rev().find(|service| service.canonical);
        let best = own.or(canonical).or(exact.first()).copied();
        best.or_else(|| self.service_by_range(network, ip, client)).map(|service| &service.id)
    }

    fn endpoints(&self, id: &NamespacedHostname) -> BTreeSet<&str> {
        let service = self.services.iter().find(|service| service.id == *id);
        let policy = service.map(|service| service.load_balancer.health_policy);
        let is_ready = |workload: &&WorkloadDescription| {
            workload.health == Health::Healthy || policy != Some(HealthPolicy::OnlyHealthy)
        };
        let names_it = |workload: &&WorkloadDescription| {
            workload.services.iter().any(|membership| membership.service == *id)
        };
        self.workloads
            .iter()
            .filter(names_it)
            .filter(is_ready)
            .map(|workload| &*workload.uid)
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    UpsertWorkload(Box<WorkloadDescription>),
    RemoveWorkload(String),
    UpsertService(Service),
    RemoveService(NamespacedHostname),
    Publish,
}

fn some_ip() -> impl Strategy<Value = IpAddr> {
    (0..4u8).prop_map(|last| IpAddr::from([10, 0, 0, last]))
}

fn some_uid() -> impl Strategy<Value = String> {
    (0..12u8)
        .prop_map(|n| if n % 3 == 0 { format!("entry-{n}") } else { format!("c1//Pod/shop/{n}") })
}

fn some_service_id() -> impl Strategy<Value = NamespacedHostname> {
    (0..2usize, 0..5u8).prop_map(|(namespace, n)| named(NAMESPACES[namespace], &format!("s{n}")))
}

fn some_workload() -> impl Strategy<Value = WorkloadDescription> {
    let memberships = prop::collection::btree_set(some_service_id(), 0..3).prop_map(|ids| {
        ids.into_iter()
            .map(|service| Membership { service, ports: Box::default() })
            .collect::<Vec<_>>()
    });
    let addresses = prop::collection::btree_set(some_ip(), 0..3);
    (some_uid(), addresses, memberships, any::<[bool; 4]>(), 0..2usize).prop_map(
        |(uid, addresses, services, [is_sick, is_on_host, is_tcp, in_zone], network)| {
            WorkloadDescription {
                name: uid.clone(),
                uid,
                addresses: addresses.into_iter().collect(),
                services,
                network: NETWORKS[network].to_owned(),
                locality: Locality {
                    zone: if in_zone { "z".into() } else { "".into() },
                    ..Locality::default()
                },
                health: if is_sick { Health::Unhealthy } else { Health::Healthy },
                network_mode: if is_on_host {
                    NetworkMode::HostNetwork
                } else {
                    NetworkMode::Standard
                },
                protocol: if is_tcp { TunnelProtocol::Tcp } else { TunnelProtocol::Hbone },
                namespace: "shop".to_owned(),
                ..WorkloadDescription::default()
            }
        },
    )
}

fn some_service() -> impl Strategy<Value = Service> {
    let vips = prop::collection::btree_set((0..2usize, some_ip()), 0..3);
    let ranges = prop::collection::btree_set((0..2usize, some_ip(), 24..=32u8), 0..3);
    (some_service_id(), vips, ranges, any::<[bool; 4]>()).prop_map(
        |(id, vips, ranges, [canonical, is_private, allows_all, is_ranked])| Service {
            vips: vips
                .into_iter()
                .map(|(network, ip)| NetworkAddress::new(NETWORKS[network], ip))
                .collect(),
            cidr_vips: ranges
                .into_iter()
                .map(|(network, ip, length)| NetworkCidr {
                    network: NETWORKS[network].into(),
                    cidr: Cidr::new(ip, length).unwrap(),
                })
                .collect(),
            canonical,
            visibility: if is_private { Visibility::Namespace } else { Visibility::Public },
            load_balancer: LoadBalancer {
                mode: LoadBalancerMode::Failover,
                routing_preferences: if is_ranked {
                    Box::new([Scope::Zone])
                } else {
                    Box::default()
                },
                health_policy: if allows_all {
                    HealthPolicy::AllowAll
                } else {
                    HealthPolicy::OnlyHealthy
                },
            },
            ..Service::new(id)
        },
    )
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => some_workload().prop_map(|workload| Step::UpsertWorkload(Box::new(workload))),
        2 => some_uid().prop_map(Step::RemoveWorkload),
        3 => some_service().prop_map(Step::UpsertService),
        1 => some_service_id().prop_map(Step::RemoveService),
        1 => Just(Step::Publish),
    ]
}

fn check(snapshot: &Snapshot, naive: &Naive) {
    let uids: BTreeSet<&str> = snapshot.workloads().map(|workload| workload.uid()).collect();
    assert_eq!(uids, naive.workloads.iter().map(|workload| &*workload.uid).collect());
    assert_eq!(snapshot.workload_count(), naive.workloads.len());
    assert_eq!(snapshot.service_count(), naive.services.len());
    for uid in &uids {
        assert_eq!(snapshot.workload_by_uid(uid).map(|workload| workload.uid()), Some(*uid));
    }
    for network in NETWORKS {
        for last in 0..4 {
            let ip = IpAddr::from([10, 0, 0, last]);
            assert_eq!(
                snapshot.workload_by_address(network, ip).map(|workload| workload.uid()),
                naive.workload_by_address(network, ip)
            );
            for client in NAMESPACES {
                assert_eq!(
                    snapshot.service_by_vip(network, ip, client).map(|service| &service.id),
                    naive.service_by_vip(network, ip, client),
                    "{network}/{ip} for {client}"
                );
            }
        }
    }
    let mut missing = BTreeSet::new();
    for namespace in NAMESPACES {
        for n in 0..5 {
            let id = named(namespace, &format!("s{n}"));
            let endpoints: BTreeSet<&str> =
                snapshot.endpoints(&id).map(|(workload, _)| workload.uid()).collect();
            assert_eq!(endpoints, naive.endpoints(&id), "{id}");
            for (workload, membership) in snapshot.endpoints(&id) {
                assert_eq!(membership.service, id);
                let current = snapshot.workload_by_uid(workload.uid()).unwrap();
                assert!(Arc::ptr_eq(workload, current), "endpoints are today's workloads");
            }
            let is_there = naive.services.iter().any(|service| service.id == id);
            assert_eq!(snapshot.service(&id).is_some(), is_there);
            let is_named = naive
                .workloads
                .iter()
                .any(|workload| workload.services.iter().any(|other| other.service == id));
            if is_named && !is_there {
                missing.insert(id);
            }
        }
    }
    assert_eq!(snapshot.missing_services().cloned().collect::<BTreeSet<_>>(), missing);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_sequence_of_changes_ends_like_the_naive_model_and_published_snapshots_stay(
        steps in prop::collection::vec(some_step(), 0..80),
    ) {
        let mut snapshot = Snapshot::new("");
        let mut naive = Naive::default();
        let mut published = Vec::new();
        let mut interner = Interner::new();
        for step in steps {
            match step {
                Step::UpsertWorkload(description) => {
                    snapshot.upsert_workload(interner.workload((*description).clone()).unwrap());
                    naive.upsert_workload(*description);
                }
                Step::RemoveWorkload(uid) => {
                    let was_there = naive.workloads.iter().any(|other| other.uid == uid);
                    prop_assert_eq!(snapshot.remove_workload(&uid).is_some(), was_there);
                    naive.remove_workload(&uid);
                }
                Step::UpsertService(service) => {
                    snapshot.upsert_service(service.clone());
                    naive.upsert_service(service);
                }
                Step::RemoveService(id) => {
                    let was_there = naive.services.iter().any(|other| other.id == id);
                    prop_assert_eq!(snapshot.remove_service(&id).is_some(), was_there);
                    naive.remove_service(&id);
                }
                Step::Publish => published.push((snapshot.clone(), naive.clone())),
            }
        }
        published.push((snapshot, naive));
        for (snapshot, naive) in &published {
            check(snapshot, naive);
        }
    }
}

//! More names than there are keys (see `key_of`): whatever is looked up is found, and nothing else is.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{Material, Options};
use rustls_pki_types::PrivateKeyDer;

use super::super::fixture::*;
use super::super::*;

/// Eight keys, so at least two of these share one.
const NAMES: std::ops::Range<u8> = 0..12;

#[test]
fn resolutions() {
    let name = |n: u8| format!("db-{n}.example");
    let address = |n: u8| IpAddr::from([10, 9, 0, n]);
    let mut resolutions = Resolutions::default();
    for n in NAMES {
        resolutions.set(&name(n), &[address(n)]);
    }
    for n in NAMES {
        assert_eq!(resolutions.look_up(&name(n)), [address(n)]);
        resolutions.set(&name(n), &[]);
        assert!(resolutions.look_up(&name(n)).is_empty(), "{n} was removed");
    }
}

#[test]
fn workloads_by_hostname() {
    let named_pod =
        |n: u8| pod(&format!("vm-{n}"), "").with(|pod| pod.hostname = format!("vm-{n}.example"));
    let snapshot = mesh(NAMES.map(named_pod), []);
    for n in NAMES {
        let found = snapshot.workload_by_hostname(&named("shop", &format!("vm-{n}"))).unwrap();
        assert_eq!(found.name(), format!("vm-{n}"));
        assert!(snapshot.workload_by_hostname(&named("bank", &format!("vm-{n}"))).is_none());
    }
}

#[test]
fn services_by_hostname() {
    let services = NAMES.map(|n| service(&format!("s{n}"), ""));
    let snapshot = mesh([], services);
    for n in NAMES {
        let hostname = format!("s{n}.example");
        let found: Vec<&str> =
            snapshot.services_by_hostname(&hostname).map(|service| service.hostname()).collect();
        assert_eq!(found, [&hostname]);
        assert!(snapshot.service_by_hostname(&format!("t{n}.example"), "shop").is_none());
    }
}

#[test]
fn endpoints_of_services_that_change() {
    let pods = NAMES.map(|n| {
        pod(&format!("web-{n}"), "").with(|pod| pod.services = vec![serves(&format!("s{n}"), [])])
    });
    let mut snapshot = mesh(pods, NAMES.map(|n| service(&format!("s{n}"), "")));
    for n in NAMES {
        let change = |service: &mut Service| {
            service.load_balancer.health_policy = HealthPolicy::AllowAll;
        };
        snapshot.upsert_service(service(&format!("s{n}"), "").with(change));
    }
    for n in NAMES {
        let endpoints = snapshot.endpoints(&named("shop", &format!("s{n}")));
        let names: Vec<&str> = endpoints.map(|(workload, _)| workload.name()).collect();
        assert_eq!(names, [format!("web-{n}")]);
    }
}

#[test]
fn credentials() {
    let issued = NAMES.map(|n| issue(&identity(n))).collect::<Vec<_>>();
    let mut snapshot = Snapshot::new("");
    for credentials in &issued {
        snapshot.set_credentials(Arc::clone(credentials));
    }
    let renewed = issue(&identity(0));
    snapshot.set_credentials(Arc::clone(&renewed));
    assert_eq!(snapshot.all_credentials().count(), NAMES.len(), "renewed, not added");
    assert!(Arc::ptr_eq(snapshot.credentials(&identity(0)).unwrap(), &renewed));
    for (n, credentials) in NAMES.zip(&issued).skip(1) {
        assert!(Arc::ptr_eq(snapshot.credentials(&identity(n)).unwrap(), credentials));
        let removed = snapshot.remove_credentials(&identity(n)).unwrap();
        assert!(Arc::ptr_eq(&removed, credentials));
        assert!(snapshot.credentials(&identity(n)).is_none(), "{n} was removed");
        assert!(snapshot.remove_credentials(&identity(n)).is_none());
    }
}

fn identity(n: u8) -> Identity {
    Identity::new("cluster.local", "shop", format!("account-{n}")).unwrap()
}

fn issue(identity: &Identity) -> Arc<Credentials> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, &authority).unwrap();
    let material = Material {
        chain: vec![leaf.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        trust_anchors: vec![authority.der().clone()],
    };
    Arc::new(Credentials::new(material, &Options::default()).unwrap())
}

#[test]
fn policies_of_namespaces_and_by_name() {
    let policy = |n: u8, scope| AuthorizationPolicy {
        name: format!("p{n}").into(),
        namespace: format!("ns{n}").into(),
        scope,
        action: PolicyAction::Deny,
        rules: Vec::new(),
        dry_run: false,
    };
    for scope in [PolicyScope::Namespace, PolicyScope::WorkloadSelector] {
        let mut snapshot = mesh(
            NAMES.map(|n| {
                pod(&format!("web-{n}"), "").with(|pod| {
                    pod.namespace = format!("ns{n}");
                    pod.authorization_policies = vec![format!("ns{n}/p{n}")];
                })
            }),
            [],
        );
        NAMES.for_each(|n| snapshot.upsert_policy(policy(n, scope)));
        let of = |snapshot: &Snapshot, n: u8| -> Vec<String> {
            let workload = snapshot.workload_by_uid(&format!("c1//Pod/shop/web-{n}")).unwrap();
            let selected = snapshot.policies_selecting(workload);
            selected
                .map(|one| match one {
                    Selected::Known(policy) => policy.description().name.to_string(),
                    Selected::NeverSeen(name) => format!("{name}?"),
                })
                .collect()
        };
        for n in NAMES {
            assert_eq!(
                &*snapshot.policy(&format!("ns{n}"), &format!("p{n}")).unwrap().name,
                format!("p{n}")
            );
            assert_eq!(of(&snapshot, n), [format!("p{n}")]);
        }
        for n in NAMES {
            snapshot.remove_policy(&format!("ns{n}"), &format!("p{n}"));
            assert_eq!(of(&snapshot, n), Vec::<String>::new(), "{n} was removed");
            assert_eq!(snapshot.policies().count(), usize::from(NAMES.end - 1 - n));
        }
        snapshot.remove_workload("c1//Pod/shop/web-3");
        let again = pod("web-3", "").with(|pod| {
            pod.namespace = "ns3".to_owned();
            pod.authorization_policies = vec!["ns3/p3".to_owned(), "ns4/p4".to_owned()];
        });
        upsert(&mut snapshot, again);
        assert_eq!(of(&snapshot, 3), ["ns3/p3?"], "forgotten, but the one that is named still");
    }
}

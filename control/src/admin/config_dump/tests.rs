//! The dump of a small mesh.

use std::time::SystemTime;

use ringway_engine::snapshot::{
    GatewayAddress, GatewayDestination, Interner, LoadBalancer, LoadBalancerMode, Membership,
    NamespacedHostname, NetworkAddress, PortMapping, Service, ServicePort, TunnelProtocol,
    WorkloadDescription,
};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{Credentials, Options};

use super::*;
use crate::identity::{CaOptions, EmbeddedCa, certificate};
use crate::source::{self, Source};

fn name(host: &str) -> NamespacedHostname {
    NamespacedHostname::new("shop", host)
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::new("");
    let mut interner = Interner::default();
    for (pod, service) in [("web-1", "web.example"), ("api-1", "missing.example")] {
        let description = WorkloadDescription {
            uid: format!("c1//Pod/shop/{pod}"),
            name: pod.to_owned(),
            namespace: "shop".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            protocol: TunnelProtocol::Hbone,
            services: vec![Membership {
                service: name(service),
                ports: Box::new([PortMapping { service_port: 80, target_port: 8080 }]),
            }],
            ..WorkloadDescription::default()
        };
        snapshot.upsert_workload(interner.workload(description).unwrap());
    }
    let mut service = Service::new(name("web.example"));
    service.vips = Box::new([NetworkAddress::new("", "10.9.0.1".parse().unwrap())]);
    service.ports = Box::new([ServicePort {
        service_port: 80,
        target_port: 8080,
        app_protocol: Default::default(),
    }]);
    service.load_balancer =
        LoadBalancer { mode: LoadBalancerMode::Failover, ..LoadBalancer::default() };
    service.waypoint = Some(GatewayAddress {
        destination: GatewayDestination::Hostname(name("waypoint.example")),
        hbone_mtls_port: 15008,
    });
    snapshot.upsert_service(service);
    snapshot
}

fn dump(identities: Vec<IdentityStatus>) -> Value {
    let info = WorkloadInfo {
        name: "web-1".to_owned(),
        namespace: "shop".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        service_account: "web".to_owned(),
    };
    let connections = Connections::default();
    let state = WorkloadState { state: "Up", error: None, connections, info };
    let input = DumpInput {
        snapshot: Arc::new(snapshot()),
        identities,
        workload_state: [("c1//Pod/shop/web-1".to_owned(), state)].into(),
        config: serde_json::json!({"reactor": "auto"}),
        static_config: static_config(None),
        version: VersionInfo {
            version: "0.1.0".to_owned(),
            git_revision: "unknown".to_owned(),
            rust_version: "1".to_owned(),
            build_profile: "debug".to_owned(),
            build_status: "Clean".to_owned(),
            istio_version: "unknown".to_owned(),
            crypto_provider: "aws-lc-rs".to_owned(),
        },
    };
    serde_json::from_slice(&render(&input)).unwrap()
}

#[test]
fn workloads_and_services_have_the_shape_istioctl_reads() {
    let dump = dump(Vec::new());
    assert_eq!(
        dump["workloads"][1],
        serde_json::json!({
            "uid": "c1//Pod/shop/web-1",
            "workloadIps": ["10.0.0.1"],
            "protocol": "HBONE",
            "networkMode": "Standard",
            "name": "web-1",
            "namespace": "shop",
            "serviceAccount": "default",
            "workloadType": "deployment",
            "clusterId": "Kubernetes",
            "trustDomain": "cluster.local",
            "status": "Healthy",
            "capacity": 1,
            "services": ["shop/web.example"],
        })
    );
    let endpoint = serde_json::json!({
        "workloadUid": "c1//Pod/shop/web-1", "port": {"80": 8080}, "status": "Healthy"
    });
    assert_eq!(
        dump["services"],
        serde_json::json!([{
            "name": "web",
            "namespace": "shop",
            "hostname": "web.example",
            "vips": ["/10.9.0.1"],
            "ports": {"80": 8080},
            "loadBalancer":
                {"mode": "Failover", "routingPreferences": [], "healthPolicy": "OnlyHealthy"},
            "waypoint": {"destination": "shop/waypoint.example", "hboneMtlsPort": 15008},
            "endpoints": {"c1//Pod/shop/web-1": endpoint},
            "subjectAltNames": [],
            "canonical": false,
            "visibility": "Public",
        }])
    );
    assert!(dump["stagedServices"]["shop/missing.example"]["c1//Pod/shop/api-1"].is_object());
    assert_eq!(dump["policies"], serde_json::json!([]));
    assert_eq!(dump["workloadState"]["c1//Pod/shop/web-1"]["state"], "Up");
    assert_eq!(dump["version"]["cryptoProvider"], "aws-lc-rs");
    assert_eq!(dump["config"]["reactor"], "auto");
}

#[test]
fn certificates_tell_their_state_and_no_key() {
    let home = tempfile::TempDir::new().unwrap();
    let now = SystemTime::now();
    let ca = EmbeddedCa::open(&home.path().join("ca"), CaOptions::default(), now).unwrap();
    let identity = |name: &str| Identity::new("cluster.local", "shop", name).unwrap();
    let material = ca.issue(&identity("web"), now).unwrap();
    let key = certificate::base64(material.key.secret_der());
    let credentials = Credentials::new(material, &Options::default()).unwrap();
    let dump = dump(vec![
        IdentityStatus {
            identity: identity("web"),
            credentials: Some(Arc::new(credentials)),
            error: Some("the last renewal failed".to_owned()),
        },
        IdentityStatus { identity: identity("new"), credentials: None, error: None },
        IdentityStatus {
            identity: identity("bad"),
            credentials: None,
            error: Some("no".to_owned()),
        },
    ]);
    let states: Vec<_> = dump["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["Unavailable: no", "Initializing", "Available"]);
    let leaf = &dump["certificates"][2]["certChain"][0];
    assert!(leaf["serialNumber"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    assert!(leaf["expirationTime"].as_str().unwrap().ends_with('Z'));
    assert!(leaf["pem"].as_str().unwrap().starts_with("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t"));
    assert_eq!(dump["certificates"][2]["rootCerts"].as_array().unwrap().len(), 1);
    assert!(!dump.to_string().contains(&key), "keys stay inside");
}

/// What is dumped is ztunnel's local form, so it can be read again: it must come to the same policies.
#[test]
fn a_dump_of_policies_can_be_read_again() {
    let every_key = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: every, namespace: istio-system, annotations: {istio.io/dry-run: 'true'}}
spec:
  action: DENY
  rules:
  - from:
    - source: {principals: [a/ns/b/sa/c, 'a*', '*c', '*'], namespaces: [a], ipBlocks: [10.0.0.0/8]}
    - source: {notPrincipals: ['*'], notNamespaces: [a], notIpBlocks: ['fd00::/8']}
    - source: {serviceAccounts: [a/b], notServiceAccounts: [c/d]}
    to: [{operation: {ports: ['80'], notPorts: ['81']}}]
    when: [{key: destination.ip, values: [10.0.0.1], notValues: [10.0.0.2]}]
  - {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {}
";
    let load = |text: &str| {
        let source = Source::Text { name: "mesh.yaml".to_owned(), text: text.to_owned() };
        source::load(&[source], Some("host-a")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    };
    let dumped = |snapshot: Snapshot| {
        let policies: Vec<_> = snapshot.policies().map(|one| PolicyView::of(one)).collect();
        let mut policies = serde_json::to_value(policies).unwrap();
        let list = policies.as_array_mut().unwrap();
        list.sort_by_key(|policy| policy["name"].to_string());
        policies
    };
    let first = dumped(load(every_key).snapshot);
    assert_eq!(first.as_array().unwrap().len(), 3);
    assert_eq!(
        first[0]["rules"][0][0][0],
        serde_json::json!({
            "namespaces": [{"Exact": "a"}],
            "principals": [
                {"Exact": "a/ns/b/sa/c"}, {"Prefix": "a"}, {"Suffix": "c"}, {"Presence": []}
            ],
            "sourceIps": ["10.0.0.0/8"],
        })
    );
    assert_eq!((&first[0]["scope"], &first[0]["action"]), (&"Global".into(), &"Deny".into()));
    let again = load(&serde_json::json!({"policies": first}).to_string());
    assert_eq!(dumped(again.snapshot), first);
}

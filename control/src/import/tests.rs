use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ringway_engine::snapshot::{AppProtocol, Service, Snapshot};
use serde_json::{Value, json};

use super::*;
use crate::admin::config_dump::{DumpInput, VersionInfo, render};
use crate::source::{MeshConfig, is_same_workload, load};

/// Everything a local file can say, and what objects come to beside it.
const RICH: &str = r#"
workloads:
- uid: c1//Pod/shop/web-0
  name: web-0
  namespace: shop
  trustDomain: example.org
  serviceAccount: web
  clusterId: c1
  node: host-a
  network: west
  workloadIps: ["10.1.0.10", "fd00:1::10"]
  protocol: HBONE
  workloadName: web
  workloadType: pod
  canonicalName: web
  canonicalRevision: v1
  status: Healthy
  capacity: 3
  nativeTunnel: true
  locality: {region: eu, zone: b, subzone: c}
  waypoint: {destination: shop/waypoint.shop.svc.cluster.local, hboneMtlsPort: 15008}
  networkGateway: {destination: far/10.9.0.1, hboneMtlsPort: 15009}
  applicationTunnel: {protocol: PROXY, port: 9090}
  authorizationPolicies: [shop/only-clients]
  services:
    shop/api.shop.svc.cluster.local: {}
    shop/web.shop.svc.cluster.local: {80: 8080, 81: 8081}
- uid: c1//Pod/shop/sick
  name: sick
  namespace: shop
  trustDomain: example.org
  serviceAccount: web
  clusterId: c1
  node: host-b
  network: west
  workloadIps: []
  hostname: sick.example.org
  networkMode: HostNetwork
  protocol: TCP
  status: Unhealthy
  services: {shop/gone.shop.svc.cluster.local: {90: 9090}, shop/web.shop.svc.cluster.local: {}}
services:
- name: web
  namespace: shop
  hostname: web.shop.svc.cluster.local
  vips: [west/10.96.0.1, "west/fd00:96::1", west/10.97.0.0/16]
  ports: {80: 8080, 81: 0}
  subjectAltNames: ["spiffe://example.org/ns/shop/sa/other"]
  loadBalancer: {mode: Failover, routingPreferences: [Network, Region], healthPolicy: OnlyHealthy}
  ipFamilies: Dual
  canonical: true
  visibility: Namespace
  waypoint: {destination: west/10.96.0.9, hboneMtlsPort: 15008}
  weightedWaypoints: [{destination: {destination: west/10.96.0.9, hboneMtlsPort: 15008}, weight: 4}]
- {name: api, namespace: shop, hostname: api.shop.svc.cluster.local, vips: [], ports: {}}
policies:
- name: only-clients
  namespace: shop
  scope: WorkloadSelector
  action: Deny
  dryRun: true
  rules:
  - - - namespaces: [!Exact shop]
        notNamespaces: [!Prefix dev-]
        principals: [!Suffix /sa/web, !Presence '']
        serviceAccounts: [{namespace: shop, serviceAccount: client}]
        sourceIps: [10.0.0.0/8]
        notDestinationIps: [10.1.0.1/32]
    - - destinationPorts: [8080]
        notDestinationPorts: [22]
"#;

fn mesh_of(text: &str) -> MeshConfig {
    let source = Source::Text { name: "mesh.yaml".to_owned(), text: text.to_owned() };
    load(&[source], Some("host-a")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn dump_of(snapshot: &Snapshot) -> Vec<u8> {
    render(&DumpInput {
        snapshot: Arc::new(snapshot.clone()),
        identities: Vec::new(),
        workload_state: BTreeMap::new(),
        config: json!({"reactor": "auto"}),
        static_config: Value::Null,
        version: VersionInfo {
            version: "0.1.0".to_owned(),
            git_revision: "unknown".to_owned(),
            rust_version: "unknown".to_owned(),
            build_profile: "debug".to_owned(),
            build_status: "Clean".to_owned(),
            istio_version: "unknown".to_owned(),
            crypto_provider: "aws-lc-rs".to_owned(),
        },
    })
}

fn import(dump: &[u8]) -> Imported {
    config_dump(dump, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// A dump does not tell what is spoken on a port, nor does anything that decides on connections ask.
fn without_protocols(service: &Service) -> Service {
    let mut service = service.clone();
    service.ports.iter_mut().for_each(|port| port.app_protocol = AppProtocol::Unknown);
    service
}

fn assert_same(one: &Snapshot, other: &Snapshot) {
    assert_eq!(one.workload_count(), other.workload_count());
    for workload in one.workloads() {
        let again = other.workload_by_uid(workload.uid()).expect("every workload is there");
        assert!(is_same_workload(workload, again), "{workload:?} is now {again:?}");
    }
    assert_eq!(one.service_count(), other.service_count());
    for service in one.services() {
        let again = other.service(&service.id).expect("every service is there");
        assert_eq!(without_protocols(service), **again);
    }
    let policies = |snapshot: &Snapshot| {
        let mut policies: Vec<_> = snapshot.policies().map(|one| format!("{one:?}")).collect();
        policies.sort();
        policies
    };
    assert_eq!(policies(one), policies(other));
}

#[test]
fn what_is_dumped_is_imported_again() {
    let first = mesh_of(RICH).snapshot;
    let imported = import(&dump_of(&first));
    // One policy is in every mesh that was read from files.
    assert_eq!((imported.workloads, imported.services), (2, 2));
    assert_eq!(imported.policies, first.policies().count());
    assert!(first.policy("shop", "only-clients").is_some());
    let second = mesh_of(&imported.text).snapshot;
    assert_same(&first, &second);
    assert_eq!(import(&dump_of(&second)).text, imported.text);
    let told = imported.notes.join("\n");
    assert!(told.contains("certificates, workloadState, config, version"), "{told}");
    assert!(told.contains("1 times a workload is not ready"), "{told}");
}

#[test]
fn a_mesh_of_objects_is_imported_too() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
    let first = load(&[Source::Path(directory)], Some("host-a")).unwrap().snapshot;
    assert!(first.workload_count() > 3 && first.policies().count() > 0);
    let second = mesh_of(&import(&dump_of(&first)).text).snapshot;
    assert_same(&first, &second);
}

/// As ztunnel writes it: nothing that goes without saying, nulls, and what we have no word for.
fn ztunnels() -> Value {
    json!({
        "workloads": {"c1//Pod/shop/web-0": {
            "uid": "c1//Pod/shop/web-0", "workloadIPs": ["10.1.0.10"], "name": "web-0", "namespace": "shop",
            "protocol": "HBONE", "status": "Healthy", "node": "node-a", "capacity": 1, "waypoint": null,
            "applicationTunnel": null, "locality": {}, "futureKey": 1,
        }},
        "services": [{
            "name": "web", "namespace": "shop", "hostname": "web.shop.svc.cluster.local", "vips": ["/10.96.0.1"],
            "ports": {"80": 8080}, "loadBalancer": null, "ipFamilies": null, "waypoint": null,
            "subjectAltNames": [], "canonical": true,
            "endpoints": {"c1//Pod/shop/web-0": {"workloadUid": "c1//Pod/shop/web-0", "port": {"80": 9090}, "status": "Healthy"}},
        }],
        "policies": [{"name": "deny", "namespace": "shop", "scope": "Namespace", "action": "Deny",
            "rules": [[[{"principals": [{"Exact": "cluster.local/ns/a/sa/b"}, {"Presence": []}]}]]]}],
        "stagedServices": {},
        "certificates": [],
    })
}

#[test]
fn ztunnels_dump_is_understood() {
    let imported = import(ztunnels().to_string().as_bytes());
    let snapshot = mesh_of(&imported.text).snapshot;
    let web = snapshot.workload_by_uid("c1//Pod/shop/web-0").unwrap();
    assert_eq!(web.identity().to_string(), "spiffe://cluster.local/ns/shop/sa/default");
    assert_eq!(web.addresses(), ["10.1.0.10".parse::<std::net::IpAddr>().unwrap()]);
    let service = snapshot.service_by_hostname("web.shop.svc.cluster.local", "shop").unwrap();
    assert_eq!(web.membership(&service.id).unwrap().target_port(80), Some(9090));
    assert_eq!(imported.policies, 1);
    assert!(snapshot.policy("shop", "deny").is_some());
    assert!(
        imported.notes.iter().any(|note| note.contains("workloads[].futureKey (1 times)")),
        "{:?}",
        imported.notes
    );
}

#[test]
fn a_host_is_captured_here() {
    let options = ImportOptions {
        nodes: vec!["node-a".to_owned()],
        network_namespace: Some("lab-{namespace}-{name}".to_owned()),
    };
    let imported = config_dump(ztunnels().to_string().as_bytes(), &options).unwrap();
    assert_eq!(imported.captured, 1);
    let source = Source::Text { name: "mesh.yaml".to_owned(), text: imported.text };
    let mesh = load(&[source], None).unwrap();
    assert_eq!(&*mesh.node.name, "node-a");
    let namespace = format!("{:?}", mesh.enrollments[0].network_namespace);
    assert!(namespace.contains("lab-shop-web-0"), "{namespace}");

    let options = ImportOptions { nodes: vec!["node-b".to_owned()], ..options };
    let error = config_dump(ztunnels().to_string().as_bytes(), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no workload in the mesh is on the host `node-b`; there are node-a"
    );
}

#[test]
fn each_captured_workload_has_a_namespace_of_its_own() {
    let mut dump = ztunnels();
    for (name, namespace) in [("web-0", "bank"), ("api", "shop")] {
        let mut another = dump["workloads"]["c1//Pod/shop/web-0"].clone();
        let uid = format!("c1//Pod/{namespace}/{name}");
        another["uid"] = json!(uid);
        another["workloadIPs"] = json!([]);
        (another["name"], another["namespace"]) = (json!(name), json!(namespace));
        dump["workloads"][uid] = another;
    }
    let dump = dump.to_string();
    let capture = |pattern: Option<&str>| {
        let network_namespace = pattern.map(str::to_owned);
        let options = ImportOptions { nodes: vec!["node-a".to_owned()], network_namespace };
        let imported = config_dump(dump.as_bytes(), &options);
        imported.map(|one| one.captured).map_err(|error| error.to_string())
    };
    assert_eq!(capture(Some("{namespace}-{name}")), Ok(3));
    //  name                    pattern                  want
    let rows = [
        ("one for all", Some("x"), "leads to `x` for"),
        ("one for a namespace", Some("{namespace}"), "leads to `shop` for shop/"),
        ("the default", None, "leads to `web-0` for bank/web-0 and for shop/web-0"),
        ("another placeholder", Some("{name}-{foo}"), "and nothing else"),
        ("half a placeholder", Some("{namespace}-{name"), "and nothing else"),
    ];
    for (name, pattern, want) in rows {
        let why = capture(pattern).expect_err(name);
        assert!(why.contains(want), "{name}: {why}");
        assert!(
            why.starts_with("`--network-namespace ") && why.contains("{name}"),
            "{name}: {why}"
        );
    }
}

#[test]
fn what_is_no_dump_is_explained() {
    let error = |text: &str| {
        config_dump(text.as_bytes(), &ImportOptions::default()).unwrap_err().to_string()
    };
    assert!(error("apiVersion: v1").starts_with("this is no JSON: "));
    assert_eq!(error("[]"), "this is no config_dump: it is not an object");
    assert_eq!(error("{}"), "this is no config_dump: it has no `services`");
    assert_eq!(
        error(r#"{"services": [1], "workloads": []}"#),
        "this is no config_dump: an entry of `services` is not an object"
    );
    let mut dump = ztunnels();
    dump["workloads"]["c1//Pod/shop/web-0"]["protocol"] = json!("QUIC");
    assert!(error(&dump.to_string()).starts_with("what the dump says would be refused:\n"));
    // A policy that is named and not there would open what it closes, if the name were left out.
    let mut dump = ztunnels();
    dump["workloads"]["c1//Pod/shop/web-0"]["authorizationPolicies"] = json!(["shop/gone"]);
    assert!(error(&dump.to_string()).contains("there is no policy `shop/gone`"));
}

//! Who has which waypoint before it.

use ringway_engine::snapshot::{GatewayDestination, NamespacedHostname, Snapshot};

use crate::source::{Source, load};

/// The Gateway `w` of the namespace `shop`, and a Pod of it.
fn mesh(gateway_metadata: &str, gateway_spec: &str, rest: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: w, namespace: shop{gateway_metadata}}}
spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]{gateway_spec}}}
---
{rest}"
    )
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: w-0, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: w}}
status: {podIP: 10.1.0.99}
---
";

fn service(labels: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop, labels: {{{labels}}}}}
spec: {{clusterIP: 10.0.0.1, ports: [{{port: 80}}]}}
---
"
    )
}

fn read(text: &str) -> Result<Snapshot, String> {
    let source = Source::Text { name: "mesh.yaml".to_owned(), text: text.to_owned() };
    load(&[source], None).map(|mesh| mesh.snapshot).map_err(|wrong| wrong.to_string())
}

/// Where connections to the service `web` go first.
fn before(text: &str) -> Vec<(String, u32)> {
    let snapshot = read(text).unwrap();
    let service = snapshot.services().find(|service| &*service.name == "web").unwrap();
    let one = service.waypoint.iter().map(|at| (at.destination.to_string(), 0));
    let weighted = service.weighted_waypoints.iter();
    let weighted = weighted.map(|each| (each.destination.destination.to_string(), each.weight));
    match service.weighted_waypoints.is_empty() {
        true => one.collect(),
        false => weighted.collect(),
    }
}

const USES: &str = "istio.io/use-waypoint: w";

#[test]
fn a_waypoint_is_where_its_gateway_says() {
    let at = |gateway: &str, rest: &str| before(&mesh("", gateway, &(service(USES) + rest)));
    let own_service = "
apiVersion: v1
kind: Service
metadata: {name: w, namespace: shop}
spec: {clusterIP: 10.0.0.9, ports: [{port: 15008}]}
---
";
    let hostname = "shop/w.shop.svc.cluster.local".to_owned();
    assert_eq!(at(", addresses: [{value: 10.9.9.9}]", POD), [("/10.9.9.9".to_owned(), 0)]);
    assert_eq!(at("", POD), [("/10.1.0.99".to_owned(), 0)]);
    assert_eq!(at("", &format!("{POD}{own_service}")), [(hostname.clone(), 0)]);
    // Nobody is it: the name that nobody has is what connections are refused by.
    assert_eq!(at("", ""), [(hostname, 0)]);
    let second = POD.replace("w-0", "w-1").replace(".99", ".98");
    let both = [("/10.1.0.99".to_owned(), 100), ("/10.1.0.98".to_owned(), 100)];
    assert_eq!(at("", &format!("{POD}{second}")), both);
}

#[test]
fn a_namespace_speaks_for_its_services_and_a_service_for_itself() {
    let namespace = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n---\n"
        )
    };
    let has = |of_namespace: &str, of_service: &str| {
        let rest = format!("{}{}{POD}", namespace(of_namespace), service(of_service));
        !before(&mesh("", "", &rest)).is_empty()
    };
    assert!(!has("", ""));
    assert!(has(USES, ""));
    assert!(has("", USES));
    assert!(!has(USES, "istio.io/use-waypoint: none"));
}

#[test]
fn a_canary_gets_its_share() {
    let canary = mesh("", "", "").replace("name: w,", "name: c,")
        + &POD
            .replace("gateway-name: w", "gateway-name: c")
            .replace("w-0", "c-0")
            .replace(".99", ".77");
    let service = service("istio.io/use-waypoint: w, istio.io/use-waypoint-canary: c")
        .replace("labels:", "annotations: {istio.io/use-waypoint-canary-weight: '10'}, labels:");
    let text = mesh("", "", &format!("{service}{POD}---{canary}"));
    assert_eq!(before(&text), [("/10.1.0.99".to_owned(), 90), ("/10.1.0.77".to_owned(), 10)]);
}

#[test]
fn workloads_have_a_waypoint_that_is_for_them() {
    let pod = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop, labels: {{{labels}}}}}\nstatus: {{podIP: 10.1.0.1}}\n---\n{POD}"
        )
    };
    let of = |traffic: &str, labels: &str, name: &str| {
        let metadata = format!(", labels: {{istio.io/waypoint-for: {traffic}}}");
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/use-waypoint: w}}\n---\n";
        let snapshot = read(&mesh(&metadata, "", &(namespace.to_owned() + &pod(labels)))).unwrap();
        let workload = snapshot.workloads().find(|each| each.name() == name).unwrap();
        workload.waypoint().map(|at| at.destination.to_string())
    };
    let itself = Some("/10.1.0.99".to_owned());
    assert_eq!(of("all", "", "p"), itself);
    assert_eq!(of("workload", "", "p"), itself);
    assert_eq!(of("service", "", "p"), None);
    assert_eq!(of("none", "", "p"), None);
    assert_eq!(of("all", "istio.io/use-waypoint: none", "p"), None);
    assert_eq!(of("all", "", "w-0"), None, "the waypoint itself has none");
}

#[test]
fn a_waypoint_may_be_for_the_workloads_of_a_service_account() {
    let pod = |name: &str, account: &str, labels: &str, last: u8| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n\
             spec: {{serviceAccountName: {account}}}\nstatus: {{podIP: 10.1.0.{last}}}\n---\n"
        )
    };
    let account = |name: &str, labels: &str| {
        format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n\
             imagePullSecrets: [{{name: x}}]\nautomountServiceAccountToken: false\n---\n"
        )
    };
    let rest = [
        account("web", USES),
        account("open", "istio.io/use-waypoint: none"),
        account("silent", "app: x"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/use-waypoint: w}}\n---\n"
            .to_owned(),
        pod("of-web", "web", "", 1),
        pod("out", "web", "istio.io/use-waypoint: none", 2),
        pod("of-open", "open", "", 3),
        pod("of-silent", "silent", "", 4),
        POD.to_owned(),
    ];
    let labels = ", labels: {istio.io/waypoint-for: workload}";
    let text = mesh(labels, "", &rest.concat());
    let of = |text: &str, name: &str| {
        let snapshot = read(text).unwrap();
        let workload = snapshot.workloads().find(|each| each.name() == name).unwrap();
        workload.waypoint().map(|at| at.destination.to_string())
    };
    let there = Some("/10.1.0.99".to_owned());
    assert_eq!(of(&text, "of-web"), there);
    assert_eq!(of(&text, "out"), None, "what a Pod says goes first");
    assert_eq!(of(&text, "of-open"), None, "its account goes before its namespace");
    assert_eq!(of(&text, "of-silent"), there, "the namespace's");
    let alone = text.replace(
        "metadata: {name: shop, labels: {istio.io/use-waypoint: w}}",
        "metadata: {name: shop}",
    );
    assert_eq!((of(&alone, "of-web"), of(&alone, "of-silent")), (there, None));
    let wrong = read(&text.replace(
        "web, namespace: shop, labels: {istio.io/use-waypoint: w}",
        "web, namespace: shop, labels: {istio.io/use-waypoint: v}",
    ));
    assert!(wrong.unwrap_err().contains("names the Gateway `v`"));
}

#[test]
fn another_namespace_needs_the_gateways_leave() {
    let service = service("istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: shop")
        .replace("namespace: shop, labels", "namespace: other, labels");
    let with = |allowed: &str| {
        let text = mesh("", "", &(service.clone() + POD))
            .replace("protocol: HBONE", &format!("protocol: HBONE{allowed}"));
        read(&text)
    };
    let refused = with("").unwrap_err();
    assert!(refused.contains("does not admit the namespace `other`"), "{refused}");
    with(", allowedRoutes: {namespaces: {from: All}}").unwrap();
    let by_name = ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: other}}}}";
    with(by_name).unwrap();
    assert!(with(&by_name.replace("name: other", "name: third")).is_err());
}

#[test]
fn what_ingress_does_is_told() {
    let snapshot = read(&mesh(
        "",
        "",
        &(service(&format!("{USES}, istio.io/ingress-use-waypoint: 'true'")) + POD),
    ));
    assert!(snapshot.unwrap().services().all(|service| service.ingress_use_waypoint));
}

#[test]
fn a_waypoints_own_service_has_none() {
    let text = mesh(
        "",
        "",
        &format!(
            "{POD}
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio.io/use-waypoint: w}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: w, namespace: shop}}
spec: {{clusterIP: 10.0.0.9, ports: [{{port: 15008}}]}}
"
        ),
    );
    let snapshot = read(&text).unwrap();
    let name = NamespacedHostname::new("shop", "w.shop.svc.cluster.local");
    assert_eq!(snapshot.service(&name).unwrap().waypoint, None);
    assert_eq!(GatewayDestination::Hostname(name).to_string(), "shop/w.shop.svc.cluster.local");
}

#[test]
fn a_service_is_never_reached_past_its_waypoint() {
    use ringway_engine::decide::{Refusal, outbound};

    let client = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
status: {podIP: 10.1.0.50}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
status: {podIP: 10.1.0.51}
---
";
    let service = service(USES).replace("ports: [", "selector: {app: web}, ports: [");
    let decided = |rest: &str| {
        let snapshot = read(&mesh("", "", &format!("{client}{service}{rest}"))).unwrap();
        let source = snapshot.workloads().find(|each| each.name() == "client").unwrap().clone();
        outbound(&snapshot, &source, "10.0.0.1:80".parse().unwrap(), 0)
    };
    let through = decided(POD).unwrap().destination_workload.unwrap();
    assert_eq!(through.name(), "w-0");
    let refusal = decided("").unwrap_err();
    assert!(matches!(refusal, Refusal::UnknownWaypoint { .. }), "{refusal}");
}

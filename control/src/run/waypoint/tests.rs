//! Which Gateway a process is, and what it takes of the files.

use super::*;
use crate::run::{Overrides, RunOptions, load};
use crate::source::{Mode, Source};
use crate::telemetry::requests::RequestLog;

const MESH: &str = "\
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-a}
spec: {packetMark: 1337, dns: {capture: true}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews, namespace: default}
spec: {address: 10.0.0.9, serviceAccount: reviews-waypoint}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: edge, namespace: default}
spec: {address: 10.0.0.8, serviceAccount: edge}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: reviews, namespace: default}
spec:
  gatewayClassName: ringway-waypoint
  listeners:
  - {name: mesh, port: 15008, protocol: HBONE}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  gatewayClassName: ringway
  listeners:
  - {name: plain, port: 80, protocol: HTTP}
  - {name: other, port: 8080, protocol: HTTP}
";

fn options(kind: Kind, name: &str) -> RunOptions {
    let gateway = gateway_name(name).unwrap();
    RunOptions {
        sources: vec![Source::Text { name: "mesh.yaml".to_owned(), text: MESH.to_owned() }],
        node: None,
        overrides: Overrides {
            mode: Some(Mode::Dedicated),
            workload: Some(name.parse().unwrap()),
            ..Overrides::default()
        },
        l7: Some(L7Options { kind, gateway, request_log: RequestLog::Json, traces: None }),
        state_directory: "/nowhere".into(),
        version: Default::default(),
        collect: None,
    }
}

/// Of what the files say, private keys of listeners among it, a process keeps what it serves: a node nothing.
#[test]
fn listeners_of_others_are_not_kept() {
    let listeners = |options: &RunOptions| {
        let mesh = load(options).unwrap();
        let names = mesh.http.listeners.iter().map(|one| one.key.listener.to_string());
        names.collect::<Vec<_>>()
    };
    let edge = options(Kind::Gateway, "default/edge");
    assert_eq!(listeners(&edge), ["plain", "other"]);
    let overrides = Overrides::default();
    let node = RunOptions { l7: None, overrides, ..edge };
    assert!(listeners(&node).is_empty(), "{:?}", listeners(&node));
}

#[test]
fn a_waypoint_is_its_workload_and_captures_nothing() {
    let mesh = load(&options(Kind::Waypoint, "default/reviews")).unwrap();
    let identities: Vec<_> = mesh.enrollments.iter().map(|one| one.identity.to_string()).collect();
    assert_eq!(identities, ["spiffe://cluster.local/ns/default/sa/reviews-waypoint"]);
    assert_eq!((mesh.node.packet_mark, mesh.node.dns.capture), (None, false));
    assert!(mesh.snapshot.http().is_some(), "its routes are ready");
    let of = options(Kind::Waypoint, "default/reviews");
    assert_eq!(of.l7.as_ref().unwrap().role(&mesh.http), Role::Waypoint);
    assert_eq!(of.process_name(&mesh.node), "host-a.waypoint.default.reviews");
    assert!(of.refuses_handover().is_some());
}

#[test]
fn a_gateway_listens_where_its_listeners_do_and_no_others() {
    let of = options(Kind::Gateway, "default/edge");
    let mesh = load(&of).unwrap();
    let Role::Gateway(gateway) = of.l7.as_ref().unwrap().role(&mesh.http) else {
        panic!("its role")
    };
    assert_eq!(
        (gateway.ports.clone(), &gateway.name),
        (vec![80, 8080], &gateway_name("default/edge").unwrap())
    );
    let tables = mesh.snapshot.http().unwrap();
    let named = |name| gateway_name(name).unwrap();
    assert_eq!(tables.ports(&named("default/edge")), [80, 8080]);
    assert!(tables.ports(&named("default/reviews")).is_empty());
}

#[test]
fn a_gateway_that_is_none_is_refused_with_what_there_is() {
    #[rustfmt::skip]
    let rows = [
        (Kind::Waypoint, "default/edge",    "use `ringway gateway`"),
        (Kind::Gateway,  "default/reviews", "use `ringway waypoint`"),
    ];
    for (kind, name, want) in rows {
        let error = load(&options(kind, name)).expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    let mut of = options(Kind::Waypoint, "default/reviews");
    of.l7.as_mut().unwrap().gateway = gateway_name("default/review").unwrap();
    let error = load(&of).expect_err("there is none").to_string();
    assert_eq!(error, "the configuration has no waypoint default/review: it has default/reviews");
    for wrong in ["reviews", "a/b/c", "/b", "a/", ""] {
        assert!(gateway_name(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_becomes_of_objects_is_told_and_a_refused_load_beside_it() {
    let mesh = load(&options(Kind::Waypoint, "default/reviews")).unwrap();
    let mut told = status(&mesh, 3);
    assert_eq!((told["generation"].clone(), told["valid"].clone()), (3.into(), true.into()));
    let objects = told["objects"].as_array().unwrap();
    assert!(objects.iter().any(|one| one["metadata"]["name"] == "reviews"), "{told:#}");
    let error = load(&options(Kind::Waypoint, "default/edge")).unwrap_err();
    refused(&mut told, &error);
    assert_eq!(told["valid"], false);
    assert!(told["errors"][0]["message"].as_str().unwrap().contains("ringway gateway"));
    assert!(!told["objects"].as_array().unwrap().is_empty(), "what is in force stays");
}

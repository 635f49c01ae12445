//! What a reload keeps of the configuration before.

use std::sync::Arc;

use ringway_engine::snapshot::Snapshot;

use crate::source::{Diagnostics, MeshConfig, RELOAD_NICE, Source, in_a_thread, load, reload};

const MESH: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: same, labels: {app: web}}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: moved, labels: {app: web}}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: gone, labels: {app: web}}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1, selector: {app: web}}}
---
{apiVersion: v1, kind: Service, metadata: {name: old}, spec: {clusterIP: 10.96.0.2}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {istio.io/dataplane-mode: ambient}}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: mesh, namespace: istio-system}, spec: {mtls: {mode: STRICT}}}
---
workloads:
- {uid: local, name: local, namespace: default, workloadIps: [10.0.0.9], services: {}}
";

fn sources(text: &str) -> [Source; 1] {
    [Source::Text { name: "mesh.yaml".to_owned(), text: text.to_owned() }]
}

fn again(text: &str, previous: &Snapshot) -> Result<MeshConfig, Diagnostics> {
    reload(&sources(text), Some("host-a"), previous)
}

/// Everything a snapshot says, in an order of its own.
fn said(snapshot: &Snapshot) -> Vec<String> {
    let mut said: Vec<String> = snapshot.services().map(|service| format!("{service:?}")).collect();
    said.extend(snapshot.policies().map(|policy| format!("{policy:?}")));
    for workload in snapshot.workloads() {
        let services: Vec<_> =
            workload.services().iter().map(|each| each.service.clone()).collect();
        let policies: Vec<&str> = workload.authorization_policies().collect();
        said.push(format!("{workload:?} {services:?} on {}, {policies:?}", workload.node()));
    }
    for service in snapshot.services() {
        let mut uids: Vec<&str> =
            snapshot.endpoints(&service.id).map(|(workload, _)| workload.uid()).collect();
        uids.sort_unstable();
        said.push(format!("{} {uids:?}", service.id));
    }
    said.sort();
    said
}

#[test]
fn what_did_not_change_is_the_same_thing() {
    let before = load(&sources(MESH), Some("host-a")).unwrap().snapshot;
    let after = again(MESH, &before).unwrap().snapshot;
    assert_eq!(said(&before), said(&after));
    for workload in before.workloads() {
        let other = after.workload_by_uid(workload.uid()).unwrap();
        assert!(Arc::ptr_eq(workload, other), "{workload:?} was made again");
    }
    for policy in before.policies() {
        let other = after.policy(&policy.namespace, &policy.name).unwrap();
        assert!(Arc::ptr_eq(policy, other), "{policy:?} was made again");
    }
    for service in before.services() {
        assert!(Arc::ptr_eq(service, after.service(&service.id).unwrap()), "{service:?}");
    }
}

/// However it is reached, a configuration means the same.
#[test]
fn a_reload_means_what_a_start_would() {
    let changed = MESH
        .replace("10.0.0.2}", "10.0.0.20}")
        .replace("name: gone", "name: new")
        .replace(
            "{name: old}, spec: {clusterIP: 10.96.0.2}",
            "{name: new}, spec: {clusterIP: None}",
        )
        .replace("uid: local", "uid: other");
    let relabelled = MESH.replace("selector: {app: web}", "selector: {app: other}");
    let empty = "{apiVersion: v1, kind: Namespace, metadata: {name: nobody}}";
    let ready = MESH
        .replace("}}, status", "}, annotations: {ambient.istio.io/redirection: enabled}}, status");
    let other_policies = MESH
        .replace(
            "name: web}, spec: {selector: {matchLabels",
            "name: db}, spec: {action: DENY, selector: {matchLabels",
        )
        .replace("STRICT", "PERMISSIVE");
    let texts = [MESH, &changed, &relabelled, &ready, &other_policies, empty];
    for from in texts {
        let before = load(&sources(from), Some("host-a")).unwrap().snapshot;
        let was = said(&before);
        for to in texts {
            let after = again(to, &before).unwrap().snapshot;
            let want = load(&sources(to), Some("host-a")).unwrap().snapshot;
            assert_eq!(said(&after), said(&want), "from {from}\nto {to}");
        }
        assert_eq!(said(&before), was, "the one before stays as it was");
    }
}

#[test]
fn a_bad_reload_changes_nothing() {
    let before = load(&sources(MESH), Some("host-a")).unwrap().snapshot;
    let was = said(&before);
    assert!(again(&MESH.replace("10.0.0.2}", "nowhere}"), &before).is_err());
    assert!(again(&MESH.replace("name: moved", "name: same"), &before).is_err());
    assert_eq!(said(&before), was);
}

#[test]
fn only_the_thread_that_reads_is_nicer_to_others() {
    let nice = || rustix::process::nice(0).expect("nothing changes");
    let before = nice();
    let reading = in_a_thread(RELOAD_NICE, nice);
    assert_eq!((reading, nice()), ((before + RELOAD_NICE).min(19), before));
}

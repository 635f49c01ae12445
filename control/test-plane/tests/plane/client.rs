//! Our own client against the plane: two readings of one protocol, written apart.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_control::source::{self, Source};
use ringway_control::xds::{NodeIdentity, Update, XdsClient, XdsConfig};
use ringway_engine::snapshot::Snapshot;
use ringway_test_plane::{ADDRESS, AUTHORIZATION};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::{ANOTHER_POD, PATIENCE, Running, eventually, run};

/// A working state must be back this soon after a control plane is.
const BACK_WITHIN: Duration = Duration::from_secs(5);

const WEB: &str = "Kubernetes//Pod/default/web";
const LEGACY: &str = "Kubernetes//Pod/default/legacy";

fn start(running: &Running) -> XdsClient {
    XdsClient::start(XdsConfig {
        endpoint: running.endpoint("host-a"),
        node: NodeIdentity {
            node_type: Default::default(),
            ip: "10.0.0.1".parse().unwrap(),
            pod_name: "ztunnel-x".to_owned(),
            pod_namespace: "istio-system".to_owned(),
            node_name: Some("host-a".to_owned()),
            metadata: BTreeMap::new(),
        },
        is_on_demand: false,
        known: Snapshot::new(""),
    })
}

/// All documents of the bookstore.
fn example() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bookinfo");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    let mut texts: Vec<_> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    texts.sort();
    texts.join("\n---\n")
}

async fn wait_for(
    what: &str,
    updates: &mut watch::Receiver<Update>,
    fits: impl FnMut(&Update) -> bool,
) -> Snapshot {
    let reached = timeout(PATIENCE, updates.wait_for(fits)).await;
    reached.unwrap_or_else(|_| panic!("still not: {what}")).unwrap().snapshot.clone()
}

fn knows(update: &Update, uid: &str) -> bool {
    update.snapshot.workload_by_uid(uid).is_some()
}

/// What the bookstore of the examples is: services, policies of all kinds, workloads on two hosts.
#[test]
fn what_the_files_say_is_what_arrives() {
    run(async {
        let running = Running::of(&example(), &[]);
        let sources = [Source::Path(running.path().join("mesh.yaml"))];
        let said = source::load(&sources, Some("host-a")).unwrap().snapshot;
        let client = start(&running);
        let told = wait_for("synced", &mut client.updates(), |update| update.is_synced).await;

        assert_eq!(told.workload_count(), said.workload_count());
        for workload in said.workloads() {
            let other = told.workload_by_uid(workload.uid()).unwrap();
            assert_eq!(other.kind(), workload.kind(), "{}", workload.uid());
            assert_eq!(other.addresses(), workload.addresses());
            assert_eq!(other.name(), workload.name());
            assert_eq!(other.protocol(), workload.protocol());
            assert_eq!((other.node(), other.network()), (workload.node(), workload.network()));
            assert_eq!(other.locality(), workload.locality());
            assert_eq!(
                (other.health(), other.capacity()),
                (workload.health(), workload.capacity())
            );
        }
        assert!(said.service_count() > 3, "the example has services");
        assert_eq!(told.service_count(), said.service_count());
        for service in said.services() {
            assert_eq!(told.service(&service.id), Some(service));
        }
        assert!(said.policies().count() > 3, "the example has policies");
        assert_eq!(told.policies().count(), said.policies().count());
        for policy in said.policies() {
            assert_eq!(told.policy(&policy.namespace, &policy.name), Some(policy));
        }
    });
}

#[test]
fn its_first_messages_are_exactly_these() {
    run(async {
        let running = Running::start();
        let client = start(&running);
        wait_for("synced", &mut client.updates(), |update| update.is_synced).await;
        eventually("both answers are acknowledged", || running.journal("xds-request").len() == 4)
            .await;
        let requests = running.journal("xds-request");
        let of = |name: &str| {
            requests.iter().filter(|each| each["type"] == name).cloned().collect::<Vec<Value>>()
        };
        for (position, type_url) in [(0, ADDRESS), (1, AUTHORIZATION)] {
            assert_eq!(requests[position]["type"], type_url, "addresses first, then policies");
            let [first, ack] = &of(type_url)[..] else { panic!("{requests:?}") };
            let node = &first["node"];
            assert_eq!(
                node["id"],
                "ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local"
            );
            assert_eq!(node["metadata"]["NODE_NAME"], "host-a");
            assert_eq!(first["nonce"], "");
            assert!(ack["node"].is_null() && ack["error"].is_null(), "{ack}");
            assert_ne!(ack["nonce"], "");
            for request in [first, ack] {
                assert_eq!(
                    (&request["subscribe"], &request["unsubscribe"]),
                    (&json!([]), &json!([]))
                );
                assert_eq!(request["known"], 0);
            }
        }
        let stream = &running.journal("xds-stream")[0];
        assert_eq!(
            (&stream["node"], &stream["headers"]["clusterid"]),
            (&json!("host-a"), &json!("Kubernetes"))
        );
    });
}

#[test]
fn a_plane_that_returns_is_believed_soon_and_what_went_meanwhile_is_gone() {
    run(async {
        let mut running = Running::start();
        running.rewrite(ANOTHER_POD);
        let client = start(&running);
        let mut updates = client.updates();
        wait_for("both pods", &mut updates, |update| knows(update, WEB) && knows(update, LEGACY))
            .await;
        running.rewrite("");
        running.kill_and_restart();
        let back = updates.wait_for(|update| !knows(update, LEGACY));
        let back = timeout(BACK_WITHIN, back).await.expect("it is back in time").unwrap();
        assert!(knows(&back, WEB), "what was there is there still");
        drop(back);
        let again = running.journal("xds-request");
        let first = again.iter().rfind(|each| each["type"] == ADDRESS && !each["node"].is_null());
        let versions = first.unwrap()["versions"].as_object().unwrap().clone();
        assert_eq!(versions.len(), 3, "it named what it knew: {versions:?}");
        assert!(versions.values().all(|version| version != ""), "{versions:?}");
    });
}

#[test]
fn a_storm_of_lost_connections_ends_in_the_newest_state() {
    run(async {
        let running = Running::start();
        let client = start(&running);
        let mut updates = client.updates();
        wait_for("synced", &mut updates, |update| update.is_synced).await;
        running.tell(json!({"order": "drop-connections", "times": 20, "pause_milliseconds": 50}));
        running.tell(json!({"order": "goaway"}));
        running
            .tell(json!({"order": "end-streams", "code": 14, "message": "transport is closing"}));
        running.rewrite(ANOTHER_POD);
        wait_for("the new pod", &mut updates, |update| knows(update, LEGACY)).await;
    });
}

#[test]
fn what_is_wrong_is_refused_by_name_and_the_rest_is_taken() {
    run(async {
        let running = Running::start();
        let client = start(&running);
        let mut updates = client.updates();
        wait_for("synced", &mut updates, |update| update.is_synced).await;
        let all = ["undecodable", "short-address", "service-without-namespace", "waypoint-nowhere"];
        let all = all.into_iter().chain(["unknown-action", "long-range"]);
        for garbage in all {
            running.tell(json!({"order": "inject", "garbage": garbage}));
            let name = format!("garbage/{garbage}");
            eventually(&format!("{garbage} is refused"), || {
                running.journal("xds-request").iter().any(|request| {
                    request["error"]["message"].as_str().is_some_and(|text| text.contains(&name))
                })
            })
            .await;
        }
        running.rewrite(ANOTHER_POD);
        let snapshot = wait_for("the new pod", &mut updates, |each| knows(each, LEGACY)).await;
        assert_eq!(snapshot.workload_count(), 2, "nothing of the garbage");
        assert_eq!(snapshot.policies().count(), 1, "nothing of the garbage");
    });
}

#[test]
fn workloads_that_come_before_their_services_are_endpoints_in_the_end() {
    run(async {
        for how in ["workloads-first", "services-first"] {
            let running = Running::start();
            running.tell(json!({"order": "sequence", "how": how}));
            let client = start(&running);
            let mut updates = client.updates();
            let whole = |update: &Update| {
                update.is_synced && update.snapshot.service_count() == 1 && knows(update, WEB)
            };
            let snapshot = wait_for("both", &mut updates, whole).await;
            let service = snapshot.services().next().unwrap();
            assert_eq!(snapshot.endpoints(&service.id).count(), 1, "{how}");
        }
    });
}

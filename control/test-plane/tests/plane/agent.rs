//! What a node proxy hears from its agent.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use prost::Message;
use ringway_control::proto::zds::workload_request::Payload;
use ringway_control::proto::zds::{
    Ack, Version, WorkloadRequest, WorkloadResponse, ZdsHello, workload_response,
};
use ringway_test_plane::agent::PacketSocket;
use serde_json::json;

use crate::support::{Running, run, switch, wait_until};

struct Proxy(PacketSocket);

impl Proxy {
    async fn connect(running: &Running) -> Proxy {
        let mut socket = PacketSocket::connect(&running.agent_socket());
        while socket.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            socket = PacketSocket::connect(&running.agent_socket());
        }
        let proxy = Proxy(socket.unwrap());
        let hello = ZdsHello { version: Version::V1.into() };
        proxy.0.send(&hello.encode_to_vec(), None).await.unwrap();
        proxy
    }

    async fn hear(&self) -> Option<(Payload, Vec<OwnedFd>)> {
        let (packet, descriptors) = self.0.receive().await.unwrap()?;
        Some((WorkloadRequest::decode(&*packet).unwrap().payload.unwrap(), descriptors))
    }

    async fn answer(&self, error: &str) {
        let payload = Some(workload_response::Payload::Ack(Ack { error: error.to_owned() }));
        self.0.send(&WorkloadResponse { payload }.encode_to_vec(), None).await.unwrap();
    }

    /// Hears what is said next and agrees to it.
    async fn take(&self) -> Payload {
        let (payload, _) = self.hear().await.expect("the agent goes on");
        self.answer("").await;
        payload
    }
}

fn name(payload: &Payload) -> String {
    match payload {
        Payload::Add(add) => format!("add {}", add.workload_info.as_ref().unwrap().name),
        Payload::Keep(_) => "keep".to_owned(),
        Payload::Del(_) => "del".to_owned(),
        Payload::SnapshotSent(_) => "snapshot".to_owned(),
    }
}

fn another(running: &Running) -> serde_json::Value {
    running.tell(json!({"order": "add-pod", "pod": {
        "name": "late", "namespace": "default", "service_account": "late-account",
        "node": "host-a", "network_namespace": "/proc/self/ns/net",
    }}))
}

#[test]
fn a_proxy_hears_the_snapshot_with_namespaces_and_then_changes() {
    run(async {
        let running = Running::start();
        let proxy = Proxy::connect(&running).await;
        let (payload, descriptors) = proxy.hear().await.unwrap();
        let Payload::Add(add) = payload else { panic!("{payload:?}") };
        let info = add.workload_info.unwrap();
        assert_eq!((&*info.name, &*info.namespace), ("web", "default"));
        assert_eq!((&*info.service_account, add.uid.len()), ("web-account", 36));
        let [descriptor] = &descriptors[..] else { panic!("{} descriptors", descriptors.len()) };
        let given = std::fs::File::from(descriptor.try_clone().unwrap()).metadata().unwrap();
        let own = std::fs::metadata("/proc/self/ns/net").unwrap();
        assert_eq!((given.dev(), given.ino()), (own.dev(), own.ino()), "the pod's namespace");
        proxy.answer("").await;
        assert_eq!(name(&proxy.take().await), "snapshot");

        another(&running);
        assert_eq!(name(&proxy.take().await), "add late");
        running.tell(json!({"order": "remove-pod", "node": "host-a", "name": "web"}));
        let Payload::Del(del) = proxy.take().await else { panic!("a pod went") };
        assert_eq!(del.uid, add.uid);
        assert_eq!(running.journal("hello").len(), 1);
    });
}

#[test]
fn an_order_about_a_pod_that_cannot_be_is_refused() {
    let running = Running::start();
    let add = |namespace: &str| {
        json!({"order": "add-pod", "pod": {
            "name": "late", "namespace": "default", "service_account": "late-account",
            "node": "host-a", "network_namespace": namespace,
        }})
    };
    //  order                                                               want
    let rows = [
        (add("/run/netns/nowhere"), "the network_namespace /run/netns/nowhere cannot be opened: "),
        (json!({"order": "remove-pod", "node": "host-a", "name": "wep"}), "host-a has no pod wep"),
        (json!({"order": "remove-pod", "node": "host-c", "name": "web"}), "no agent on host-c"),
    ];
    for (order, want) in rows {
        let why = running.try_tell(&order).expect_err(want).to_string();
        assert!(why.starts_with(want), "{order}: {why}");
    }
    running.tell(add("/proc/self/ns/net"));
    running.tell(json!({"order": "remove-pod", "node": "host-a", "name": "late"}));
}

#[test]
fn the_newest_proxy_hears_of_new_pods_and_all_hear_of_those_that_go() {
    run(async {
        let running = Running::start();
        let (old, new) = (Proxy::connect(&running).await, Proxy::connect(&running).await);
        for proxy in [&old, &new] {
            assert_eq!(name(&proxy.take().await), "add web");
            assert_eq!(name(&proxy.take().await), "snapshot");
        }
        another(&running);
        assert_eq!(name(&new.take().await), "add late");
        running.tell(json!({"order": "remove-pod", "node": "host-a", "name": "web"}));
        // The old one hears of this first: it was not told of the new pod.
        assert_eq!(name(&old.take().await), "del");
        assert_eq!(name(&new.take().await), "del");
    });
}

#[test]
fn what_a_proxy_refuses_it_is_told_again() {
    run(async {
        let running = Running::start();
        let proxy = Proxy::connect(&running).await;
        assert_eq!(name(&proxy.hear().await.unwrap().0), "add web");
        proxy.answer("port 15008 is taken").await;
        assert_eq!(name(&proxy.take().await), "snapshot");
        assert_eq!(name(&proxy.take().await), "add web");
        let acknowledged = || {
            let status = running.tell(json!({"order": "status"}));
            status["agents"][0]["pods"][0]["acknowledged"] == true
        };
        wait_until("the pod is acknowledged", acknowledged);
        let refused = &running.journal("ack")[0];
        assert_eq!(refused["error"], "port 15008 is taken");
    });
}

#[test]
fn who_speaks_unasked_or_not_at_all_is_left() {
    run(async {
        let running = Running::start();
        let chatty = Proxy::connect(&running).await;
        chatty.take().await;
        chatty.take().await;
        chatty.answer("one more thing").await;
        assert!(chatty.hear().await.is_none(), "the agent has gone");
        // This one never answers; after five seconds the agent goes.
        let silent = Proxy::connect(&running).await;
        assert!(silent.hear().await.is_some());
        assert!(silent.hear().await.is_none(), "the agent has gone");
        let reasons = running.journal("session-ended");
        assert_eq!(reasons[0]["reason"], "it said something without being asked");
        assert_eq!(reasons[1]["reason"], "no answer to add web within 5 s");
    });
}

#[test]
fn an_agent_that_comes_back_without_the_namespaces_has_them_kept() {
    run(async {
        let running = Running::start();
        let proxy = Proxy::connect(&running).await;
        proxy.take().await;
        proxy.take().await;
        running.tell(switch("stop", "agent"));
        assert!(proxy.hear().await.is_none(), "the agent has gone");
        running.tell(json!({"order": "start", "service": "agent", "forgetful": true}));
        let proxy = Proxy::connect(&running).await;
        assert_eq!(name(&proxy.take().await), "keep");
        assert_eq!(name(&proxy.take().await), "snapshot");
    });
}

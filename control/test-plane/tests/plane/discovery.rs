//! What a client of the discovery service is told, and when.

use prost::Message;
use ringway_control::grpc::MESSAGE_BYTES_MAX;
use ringway_control::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ringway_control::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status as Detail,
};
use ringway_control::proto::workload::{self, address};
use ringway_test_plane::{ADDRESS, AUTHORIZATION};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::{ANOTHER_POD, Running, run, switch, wait_until};

const NODE_ID: &str = "ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local";

/// A client that does as it is told.
struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn connect(running: &Running, node: &str) -> Result<Client, Status> {
        let channel = running.connect(node).await;
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (requests, sent) = mpsc::channel(10);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(sent)).await?;
        Ok(Client { requests, responses: responses.into_inner() })
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn receive(&mut self) -> DeltaDiscoveryResponse {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }

    /// Receives, acknowledges, and returns it.
    async fn take(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await;
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
        response
    }

    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.responses.message().await {
                return status;
            }
        }
    }
}

/// The first request of a type.
fn first(type_url: &str) -> DeltaDiscoveryRequest {
    let node = Node { id: NODE_ID.to_owned(), ..Node::default() };
    DeltaDiscoveryRequest {
        node: Some(node),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| &*resource.name).collect()
}

fn workload(resource: &Resource) -> workload::Workload {
    let any = resource.resource.as_ref().unwrap();
    assert_eq!(any.type_url, ADDRESS);
    match workload::Address::decode(&*any.value).unwrap().r#type {
        Some(address::Type::Workload(workload)) => workload,
        other => panic!("{other:?} is no workload"),
    }
}

#[test]
fn everything_is_told_and_what_the_client_said_is_written_down() {
    run(async {
        let running = Running::start();
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        let response = client.take().await;
        let pod = "Kubernetes//Pod/default/web";
        assert_eq!(names(&response), [pod, "default/web.default.svc.cluster.local"]);
        let told = workload(&response.resources[0]);
        assert_eq!((&*told.name, &*told.service_account), ("web", "web-account"));
        assert_eq!(told.addresses, [[10, 1, 0, 1]]);
        assert_eq!(told.node, "host-a");
        let strict = "istio-system/istio_converted_static_strict".to_owned();
        assert_eq!(told.authorization_policies, [strict]);
        assert_eq!(told.services.keys().count(), 1);
        assert_eq!(told.tunnel_protocol(), workload::TunnelProtocol::Hbone);

        client.send(first(AUTHORIZATION)).await;
        let response = client.take().await;
        assert_eq!(names(&response), ["istio-system/istio_converted_static_strict"]);
        assert_eq!(response.resources[0].version, "");

        let requests = running.journal("xds-request");
        assert_eq!(requests[0]["node"]["id"], NODE_ID);
        assert_eq!(requests[0]["caller"], "host-a");
        assert_eq!((&requests[0]["known"], &requests[0]["type"]), (&json!(0), &json!(ADDRESS)));
        assert_eq!(requests[1]["nonce"], "1-1");
    });
}

#[test]
fn changes_are_pushed_and_who_returns_hears_what_it_missed() {
    run(async {
        let mut running = Running::start();
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        let all = client.take().await;
        running.rewrite(ANOTHER_POD);
        let response = client.take().await;
        assert_eq!(names(&response), ["Kubernetes//Pod/default/legacy"]);

        // Meanwhile the plane dies, and one of the two goes.
        running.rewrite("");
        running.kill_and_restart();
        assert_eq!(client.end().await.code(), Code::Unknown, "a lost connection");
        let known = all.resources.iter().chain(&response.resources);
        let known = known.map(|each| (each.name.clone(), each.version.clone())).collect();
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client
            .send(DeltaDiscoveryRequest { initial_resource_versions: known, ..first(ADDRESS) })
            .await;
        let response = client.take().await;
        assert_eq!(names(&response), Vec::<&str>::new());
        assert_eq!(response.removed_resources, ["Kubernetes//Pod/default/legacy"]);
    });
}

#[test]
fn on_demand_is_answered_by_any_of_its_names() {
    run(async {
        let running = Running::start();
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        let everything = vec!["*".to_owned()];
        client
            .send(DeltaDiscoveryRequest {
                resource_names_subscribe: everything.clone(),
                resource_names_unsubscribe: everything,
                ..first(ADDRESS)
            })
            .await;
        for (name, told, gone) in [
            ("/10.1.0.1", vec!["Kubernetes//Pod/default/web"], vec![""; 0]),
            // With a service come its workloads.
            (
                "/10.96.0.1",
                vec!["default/web.default.svc.cluster.local", "Kubernetes//Pod/default/web"],
                vec![],
            ),
            ("/10.99.0.1", vec![], vec!["/10.99.0.1"]),
        ] {
            client
                .send(DeltaDiscoveryRequest {
                    type_url: ADDRESS.to_owned(),
                    resource_names_subscribe: vec![name.to_owned()],
                    ..DeltaDiscoveryRequest::default()
                })
                .await;
            let response = client.take().await;
            assert_eq!(names(&response), told, "{name}");
            assert_eq!(response.removed_resources, gone, "{name}");
        }
    });
}

#[test]
fn garbage_is_told_and_refusals_are_written_down() {
    run(async {
        let running = Running::start();
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        client.take().await;
        for garbage in [
            "undecodable",
            "short-address",
            "unknown-enum",
            "service-without-namespace",
            "waypoint-nowhere",
            "neither",
            "foreign-type",
        ] {
            running.tell(json!({"order": "inject", "garbage": garbage}));
            let response = client.receive().await;
            let name = format!("garbage/{garbage}");
            assert_eq!(names(&response), [&*name]);
            let detail = Detail { message: format!("{name}: no"), ..Detail::default() };
            client
                .send(DeltaDiscoveryRequest {
                    type_url: ADDRESS.to_owned(),
                    response_nonce: response.nonce,
                    error_detail: Some(detail),
                    ..DeltaDiscoveryRequest::default()
                })
                .await;
        }
        running.tell(json!({"order": "withdraw"}));
        assert_eq!(client.take().await.removed_resources.len(), 7);
        wait_until("all refusals are written down", || {
            let requests = running.journal("xds-request");
            requests.iter().filter(|request| !request["error"].is_null()).count() == 7
        });
    });
}

#[test]
fn workloads_come_before_their_services_when_ordered_so() {
    run(async {
        let running = Running::start();
        running.tell(json!({"order": "sequence", "how": "workloads-first"}));
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        assert_eq!(names(&client.take().await), ["Kubernetes//Pod/default/web"]);
        assert_eq!(names(&client.take().await), ["default/web.default.svc.cluster.local"]);
    });
}

#[test]
fn many_synthetic_workloads_fit_one_response() {
    run(async {
        let running = Running::start();
        running.tell(json!({"order": "synthetic", "count": 2000}));
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        assert_eq!(client.take().await.resources.len(), 2 + 2000 + 80);
        running.tell(json!({"order": "synthetic", "count": 1000, "generation": 1}));
        let response = client.take().await;
        assert_eq!((response.resources.len(), response.removed_resources.len()), (1000, 1040));
    });
}

#[test]
fn who_is_nobody_is_refused() {
    run(async {
        let running = Running::start();
        // No token, and the token of a node that is not known.
        for (token, cluster) in [(None, "Kubernetes"), (Some("guessed"), "Kubernetes")] {
            let mut endpoint = running.endpoint("host-a");
            endpoint.token = token.map(ringway_control::grpc::TokenSource::of_setting);
            endpoint.cluster_id = cluster.to_owned();
            let channel = ringway_control::grpc::connect(&endpoint).await.unwrap();
            let mut client = AggregatedDiscoveryServiceClient::new(channel);
            let refused = client.delta_aggregated_resources(tokio_stream::empty()).await;
            assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
        }
        // Somebody who says that it is a sidecar, and somebody who says nothing.
        for node in [Some("sidecar~10.0.0.1~a.b~b.svc.cluster.local"), None] {
            let mut client = Client::connect(&running, "host-a").await.unwrap();
            let node = node.map(|id| Node { id: id.to_owned(), ..Node::default() });
            client.send(DeltaDiscoveryRequest { node, ..first(ADDRESS) }).await;
            assert_eq!(client.end().await.code(), Code::InvalidArgument);
        }
    });
}

#[test]
fn streams_and_connections_end_when_ordered() {
    run(async {
        let running = Running::start();
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        client.take().await;
        running
            .tell(json!({"order": "end-streams", "code": 14, "message": "transport is closing"}));
        let status = client.end().await;
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "transport is closing"));

        running.tell(switch("stop", "xds"));
        let refused = Client::connect(&running, "host-a").await.err().unwrap();
        assert_eq!(refused.code(), Code::Unavailable);
        running.tell(switch("start", "xds"));
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        client.take().await;
        running.tell(json!({"order": "drop-connections"}));
        client.end().await;

        running.tell(switch("stop", "port"));
        let endpoint = running.endpoint("host-a");
        while ringway_control::grpc::connect(&endpoint).await.is_ok() {
            tokio::task::yield_now().await;
        }
        running.tell(switch("start", "port"));
        while ringway_control::grpc::connect(&endpoint).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn connections_are_told_to_go_when_they_are_old_and_their_streams_go_on() {
    run(async {
        let running = Running::with(&["--connection-seconds-max", "1"]);
        let mut client = Client::connect(&running, "host-a").await.unwrap();
        client.send(first(ADDRESS)).await;
        client.take().await;
        wait_until("it is told to go", || !running.journal("goaway").is_empty());
        running.rewrite(ANOTHER_POD);
        assert_eq!(names(&client.take().await), ["Kubernetes//Pod/default/legacy"]);
    });
}

//! The control plane.

use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost_types::Any;
use ringway_control::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ringway_control::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use ringway_control::proto::workload::{
    Address, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload, address,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status, Streaming};

const WORKLOADS: usize = 100_000;
const SERVICES: usize = 4_000;
const NAMESPACES: usize = 100;
const NODES: usize = 1_000;

/// As gRPC servers have it, istiod too.
const REQUEST_BYTES_MAX: usize = 4 << 20;

const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";

/// Listens, and says where.
pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let plane = Plane { resources: Arc::new(resources()) };
        while let Ok((tcp, _)) = listener.accept().await {
            let plane = plane.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    AggregatedDiscoveryServiceServer::new(plane.clone())
                        .max_decoding_message_size(REQUEST_BYTES_MAX)
                        .call(request)
                });
                let _ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tcp), service)
                    .await;
            });
        }
    });
}

fn resources() -> Vec<Resource> {
    (0..SERVICES).map(service).chain((0..WORKLOADS).map(workload)).collect()
}

fn workload(index: usize) -> Resource {
    let service = index % SERVICES;
    let namespace = format!("ns{}", service % NAMESPACES);
    let name = format!("web-{service}-5d4f8c7b9d-{index:06x}");
    let ports = vec![Port { service_port: 80, target_port: 8080, app_protocol: 0 }];
    let workload = Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}"),
        name,
        namespace: namespace.clone(),
        addresses: vec![vec![10, (index >> 16) as u8, (index >> 8) as u8, index as u8]],
        tunnel_protocol: TunnelProtocol::Hbone as i32,
        trust_domain: "cluster.local".to_owned(),
        service_account: format!("web-{service}"),
        node: format!("node-{}", index % NODES),
        canonical_name: format!("web-{service}"),
        canonical_revision: "v1".to_owned(),
        workload_name: format!("web-{service}"),
        cluster_id: "Kubernetes".to_owned(),
        services: [(
            format!("{namespace}/web-{service}.{namespace}.svc.cluster.local"),
            PortList { ports },
        )]
        .into(),
        ..Workload::default()
    };
    resource(workload.uid.clone(), index, address::Type::Workload(workload))
}

fn service(index: usize) -> Resource {
    let namespace = format!("ns{}", index % NAMESPACES);
    let hostname = format!("web-{index}.{namespace}.svc.cluster.local");
    let vip = vec![10, 240, (index >> 8) as u8, index as u8];
    let service = Service {
        name: format!("web-{index}"),
        addresses: vec![NetworkAddress { address: vip, ..NetworkAddress::default() }],
        ports: vec![Port { service_port: 80, target_port: 8080, app_protocol: 0 }],
        canonical: true,
        namespace,
        hostname,
        ..Service::default()
    };
    let name = format!("{}/{}", service.namespace, service.hostname);
    resource(name, index, address::Type::Service(service))
}

fn resource(name: String, index: usize, one: address::Type) -> Resource {
    let value = Address { r#type: Some(one) }.encode_to_vec();
    Resource {
        name,
        // As long as a hash of 64 bits.
        version: format!("{:020}", index as u64 * 0x9e37_79b9),
        resource: Some(Any { type_url: ADDRESS.to_owned(), value }),
        ..Resource::default()
    }
}

#[derive(Clone)]
struct Plane {
    resources: Arc<Vec<Resource>>,
}

impl Plane {
    fn everything(&self, type_url: &str) -> DeltaDiscoveryResponse {
        let is_address = type_url == ADDRESS;
        DeltaDiscoveryResponse {
            resources: if is_address { self.resources.to_vec() } else { Vec::new() },
            type_url: type_url.to_owned(),
            nonce: "n".to_owned(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the delta form"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, queue) = mpsc::channel(4);
        let plane = self.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let mut answers = 0;
            while let Ok(Some(request)) = requests.message().await {
                if request.response_nonce.is_empty() {
                    let _gone = responses.send(Ok(plane.everything(&request.type_url))).await;
                    continue;
                }
                answers += 1;
                if answers == 2 {
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                    let _gone = responses.send(Err(Status::cancelled("next stream"))).await;
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

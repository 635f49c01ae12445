//! A control plane in this process: a real gRPC server that says what a test tells it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ringway_engine::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};

use super::mesh::{Told, identity, pod, policy, response};
use crate::grpc::{Endpoint, Roots, TokenSource};
use crate::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use crate::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::xds::state::Kind;
use crate::xds::{Update, XdsClient, XdsConfig};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server; what is open is cut when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    _tasks: JoinSet<()>,
}

/// A stream that a client has begun.
pub(super) struct Stream {
    pub(super) token: Option<String>,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Server {
    pub(super) async fn start() -> Server {
        Server::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(super) async fn start_at(address: SocketAddr) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, streams) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Dropped with this task, so that they end with it.
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(serve(tcp, begun.clone()));
            }
        });
        Server { address, streams, _tasks: tasks }
    }

    /// The next stream, when its first two requests are read.
    pub(super) async fn stream(&mut self) -> (Stream, [DeltaDiscoveryRequest; 2]) {
        let begun = timeout(PATIENCE, self.streams.recv()).await;
        let mut stream = begun.expect("a client comes").expect("the server runs");
        let first = [stream.request().await, stream.request().await];
        (stream, first)
    }
}

impl Stream {
    pub(super) async fn request(&mut self) -> DeltaDiscoveryRequest {
        let request = timeout(PATIENCE, self.requests.message()).await;
        request.expect("the client says something").unwrap().expect("the client is there")
    }

    /// Says something, and gives the answer.
    pub(super) async fn tell(&mut self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        self.responses.send(Ok(response)).await.unwrap();
        self.request().await
    }

    /// Says a little of both types.
    pub(super) async fn greet(&mut self) {
        let pod = pod("a", "10.0.0.1").told("1");
        self.tell(response(Kind::Address, "1", vec![pod], &[])).await;
        let policy = policy("p", "ns").told("");
        self.tell(response(Kind::Authorization, "2", vec![policy], &[])).await;
    }

    pub(super) async fn end(self, status: Option<Status>) {
        if let Some(status) = status {
            self.responses.send(Err(status)).await.unwrap();
        }
    }
}

/// A client of the server.
pub(super) fn client(address: SocketAddr, is_on_demand: bool) -> XdsClient {
    let endpoint = Endpoint {
        uri: format!("http://{address}").parse().unwrap(),
        roots: Roots::System,
        alternative_hostname: None,
        token: Some(TokenSource::Literal("the-token".to_owned().into())),
        cluster_id: "c1".to_owned(),
        headers: Vec::new(),
        post_quantum_only: false,
    };
    let known = Snapshot::new("");
    XdsClient::start(XdsConfig { endpoint, node: identity(), is_on_demand, known })
}

/// Waits until what is known is so.
pub(super) async fn until(client: &XdsClient, is_so: impl FnMut(&Update) -> bool) -> Update {
    let mut updates = client.updates();
    let seen = timeout(PATIENCE, updates.wait_for(is_so)).await;
    seen.expect("it becomes so").unwrap().clone()
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(3 * PATIENCE, test).await.expect("the test ends") });
}

async fn serve(tcp: tokio::net::TcpStream, begun: mpsc::Sender<Stream>) {
    let service = AggregatedDiscoveryServiceServer::new(Plane { begun });
    let service = Arc::new(Mutex::new(service));
    let service = service_fn(move |request| service.lock().unwrap().call(request));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(tcp), service);
    let _ended = connection.await;
}

struct Plane {
    begun: mpsc::Sender<Stream>,
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
        let token = request.metadata().get("authorization");
        let token = token.and_then(|token| token.to_str().ok()).map(str::to_owned);
        let (responses, queue) = mpsc::channel(16);
        let stream = Stream { token, requests: request.into_inner(), responses };
        self.begun.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

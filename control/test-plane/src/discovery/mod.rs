//! The aggregated discovery service, its delta form: what istiod tells node proxies.

mod session;
mod subscription;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringway_control::proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use ringway_control::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Request, Response, Status, Streaming};

use self::session::Session;
use crate::controls::Service;
use crate::plane::Plane;

/// Responses that may wait for a client that reads slowly.
const RESPONSES_MAX: usize = 4;

/// The service, of one plane.
#[derive(Clone)]
pub(crate) struct Discovery {
    plane: Arc<Plane>,
    streams_ever: Arc<AtomicU64>,
}

impl Discovery {
    /// The service of `plane`.
    pub(crate) fn new(plane: Arc<Plane>) -> Discovery {
        Discovery { plane, streams_ever: Arc::default() }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("node proxies use the delta form"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.plane.controls.check(Service::Xds)?;
        let cluster = self.plane.worlds.current().cluster.clone();
        let caller = self.plane.tokens.check(request.metadata(), &cluster);
        let stream = self.streams_ever.fetch_add(1, Ordering::Relaxed) + 1;
        let line = json!({
            "stream": stream,
            "node": caller.as_ref().ok().map(|caller| &caller.node),
            "headers": told_headers(request.metadata()),
        });
        self.plane.journal.record("xds-stream", line);
        let (responses, received) = mpsc::channel(RESPONSES_MAX);
        let session = Session::new(Arc::clone(&self.plane), caller?, stream, responses);
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(received)))
    }
}

/// The headers as they came, except the token.
pub(crate) fn told_headers(headers: &MetadataMap) -> serde_json::Value {
    let told = headers.iter().filter_map(|header| match header {
        KeyAndValueRef::Ascii(name, _) if name == "authorization" => {
            Some((name.to_string(), "(not written down)".into()))
        }
        KeyAndValueRef::Ascii(name, value) => {
            Some((name.to_string(), value.to_str().unwrap_or_default().into()))
        }
        KeyAndValueRef::Binary(..) => None,
    });
    serde_json::Value::Object(told.collect())
}

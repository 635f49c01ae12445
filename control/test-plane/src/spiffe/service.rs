//! The X.509 profile of the SPIFFE Workload API: what an agent holds, at once and whenever it changes.

use std::sync::Arc;

use ringway_control::proto::spiffe::spiffe_workload_api_server::SpiffeWorkloadApi;
use ringway_control::proto::spiffe::{
    X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};
use ringway_protocols::identity::Identity;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::held::Held;
use crate::journal::Journal;

/// Without it a call may have been made by somebody whom another has lured here (SPIFFE Workload Endpoint §4).
const HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// Pushes that may wait for a client that reads slowly.
const PUSHES_MAX: usize = 4;

type Pushes<M> = ReceiverStream<Result<M, Status>>;

/// The service, of one agent.
#[derive(Clone)]
pub(super) struct WorkloadApi {
    agent: String,
    journal: Arc<Journal>,
    held: watch::Receiver<Held>,
}

impl WorkloadApi {
    /// The service of the agent of this name.
    pub(super) fn new(
        agent: &str,
        journal: Arc<Journal>,
        held: watch::Receiver<Held>,
    ) -> WorkloadApi {
        WorkloadApi { agent: agent.to_owned(), journal, held }
    }

    fn answer<M: Send + 'static>(
        &self,
        method: &str,
        headers: &MetadataMap,
        message: fn(&Held) -> M,
    ) -> Result<Response<Pushes<M>>, Status> {
        let (name, value) = HEADER;
        let admitted = headers.get(name).is_some_and(|header| header == value);
        let line = json!({ "agent": self.agent, "method": method, "admitted": admitted });
        self.journal.record("workload-call", line);
        if !admitted {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        let (pushes, received) = mpsc::channel(PUSHES_MAX);
        tokio::spawn(self.clone().push(message, pushes));
        Ok(Response::new(ReceiverStream::new(received)))
    }

    /// Until the client goes, or nothing is held any more.
    async fn push<M>(mut self, message: fn(&Held) -> M, pushes: mpsc::Sender<Result<M, Status>>) {
        loop {
            let told = {
                let held = self.held.borrow_and_update();
                let line = json!({ "agent": self.agent, "identities": held.identities.len() });
                self.journal.record("push", line);
                (!held.identities.is_empty()).then(|| message(&held))
            };
            // "If the client is not entitled to receive any X509-SVIDs, then the server SHOULD respond with the
            // "PermissionDenied" gRPC status code" (SPIFFE Workload API §5.2.1).
            let denied = || Status::permission_denied("no identity issued");
            let is_last = told.is_none();
            if pushes.send(told.ok_or_else(denied)).await.is_err() || is_last {
                return;
            }
            tokio::select! {
                changed = self.held.changed() => if changed.is_err() { return },
                () = pushes.closed() => return,
            }
        }
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Pushes<X509svidResponse>;
    type FetchX509BundlesStream = Pushes<X509BundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.answer("FetchX509SVID", request.metadata(), svids)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.answer("FetchX509Bundles", request.metadata(), bundles)
    }
}

fn svids(held: &Held) -> X509svidResponse {
    let issued = held.identities.iter().filter_map(|(id, issued)| Some((id, issued.as_ref()?)));
    let svids = issued.map(|(id, issued)| X509svid {
        spiffe_id: id.clone(),
        x509_svid: issued.chain.clone(),
        x509_svid_key: issued.key.clone(),
        bundle: held.bundle.clone(),
        hint: String::new(),
    });
    X509svidResponse { svids: svids.collect(), ..X509svidResponse::default() }
}

fn bundles(held: &Held) -> X509BundlesResponse {
    let domain = |id: &String| {
        let identity = Identity::parse(id).ok()?;
        Some((format!("spiffe://{}", identity.trust_domain()), held.bundle.clone()))
    };
    let bundles = held.identities.keys().filter_map(domain).collect();
    X509BundlesResponse { bundles, ..X509BundlesResponse::default() }
}

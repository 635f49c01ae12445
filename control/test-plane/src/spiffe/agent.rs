//! One agent: its socket, and what it holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::KeyPair;
use ringway_control::proto::spiffe::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::codegen::Service as _;

use super::service::WorkloadApi;
use crate::authority::Authority;
use crate::journal::Journal;

/// What an agent holds by SPIFFE ID; `None` is to be issued.
pub(super) type Identities = BTreeMap<String, Option<Issued>>;

type Server = SpiffeWorkloadApiServer<WorkloadApi>;

/// A certificate as it was issued.
#[derive(Clone)]
pub(super) struct Issued {
    /// The leaf and the intermediate, DER, one after the other.
    pub(super) chain: Vec<u8>,
    /// PKCS #8, DER.
    pub(super) key: Vec<u8>,
}

/// What an agent holds, ready to be told.
#[derive(Clone, Default)]
pub(super) struct Held {
    pub(super) identities: Identities,
    /// The roots, DER, one after the other.
    pub(super) bundle: Vec<u8>,
}

/// One agent.
pub(super) struct SpiffeAgent {
    name: String,
    socket: PathBuf,
    pub(super) journal: Arc<Journal>,
    pub(super) held: watch::Sender<Held>,
    running: watch::Sender<bool>,
}

impl SpiffeAgent {
    /// One that holds nothing.
    pub(super) fn new(name: &str, socket: PathBuf, journal: Arc<Journal>) -> SpiffeAgent {
        let (held, running) = (watch::Sender::default(), watch::Sender::new(true));
        SpiffeAgent { name: name.to_owned(), socket, journal, held, running }
    }

    /// Opens the socket; what an earlier process left there is replaced.
    ///
    /// # Errors
    /// When the path cannot be bound.
    pub(super) fn bind(&self) -> Result<UnixListener> {
        let _ = fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket);
        listener.with_context(|| format!("cannot listen at {}", self.socket.display()))
    }

    /// Serves; goes and comes back as it is told to.
    ///
    /// # Errors
    /// When the socket cannot be opened again.
    pub(super) async fn run(self: Arc<Self>, mut listener: UnixListener) -> Result<()> {
        let mut running = self.running.subscribe();
        loop {
            tokio::select! {
                failed = self.serve(listener) => return failed,
                () = becomes(&mut running, false) => {}
            }
            // The file stays, as that of a process that was killed does.
            becomes(&mut running, true).await;
            listener = self.bind()?;
        }
    }

    /// Goes, or comes back.
    pub(super) fn set_running(&self, running: bool) {
        self.running.send_replace(running);
    }

    /// Changes what is held, issues what is lacking then, and pushes all of it.
    ///
    /// # Errors
    /// When something cannot be issued; then all stays as it was.
    pub(super) fn change(
        &self,
        authority: &Authority,
        lifetime: Duration,
        change: impl FnOnce(&mut Identities),
    ) -> Result<()> {
        let mut identities = self.held.borrow().identities.clone();
        change(&mut identities);
        for (identity, issued) in &mut identities {
            if issued.is_none() {
                *issued = Some(issue(authority, identity, lifetime)?);
            }
        }
        let bundle = der(&authority.bundle())?;
        self.held.send_replace(Held { identities, bundle });
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn status(&self) -> Value {
        let held: Vec<String> = self.held.borrow().identities.keys().cloned().collect();
        json!({ "name": self.name, "running": *self.running.borrow(), "identities": held })
    }

    /// Takes connections until the socket fails; all of them end with the future.
    async fn serve(self: &Arc<Self>, listener: UnixListener) -> Result<()> {
        let server = SpiffeWorkloadApiServer::new(WorkloadApi::new(Arc::clone(self)));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    connections.spawn(serve_connection(server.clone(), accepted?.0));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn serve_connection(server: Server, stream: UnixStream) {
    let service = hyper::service::service_fn(move |request| server.clone().call(request));
    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // Why a client went is its own affair.
    let _ = http2.serve_connection(TokioIo::new(stream), service).await;
}

async fn becomes(running: &mut watch::Receiver<bool>, wanted: bool) {
    let reached = running.wait_for(|running| *running == wanted).await.is_ok();
    assert!(reached, "a switch lives as long as its agent");
}

fn issue(authority: &Authority, identity: &str, lifetime: Duration) -> Result<Issued> {
    let key = KeyPair::generate()?;
    let mut chain = authority.issue(identity, &key, lifetime)?;
    // Roots are told apart from the chain here.
    chain.pop();
    Ok(Issued { chain: der(&chain.concat())?, key: key.serialize_der() })
}

/// Certificates one after the other.
fn der(pem: &str) -> Result<Vec<u8>> {
    let mut der = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        der.extend_from_slice(&certificate?);
    }
    Ok(der)
}

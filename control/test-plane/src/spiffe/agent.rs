//! One agent: its socket, and what it holds.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ringway_control::proto::spiffe::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::codegen::Service as _;

use super::held::{Held, Identities};
use super::service::WorkloadApi;
use crate::authority::Authority;
use crate::journal::Journal;

type Server = SpiffeWorkloadApiServer<WorkloadApi>;

/// One agent.
pub(super) struct SpiffeAgent {
    name: String,
    socket: PathBuf,
    journal: Arc<Journal>,
    held: watch::Sender<Held>,
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
        self.held.send_replace(Held::complete(authority, identities, lifetime)?);
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
    async fn serve(&self, listener: UnixListener) -> Result<()> {
        let api = WorkloadApi::new(&self.name, Arc::clone(&self.journal), self.held.subscribe());
        let server = SpiffeWorkloadApiServer::new(api);
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

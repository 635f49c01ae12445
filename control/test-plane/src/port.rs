//! The TLS port: HTTP/2 connections, and which service a request is for.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ringway_control::proto::ca::istio_certificate_service_server::{
    IstioCertificateServiceServer, SERVICE_NAME as CERTIFICATES,
};
use ringway_control::proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::codegen::Service as _;

use crate::certificates::Certificates;
use crate::controls::{Cut, Service};
use crate::discovery::Discovery;
use crate::plane::Plane;

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// How long streams of a connection that was told to go may stay.
const GOAWAY_GRACE: Duration = Duration::from_secs(10);

/// Bytes of a request to the discovery service; who sends more loses its stream. istiod has the same, as gRPC servers do that
/// are not told otherwise.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The port, open or closed.
pub(crate) struct Port {
    plane: Arc<Plane>,
    address: SocketAddr,
    listener: TcpListener,
    services: Services,
}

#[derive(Clone)]
struct Services {
    discovery: AggregatedDiscoveryServiceServer<Discovery>,
    certificates: IstioCertificateServiceServer<Certificates>,
}

/// Why a connection ends before its time.
enum End {
    Reset,
    Goaway,
}

impl Port {
    /// Opens the port of `plane`.
    ///
    /// # Errors
    /// When it is taken.
    pub(crate) async fn bind(plane: Arc<Plane>) -> Result<Port> {
        let listener = listen(plane.options.listen).await?;
        // A port that was chosen by the system stays the same when it is opened again.
        let address = listener.local_addr()?;
        plane.journal.record("listening", json!({ "address": address.to_string() }));
        let discovery = Discovery::new(Arc::clone(&plane));
        let certificates = Certificates::new(Arc::clone(&plane));
        let services = Services {
            discovery: AggregatedDiscoveryServiceServer::new(discovery)
                .max_decoding_message_size(REQUEST_BYTES_MAX),
            certificates: IstioCertificateServiceServer::new(certificates),
        };
        Ok(Port { plane, address, listener, services })
    }

    /// Serves; closes and opens as it is told to.
    ///
    /// # Errors
    /// When it cannot be opened again.
    pub(crate) async fn run(mut self) -> Result<()> {
        let controls = Arc::clone(&self.plane.controls);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.spawn(stream, peer),
                    Err(error) => {
                        self.plane.journal.record("accept-failed", json!({"error": error.to_string()}));
                        sleep(Duration::from_millis(100)).await;
                    }
                },
                () = controls.wait(Service::Port, false) => {
                    drop(self.listener);
                    controls.cut(Cut::Connections);
                    controls.wait(Service::Port, true).await;
                    self.listener = listen(self.address).await?;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr) {
        let (plane, services) = (Arc::clone(&self.plane), self.services.clone());
        let cuts = plane.controls.cuts();
        tokio::spawn(async move {
            if let Err(error) = serve(&plane, services, stream, cuts).await {
                let line = json!({"peer": peer.to_string(), "error": format!("{error:#}")});
                plane.journal.record("connection-failed", line);
            }
        });
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}"))
}

async fn serve(
    plane: &Plane,
    services: Services,
    stream: TcpStream,
    mut cuts: broadcast::Receiver<Cut>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let config = {
        let authority = plane.authority.lock().expect("no holder of the authority panics");
        authority.server_config(&plane.options.names)?
    };
    let handshake = timeout(HANDSHAKE_PATIENCE, TlsAcceptor::from(config).accept(stream));
    let stream = tokio::select! {
        stream = handshake => stream.context("the handshake took too long")??,
        _ = told_to_end(&mut cuts) => return Ok(()),
    };
    let service = hyper::service::service_fn(move |request| services.clone().call(request));
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.timer(TokioTimer::new());
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let mut going = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            end = told_to_end(&mut cuts) => match end {
                End::Reset => return Ok(()),
                End::Goaway => going = true,
            },
            () = age(plane.options.connection_age_max), if !going => going = true,
        }
        if going {
            plane.journal.record("goaway", json!({}));
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = sleep(GOAWAY_GRACE) => return Ok(()),
            }
        }
    }
}

impl Services {
    async fn call(
        mut self,
        request: Request<Incoming>,
    ) -> Result<Response<tonic::body::Body>, std::convert::Infallible> {
        // What neither of them knows, either answers with the same status.
        match request.uri().path().strip_prefix('/') {
            Some(path) if path.starts_with(CERTIFICATES) => self.certificates.call(request).await,
            _ => self.discovery.call(request).await,
        }
    }
}

async fn told_to_end(cuts: &mut broadcast::Receiver<Cut>) -> End {
    loop {
        match cuts.recv().await {
            Ok(Cut::Connections) => return End::Reset,
            Ok(Cut::Goaway) => return End::Goaway,
            Ok(Cut::Streams(..)) => {}
            Err(_) => return End::Reset,
        }
    }
}

async fn age(most: Option<Duration>) {
    match most {
        Some(most) => sleep(most).await,
        None => std::future::pending().await,
    }
}

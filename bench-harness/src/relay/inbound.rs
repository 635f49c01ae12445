//! The far end: ends tunnels, dials the applications.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, Response, StatusCode};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::copy::relay;
use super::{CONNECTION_WINDOW_BYTES, Common, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES};

/// The far end of the pair.
#[derive(Clone, Debug, Args)]
pub struct Inbound {
    /// What both ends have.
    #[command(flatten)]
    pub common: Common,
    /// Dial this instead of what the tunnel asks for.
    #[arg(long)]
    pub to: Option<SocketAddr>,
    /// Dial from the address of the tunnel's other end (needs CAP_NET_ADMIN and redirect rules).
    #[arg(long)]
    pub original_source: bool,
}

impl Inbound {
    /// Relays for ever.
    pub async fn run(self) -> Result<()> {
        let acceptor = TlsAcceptor::from(Arc::new(self.common.files.server()?));
        let listener = TcpListener::bind(self.common.listen).await?;
        println!("listening on {}", self.common.listen);
        let inbound = Arc::new(self);
        loop {
            let Ok((stream, address)) = listener.accept().await else { continue };
            let (inbound, acceptor) = (inbound.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Err(error) = inbound.serve(stream, address.ip(), acceptor).await {
                    eprintln!("failed: {error:#}");
                }
            });
        }
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        from: IpAddr,
        tls: TlsAcceptor,
    ) -> Result<()> {
        stream.set_nodelay(true)?;
        let stream = tls.accept(stream).await.context("no TLS")?;
        let mut connection = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(64 << 10)
            .max_concurrent_streams(200)
            .handshake(stream)
            .await?;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            let inbound = self.clone();
            tokio::spawn(async move {
                if let Err(error) = inbound.serve_stream(request, respond, from).await {
                    eprintln!("failed: {error:#}");
                }
            });
        }
        Ok(())
    }

    async fn serve_stream(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        from: IpAddr,
    ) -> Result<()> {
        let mut refuse = |status| {
            let response = Response::builder().status(status).body(()).expect("a valid response");
            respond.send_response(response, true).map(|_| ())
        };
        let target =
            request.uri().authority().and_then(|authority| authority.as_str().parse().ok());
        let Some(target) = self.to.or(target).filter(|_| request.method() == Method::CONNECT)
        else {
            return Ok(refuse(StatusCode::BAD_REQUEST)?);
        };
        let Ok(stream) = self.dial(target, from).await else {
            return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE)?);
        };
        let response = Response::builder().status(StatusCode::OK).body(())?;
        let send = respond.send_response(response, false)?;
        relay(stream, request.into_body(), send).await;
        Ok(())
    }

    async fn dial(&self, target: SocketAddr, from: IpAddr) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let options = SockRef::from(&socket);
        if let Some(mark) = self.common.mark {
            options.set_mark(mark)?;
        }
        if self.original_source {
            options.set_ip_transparent_v4(true)?;
            options.set_freebind_v4(true)?;
            options.bind(&SocketAddr::new(from, 0).into())?;
        }
        let stream =
            tokio::time::timeout(Duration::from_secs(10), socket.connect(target)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

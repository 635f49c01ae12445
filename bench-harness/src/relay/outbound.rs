//! The near end: takes plain connections and carries them in tunnels, pooled per peer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use h2::client::SendRequest;
use http::{Method, Request};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::copy::relay;
use super::{CONNECTION_WINDOW_BYTES, Common, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX};

/// The near end of the pair.
#[derive(Clone, Debug, Args)]
pub struct Outbound {
    /// What both ends have.
    #[command(flatten)]
    pub common: Common,
    /// The far end. Without it: the destination's own address, port `--peer-port`.
    #[arg(long)]
    pub peer: Option<SocketAddr>,
    /// The far end's port, when its address is the destination's.
    #[arg(long, default_value_t = 15008)]
    pub peer_port: u16,
    /// The destination. Without it: where the connection went before it was redirected here.
    #[arg(long)]
    pub to: Option<SocketAddr>,
    /// Identities the far end may have; without any, all under the roots.
    #[arg(long)]
    pub expect: Vec<String>,
}

impl Outbound {
    /// Relays for ever.
    pub async fn run(self) -> Result<()> {
        let config = self.common.files.client(self.expect.clone())?;
        let listener = TcpListener::bind(self.common.listen).await?;
        let tunnels = Arc::new(Tunnels {
            connector: TlsConnector::from(Arc::new(config)),
            mark: self.common.mark,
            peers: Mutex::default(),
        });
        println!("listening on {}", self.common.listen);
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (outbound, tunnels) = (self.clone(), tunnels.clone());
            tokio::spawn(async move {
                if let Err(error) = outbound.serve(stream, &tunnels).await {
                    eprintln!("failed: {error:#}");
                }
            });
        }
    }

    async fn serve(&self, stream: TcpStream, tunnels: &Tunnels) -> Result<()> {
        stream.set_nodelay(true)?;
        let destination = match self.to {
            Some(to) => to,
            None => SockRef::from(&stream)
                .original_dst_v4()?
                .as_socket()
                .context("the destination is no IP address")?,
        };
        let peer = self.peer.unwrap_or(SocketAddr::new(destination.ip(), self.peer_port));
        let (mut send, _in_use) = tunnels.get(peer).await?;
        let request =
            Request::builder().method(Method::CONNECT).uri(destination.to_string()).body(())?;
        let (response, send_stream) = send.send_request(request, false)?;
        let response = response.await?;
        ensure!(response.status() == 200, "the far end says {}", response.status());
        relay(stream, response.into_body(), send_stream).await;
        Ok(())
    }
}

struct Tunnels {
    connector: TlsConnector,
    mark: Option<u32>,
    peers: Mutex<HashMap<SocketAddr, Arc<tokio::sync::Mutex<Option<Tunnel>>>>>,
}

struct Tunnel {
    send: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
}

/// Counts a stream of a tunnel for as long as it lives.
struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tunnels {
    async fn get(&self, peer: SocketAddr) -> Result<(SendRequest<Bytes>, InUse)> {
        let slot = self.peers.lock().expect("never poisoned").entry(peer).or_default().clone();
        // One tunnel to a peer is opened at a time; the others wait for it here.
        let mut slot = slot.lock().await;
        if let Some(tunnel) = slot.take()
            && let Ok(send) = tunnel.send.clone().ready().await
        {
            let streams = tunnel.streams.clone();
            let before = streams.fetch_add(1, Ordering::Relaxed);
            if before + 1 < STREAMS_MAX {
                *slot = Some(tunnel);
            }
            return Ok((send, InUse(streams)));
        }
        let send = self.open(peer).await?;
        let streams = Arc::new(AtomicUsize::new(1));
        *slot = Some(Tunnel { send: send.clone(), streams: streams.clone() });
        Ok((send, InUse(streams)))
    }

    async fn open(&self, peer: SocketAddr) -> Result<SendRequest<Bytes>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(mark) = self.mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        let stream = socket.connect(peer).await.with_context(|| format!("cannot reach {peer}"))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("name.invalid").expect("a valid name");
        let stream = self.connector.connect(name, stream).await.context("no TLS")?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .initial_max_send_streams(STREAMS_MAX)
            .max_header_list_size(16 << 10)
            .max_send_buffer_size(STREAM_WINDOW_BYTES as usize)
            .enable_push(false)
            .handshake(stream)
            .await?;
        tokio::spawn(connection);
        Ok(send.ready().await?)
    }
}

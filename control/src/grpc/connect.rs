//! From an endpoint to a channel: resolve, TCP, TLS, HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

#[cfg(feature = "waypoint")]
use hyper::body::Body;
#[cfg(feature = "waypoint")]
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, Scheme};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, Error as TlsError};

use super::channel::{CallHead, Channel};
use super::error::GrpcError;
use super::verifier::SecondName;
use super::{Endpoint, header};

/// How long the name service may take, and then each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server that has accepted may take for TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of one host that are tried; a name with more has others that are as good.
const ADDRESSES_MAX: usize = 8;

/// TCP asks a silent server after this long, then so often, so many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);
const KEEPALIVE_PROBES: u32 = 9;

/// HTTP/2 asks a server over TCP this often, and gives up when there is no answer for this long. Tests do not wait for it.
const PING_INTERVAL: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server may send unread: a response of many workloads comes without a pause each round trip.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);

/// Connects once. The roots are read now; the token is read by every call.
///
/// # Errors
/// [`GrpcError`], which says what to do.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, GrpcError> {
    // Before anything is dialled: what cannot be sent, or not be believed, needs no connection.
    let call = call_head(endpoint)?;
    let address = &endpoint.uri;
    if !address.is_encrypted() {
        let tcp = dial(endpoint).await?;
        return speak_http2(tcp, call, &address.to_string(), Some(PING_INTERVAL)).await;
    }
    let config = tls_config(endpoint)?;
    let tcp = dial(endpoint).await?;
    let tls = encrypt(endpoint, config, tcp).await?;
    speak_http2(tls, call, &address.to_string(), Some(PING_INTERVAL)).await
}

/// Connects once for requests in HTTP/1.1: what is no gRPC, such as a collector of traces. Neither token nor headers of
/// the endpoint are added.
///
/// # Errors
/// [`GrpcError`], which says what to do.
#[cfg(feature = "waypoint")]
pub(crate) async fn connect_http1<B>(
    endpoint: &Endpoint,
) -> Result<http1::SendRequest<B>, GrpcError>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let server = endpoint.uri.to_string();
    if !endpoint.uri.is_encrypted() {
        return speak_http1(dial(endpoint).await?, &server).await;
    }
    let mut config = tls_config(endpoint)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = dial(endpoint).await?;
    speak_http1(encrypt(endpoint, config, tcp).await?, &server).await
}

#[cfg(feature = "waypoint")]
async fn speak_http1<S, B>(stream: S, server: &str) -> Result<http1::SendRequest<B>, GrpcError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let failed = |error: hyper::Error| GrpcError::Http {
        server: server.to_owned(),
        error: error.to_string(),
    };
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection has ended");
        }
    });
    Ok(sender)
}

/// Connects once to a server on this host, by its socket. Whoever may open that socket is believed.
///
/// # Errors
/// [`GrpcError::Connect`] and [`GrpcError::Http`].
pub async fn connect_unix(path: &Path, headers: &[(&str, &str)]) -> Result<Channel, GrpcError> {
    let server = format!("unix://{}", path.display());
    let opened = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await;
    let stream = opened
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| GrpcError::Connect { server: server.clone(), error })?;
    let headers: Result<_, _> = headers.iter().map(|(name, value)| header(name, value)).collect();
    let call = CallHead {
        scheme: Scheme::HTTP,
        authority: Authority::from_static("localhost"),
        token: None,
        cluster_id: HeaderValue::from_static(""),
        headers: headers?,
        may_want_tls: AtomicBool::new(false),
    };
    // The kernel tells when a process of this host is gone; and servers of gRPC's Go library that are not told otherwise, as
    // SPIRE's agent, end a connection with more than a PING in five minutes.
    speak_http2(stream, call, &server, None).await
}

fn call_head(endpoint: &Endpoint) -> Result<CallHead, GrpcError> {
    let cluster_id =
        HeaderValue::from_str(&endpoint.cluster_id).map_err(|_| GrpcError::Header {
            name: "clusterid".to_owned(),
            why: "the cluster's name is not ASCII text",
        })?;
    let authority = endpoint.uri.authority();
    Ok(CallHead {
        scheme: if endpoint.uri.is_encrypted() { Scheme::HTTPS } else { Scheme::HTTP },
        authority: authority.parse().map_err(|_| GrpcError::Address {
            text: authority.clone(),
            why: "HTTP/2 cannot carry its host",
        })?,
        token: endpoint.token.clone(),
        cluster_id,
        headers: endpoint.headers.clone(),
        may_want_tls: AtomicBool::new(!endpoint.uri.is_encrypted()),
    })
}

/// Every address of the host in turn, until one answers.
async fn dial(endpoint: &Endpoint) -> Result<TcpStream, GrpcError> {
    let (host, port) = (endpoint.uri.host(), endpoint.uri.port());
    let unresolved = |error| GrpcError::Resolve { host: host.to_owned(), error };
    let addresses = timeout(CONNECT_TIMEOUT, lookup_host((host, port))).await;
    let addresses =
        addresses.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unresolved)?;
    let mut last = None;
    for address in addresses.take(ADDRESSES_MAX) {
        match dial_one(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = Some((address, error)),
        }
    }
    Err(match last {
        None => unresolved(io::ErrorKind::NotFound.into()),
        Some((address, error)) => {
            let server = match host.parse::<std::net::IpAddr>() {
                Ok(_) => endpoint.uri.to_string(),
                Err(_) => format!("{} at {address}", endpoint.uri),
            };
            GrpcError::Connect { server, error }
        }
    })
}

async fn dial_one(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&tcp, true)?;
    sockopt::set_tcp_keepidle(&tcp, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&tcp, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&tcp, KEEPALIVE_PROBES)?;
    Ok(tcp)
}

async fn encrypt(
    endpoint: &Endpoint,
    config: ClientConfig,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, GrpcError> {
    let name = server_name(endpoint.uri.host())?;
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let shaken = timeout(HANDSHAKE_TIMEOUT, shaken).await;
    shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| GrpcError::Tls {
        server: endpoint.uri.to_string(),
        roots: endpoint.roots.to_string(),
        error,
    })
}

/// TLS 1.3 as between our nodes: the same two suites, `h2`, and no certificate of ours.
fn tls_config(endpoint: &Endpoint) -> Result<ClientConfig, GrpcError> {
    let unusable = |error: &dyn std::fmt::Display| GrpcError::Roots {
        of: endpoint.roots.to_string(),
        why: error.to_string(),
    };
    let mut provider = CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    };
    if endpoint.post_quantum_only {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    }
    let provider = Arc::new(provider);
    let roots = Arc::new(endpoint.roots.read()?);
    let judge = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| unusable(&error))?;
    let alternative = endpoint.alternative_hostname.as_deref().map(server_name).transpose()?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error: TlsError| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SecondName { judge, alternative }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Each connection is judged anew, with the roots of its time.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_name(host: &str) -> Result<ServerName<'static>, GrpcError> {
    ServerName::try_from(host.to_owned()).map_err(|_| GrpcError::Address {
        text: host.to_owned(),
        why: "it is neither a DNS name nor an IP address",
    })
}

async fn speak_http2<S>(
    stream: S,
    call: CallHead,
    server: &str,
    ping_interval: Option<Duration>,
) -> Result<Channel, GrpcError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::fmt::Display| GrpcError::Http {
        server: server.to_owned(),
        error: error.to_string(),
    };
    let shaken = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(ping_interval)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = timeout(HANDSHAKE_TIMEOUT, shaken)
        .await
        .map_err(|_| failed(&"no answer"))?
        .map_err(|error| failed(&error))?;
    // It ends with the channel; what it ends of, the calls are told.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the control plane has ended");
        }
    });
    Ok(Channel::new(sender, call))
}

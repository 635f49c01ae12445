//! Asks the host's name servers what is not known here.
//!
//! ```text
//!   for each attempt ─▶ for each server, those that answered last time first ─▶ ask ─▶ an answer, or "no such name": done
//!        ▲                                                               │  └─▶ it failed or refuses: kept; the next
//!        └────────────────────── none left ◀─────────────────────────────┴────▶ nobody there, silence: the next
//! ```
//!
//! Every query has a socket of its own, connected to the server it is for, with a port the kernel draws and a number that is
//! drawn here. So an answer can only be taken by the query it is for, and somebody who would like to answer instead has to
//! guess port and number, from the server's address. What does not answer the question is counted and waited past.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ringway_engine::runtime::NetNamespace;
use ringway_protocols::dns::bounds::MESSAGE_BYTES_MAX;
use ringway_protocols::dns::{Query, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout_at;

use super::bounds::{
    FORWARD_TIMEOUT, REPLIES_REFUSED_MAX, SERVER_AVOIDED_TIME, SERVER_TIMEOUT_MAX,
};
use super::metrics::{DnsMetrics, Transport};
use super::random::query_id;
use super::resolv_conf::{ResolvConf, Watched};
use super::socket;

/// Knows the host's name servers. Belongs to the DNS thread.
pub(super) struct Forwarder {
    conf: RefCell<Watched>,
    /// Until when servers that did not answer are asked last. There are as many as `resolv.conf` has had.
    avoided: RefCell<HashMap<SocketAddr, Instant>>,
    /// Where the next rotation begins.
    rotation: RefCell<usize>,
    home: NetNamespace,
    mark: Option<u32>,
    metrics: Arc<DnsMetrics>,
    /// Datagrams of servers are read into this, and what is in them copied out.
    scratch: RefCell<Box<[u8]>>,
}

/// Why nobody has answered.
#[derive(Debug)]
pub(super) enum ForwardError {
    /// The last server could not be asked.
    Io(SocketAddr, io::Error),
    /// The last server did not answer in time.
    Silence(SocketAddr),
    /// The last server answered other questions.
    Mismatched(SocketAddr),
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardError::Io(server, error) => write!(f, "{server} cannot be asked: {error}"),
            ForwardError::Silence(server) => write!(f, "{server} does not answer"),
            ForwardError::Mismatched(server) => {
                write!(f, "what comes from {server} answers other questions")
            }
        }
    }
}

impl Forwarder {
    /// A forwarder to the servers of this file. Runs on the thread whose namespace is the host's.
    pub(super) fn new(
        resolv_conf: &Path,
        mark: Option<u32>,
        metrics: Arc<DnsMetrics>,
    ) -> io::Result<Forwarder> {
        Ok(Forwarder {
            conf: RefCell::new(Watched::new(resolv_conf, Instant::now())),
            avoided: RefCell::default(),
            rotation: RefCell::default(),
            home: NetNamespace::current()?,
            mark,
            metrics,
            scratch: RefCell::new(vec![0; MESSAGE_BYTES_MAX].into_boxed_slice()),
        })
    }

    /// The search domains of the host.
    pub(super) fn search_domains(&self) -> Vec<String> {
        self.conf.borrow_mut().conf(Instant::now()).search.clone()
    }

    /// Asks from inside the host's own namespace, over TCP when the answer does not fit into a datagram.
    pub(super) async fn ask_from_home(&self, query: &Query) -> Result<Reply, ForwardError> {
        let reply = self.ask(query, &self.home, Transport::Udp).await?;
        match reply.is_truncated() {
            true => self.ask(query, &self.home, Transport::Tcp).await,
            false => Ok(reply),
        }
    }

    /// Asks one server after the other from inside `namespace`, over the same transport as the client.
    pub(super) async fn ask(
        &self,
        query: &Query,
        namespace: &NetNamespace,
        transport: Transport,
    ) -> Result<Reply, ForwardError> {
        let conf = self.conf.borrow_mut().conf(Instant::now()).clone();
        let transport = if conf.over_tcp { Transport::Tcp } else { transport };
        let deadline = Instant::now() + FORWARD_TIMEOUT;
        let servers = self.in_order(&conf, Instant::now());
        let mut refusal = None;
        let mut failure = None;
        for server in servers.iter().cycle().take(servers.len() * conf.attempts as usize) {
            if Instant::now() >= deadline {
                break;
            }
            let patience = match transport {
                Transport::Udp => conf.timeout,
                Transport::Tcp => conf.timeout.max(SERVER_TIMEOUT_MAX),
            };
            let until = deadline.min(Instant::now() + patience);
            match self.ask_one(query, *server, namespace, transport, until).await {
                Ok(reply) if reply.is_refusal() => refusal = Some(reply),
                Ok(reply) => {
                    self.avoided.borrow_mut().remove(server);
                    return Ok(reply);
                }
                Err(error) => {
                    tracing::debug!(target: "dns", %error, "the next server is asked");
                    let end = Instant::now() + SERVER_AVOIDED_TIME;
                    self.avoided.borrow_mut().insert(*server, end);
                    failure = Some(error);
                }
            }
        }
        // A server's own refusal says more than that another is not there.
        match (refusal, failure) {
            (Some(refusal), _) => Ok(refusal),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(ForwardError::Silence(servers[0])),
        }
    }

    /// The servers, those first that are not known to be silent.
    fn in_order(&self, conf: &ResolvConf, now: Instant) -> Vec<SocketAddr> {
        let mut servers = conf.servers.clone();
        if conf.rotate {
            let mut rotation = self.rotation.borrow_mut();
            *rotation = rotation.wrapping_add(1);
            let first = *rotation % servers.len();
            servers.rotate_left(first);
        }
        let mut avoided = self.avoided.borrow_mut();
        avoided.retain(|_, until| *until > now);
        servers.sort_by_key(|server| avoided.contains_key(server));
        servers
    }

    async fn ask_one(
        &self,
        query: &Query,
        server: SocketAddr,
        namespace: &NetNamespace,
        transport: Transport,
        until: Instant,
    ) -> Result<Reply, ForwardError> {
        // A server at a loopback address is the host's own: the workload's loopback has none.
        let (namespace, mark) = match server.ip().is_loopback() {
            true => (&self.home, None),
            false => (namespace, self.mark),
        };
        let asking = async {
            match transport {
                Transport::Udp => self.over_udp(query, server, namespace, mark).await,
                Transport::Tcp => self.over_tcp(query, server, namespace, mark).await,
            }
        };
        match timeout_at(until.into(), asking).await {
            Ok(answered) => answered,
            Err(_) => Err(ForwardError::Silence(server)),
        }
    }

    async fn over_udp(
        &self,
        query: &Query,
        server: SocketAddr,
        namespace: &NetNamespace,
        mark: Option<u32>,
    ) -> Result<Reply, ForwardError> {
        let failed = |error| ForwardError::Io(server, error);
        let socket = socket::connected_udp(namespace, server, mark).map_err(failed)?;
        let socket = UdpSocket::from_std(socket).map_err(failed)?;
        let id = query_id();
        socket.send(&query.forward(id)).await.map_err(failed)?;
        let mut mismatched = 0;
        loop {
            socket.readable().await.map_err(failed)?;
            let received = {
                let mut scratch = self.scratch.borrow_mut();
                socket.try_recv(&mut scratch).map(|length| scratch[..length].to_vec())
            };
            match received {
                Ok(message) => match query.accept(id, message) {
                    Ok(reply) => return Ok(reply),
                    Err(_) => {
                        self.metrics.mismatched();
                        mismatched += 1;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)),
            }
            if mismatched >= REPLIES_REFUSED_MAX {
                return Err(ForwardError::Mismatched(server));
            }
        }
    }

    async fn over_tcp(
        &self,
        query: &Query,
        server: SocketAddr,
        namespace: &NetNamespace,
        mark: Option<u32>,
    ) -> Result<Reply, ForwardError> {
        let failed = |error| ForwardError::Io(server, error);
        let socket = socket::tcp(namespace, server, mark).map_err(failed)?;
        let mut stream =
            TcpSocket::from_std_stream(socket).connect(server).await.map_err(failed)?;
        let id = query_id();
        stream.write_all(&framed(&query.forward(id))).await.map_err(failed)?;
        let length = stream.read_u16().await.map_err(failed)?;
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await.map_err(failed)?;
        query.accept(id, message).map_err(|_| {
            self.metrics.mismatched();
            ForwardError::Mismatched(server)
        })
    }
}

/// A message as it stands on a connection: behind its length (RFC 1035 §4.2.2).
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length =
        u16::try_from(message.len()).expect("no message is longer than its length can say");
    [&length.to_be_bytes()[..], message].concat()
}

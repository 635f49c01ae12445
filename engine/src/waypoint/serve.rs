//! The story of a connection that comes to a waypoint.
//!
//! A CONNECT request → what of ours is it for → 200 → what does it speak: as its port declares, or as its first bytes
//! show → TCP passes, HTTP is served request by request.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use ringway_http::model::{GatewayName, ListenerKey, ServiceName};
use ringway_protocols::{
    hbone::{Authority, Baggage, ConnectRequest},
    identity::Identity,
};

use super::{draining::Awaited, exchange::Upgraded, server, speech, speech::Speech, tcp};
use crate::{
    accounts::AdmittedConnection,
    capture::Pod,
    carry::{carry, pair},
    close::CloseReason,
    connect,
    connection::Connection,
    decide::{self, Fronted, Refusal},
    inbound::Peer,
    limits::{
        HTTP_HEAD_TIMEOUT, HTTP_IDLE_TIMEOUT, HTTP_LINGER_TIME, SNIFF_BYTES_MAX, SNIFF_TIMEOUT,
    },
    runtime::{self, TcpStream},
    shard::Shard,
    snapshot::{AppProtocol, NamespacedHostname, Snapshot, Workload},
    telemetry::{Direction, http::SourceMemo},
    tunnel::TunnelStream,
};

/// A client's connection, as far as its requests need to know.
pub(crate) struct Downstream {
    pub(crate) shard: Rc<Shard>,
    pub(crate) pod: Rc<Pod>,
    /// Where the client is.
    pub(crate) source: SocketAddr,
    /// What it called.
    pub(crate) called: SocketAddr,
    /// Who it proved to be.
    pub(crate) identity: Option<Rc<Identity>>,
    /// Who that is, as far as we know.
    pub(crate) workload: Option<Arc<Workload>>,
    /// What its host says of it.
    pub(crate) baggage: Option<Arc<Baggage>>,
    pub(crate) server_name: Option<Box<str>>,
    /// What backends may be told of the certificate it has shown at a gateway.
    pub(crate) certificate: Option<Rc<str>>,
    /// What the client's node, or who else stands first, calls the connection in its log.
    pub(crate) trace_id: [u8; 16],
    pub(crate) target: Target,
    pub(crate) activity: Rc<Activity>,
    /// What becomes of the connection when HTTP on it has ended.
    pub(crate) upgraded: RefCell<Option<Upgraded>>,
    /// Where its requests are counted.
    pub(crate) source_memo: SourceMemo,
}

/// What a connection is for. Looked up again for each request: connections live for hours.
#[derive(Clone)]
pub(crate) enum Target {
    /// A port of a service.
    Service { id: NamespacedHostname, name: ServiceName, port: u16 },
    /// A workload itself.
    Workload(Arc<str>, SocketAddr),
    /// A port of a gateway; and the listener there that the client's TLS was ended for.
    Listener { gateway: GatewayName, port: u16, ended_for: Option<ListenerKey> },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { name, port, .. } => write!(f, "{name}:{port}"),
            Self::Workload(uid, _) => f.write_str(uid),
            Self::Listener { gateway, port, .. } => write!(f, "{gateway}:{port}"),
        }
    }
}

impl Downstream {
    /// How its requests came.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.server_name.is_some() { "https" } else { "http" }
    }

    /// The namespace of the client, by what it proved.
    pub(crate) fn client_namespace(&self) -> Option<&str> {
        self.identity.as_deref().map(Identity::namespace)
    }
}

/// Serves one CONNECT request from here to its record, or to those of its requests.
pub(crate) async fn serve_stream(
    shard: Rc<Shard>,
    pod: Rc<Pod>,
    peer: Rc<Peer>,
    stream: TunnelStream,
    request: Box<ConnectRequest>,
    _admitted: AdmittedConnection,
) {
    let connection =
        Connection::begin(&shard, &pod.uid, Direction::Inbound, peer.address, peer.local);
    let accepting = Box::pin(accept(&shard, &pod, &peer, &request, &connection));
    let (local, downstream) = match accepting.await {
        Ok(accepted) => accepted,
        Err(reason) => {
            stream.tunnel().refuse(&stream, reason.status());
            return connection.end(reason);
        }
    };
    // Before anybody is dialled: what goes wrong from here on is told in HTTP.
    stream.tunnel().accept(&stream, &connect::response(&shard, &local));
    let (near, far) = pair(&downstream.pod.account);
    runtime::spawn(carry(stream, Rc::new(far), HTTP_LINGER_TIME, None));
    let authority = Some(request.authority.clone());
    drop(request);
    serve_connection(downstream, Rc::new(near), connection, authority).await;
}

/// Decides on one snapshot what the stream is for.
async fn accept(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    peer: &Peer,
    request: &ConnectRequest,
    connection: &Connection,
) -> Result<(Arc<Workload>, Rc<Downstream>), CloseReason> {
    let local = connection.unless_cut(shard.workload(&pod.workload)).await??;
    // The client's node may have learned a moment earlier that the service has its waypoint here.
    let is_known = |snapshot: &Snapshot| {
        let asked = decide::fronted(snapshot, &local, &request.authority);
        (!matches!(asked, Err(Refusal::NotFronted { .. }))).then_some(())
    };
    connection.unless_cut(shard.wait_for(is_known)).await?;
    let snapshot = shard.snapshot();
    let fronted =
        decide::fronted(&snapshot, &local, &request.authority).map_err(CloseReason::Refused)?;
    let (target, called) = match fronted {
        Fronted::Service(service, port) => {
            let name = ServiceName {
                namespace: service.namespace().into(),
                hostname: service.hostname().into(),
            };
            let called = service.vip_for(local.network()).unwrap_or(peer.local.ip());
            (Target::Service { id: service.id.clone(), name, port }, (called, port).into())
        }
        Fronted::Workload(workload, address) => {
            (Target::Workload(workload.uid().into(), address), address)
        }
    };
    let downstream = Rc::new(Downstream {
        shard: shard.clone(),
        pod: pod.clone(),
        source: peer.address,
        called,
        identity: peer.identity.clone(),
        workload: connect::source_workload(&snapshot, request, peer.address.ip()),
        baggage: request.baggage.clone().map(Arc::new),
        server_name: None,
        certificate: None,
        trace_id: match request.traceparent {
            Some(traceparent) => traceparent.trace_id(),
            None => connect::fresh_trace_id(shard),
        },
        target,
        activity: Activity::new(),
        upgraded: RefCell::default(),
        source_memo: SourceMemo::default(),
    });
    Ok((local, downstream))
}

/// Serves what speaks HTTP as HTTP, and passes everything else on.
pub(crate) async fn serve_connection(
    downstream: Rc<Downstream>,
    socket: Rc<TcpStream>,
    connection: Connection,
    authority: Option<Authority>,
) {
    let expected = expected(&downstream);
    let mut sniffing = Box::pin(sniff(&socket, expected));
    let mut draining = Awaited::new(&downstream.pod.l7.kept().draining);
    let sniffing = poll_fn(move |cx| match sniffing.as_mut().poll(cx) {
        Poll::Ready(sniffed) => Poll::Ready(Some(sniffed)),
        // It has asked for nothing yet, and is not waited for.
        Poll::Pending if expected == Expected::Http => draining.poll(cx).map(|()| None),
        Poll::Pending => Poll::Pending,
    });
    let sniffed = match connection.unless_cut(sniffing).await {
        Ok(Some(sniffed)) => sniffed,
        Ok(None) => {
            // The client may be gone already.
            let _ = socket.shutdown_write();
            return connection.end_of_requests();
        }
        Err(reason) => {
            socket.reset_on_close();
            return connection.end(reason);
        }
    };
    let Sniffed { speech, early, silent } = sniffed;
    match speech {
        Some(Speech::Http1) => server::serve_http1(&downstream, socket, early, connection).await,
        Some(Speech::Http2) => server::serve_http2(&downstream, socket, early, connection).await,
        // What is declared to be HTTP and is none, or ends before that shows, is HTTP's to refuse: passed on, it would
        // be a request that no policy has seen.
        None | Some(Speech::Other) if expected == Expected::Http => {
            server::serve_http1(&downstream, socket, early, connection).await;
        }
        _ => tcp::pass(&downstream, socket, early, silent, connection, authority).await,
    }
}

/// What a connection may speak, before it has said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Http,
    /// Nobody has said.
    Anything,
    /// Its bytes are not ours to read.
    Opaque,
}

/// As the port declares; or HTTP where routes say what to do with it.
fn expected(downstream: &Downstream) -> Expected {
    let (id, name, port) = match &downstream.target {
        Target::Service { id, name, port } => (id, name, port),
        Target::Workload(..) => return Expected::Anything,
        Target::Listener { .. } => return Expected::Http,
    };
    let snapshot = downstream.shard.snapshot();
    let declared = snapshot.service(id).and_then(|service| service.port(*port));
    match declared.map(|port| port.app_protocol).unwrap_or_default() {
        AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc => Expected::Http,
        AppProtocol::Tcp | AppProtocol::Tls => Expected::Opaque,
        AppProtocol::Unknown => {
            let routed = snapshot.http().is_some_and(|tables| {
                let attached = tables.for_service(name, *port, downstream.client_namespace());
                matches!(attached, ringway_http::Attached::Routes(_))
            });
            let kept = downstream.pod.l7.kept();
            if routed {
                Expected::Http
            } else if kept.server_first.borrow().knows(id, *port, runtime::now()) {
                Expected::Opaque
            } else {
                Expected::Anything
            }
        }
    }
}

/// What was learnt of a connection from its first bytes.
struct Sniffed {
    /// None: it was not asked, or has not said.
    speech: Option<Speech>,
    early: Bytes,
    /// It had its time and said nothing.
    silent: bool,
}

async fn sniff(socket: &TcpStream, expected: Expected) -> Sniffed {
    let patience = match expected {
        Expected::Opaque => {
            return Sniffed { speech: None, early: Bytes::new(), silent: false };
        }
        // It may come later: a client may open its connections before it needs them.
        Expected::Http => HTTP_IDLE_TIMEOUT,
        Expected::Anything => SNIFF_TIMEOUT,
    };
    let mut early = Vec::new();
    let speech = runtime::timeout(patience, first_bytes(socket, &mut early)).await;
    let silent = speech.is_err() && early.is_empty();
    Sniffed { speech: speech.ok().flatten(), early: early.into(), silent }
}

/// Reads until it shows what is spoken; none when the connection ends before.
async fn first_bytes(socket: &TcpStream, early: &mut Vec<u8>) -> Option<Speech> {
    loop {
        socket.readable().await;
        let read = runtime::scratch(|scratch| {
            let room = SNIFF_BYTES_MAX - early.len();
            let read = socket.try_read(&mut scratch[..room])?;
            early.extend_from_slice(&scratch[..read]);
            Ok::<_, std::io::Error>(read)
        });
        match read {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        if let Some(speech) = speech::judge(early) {
            return Some(speech);
        }
        if early.len() == SNIFF_BYTES_MAX {
            return Some(Speech::Other);
        }
    }
}

/// What a connection that speaks HTTP is doing, so that it can be told when it has done nothing for too long.
pub(crate) struct Activity {
    under_way: Cell<usize>,
    idle_since: Cell<Instant>,
    /// A head has begun to come, and no request of it yet.
    head_since: Cell<Option<Instant>>,
}

impl Activity {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            under_way: Cell::new(0),
            idle_since: Cell::new(runtime::now()),
            head_since: Cell::new(None),
        })
    }

    /// Bytes have come.
    pub(crate) fn heard(&self) {
        if self.under_way.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(runtime::now()));
        }
    }

    /// Whether a head has begun that is not there yet.
    pub(crate) fn awaits_head(&self) -> bool {
        self.under_way.get() == 0 && self.head_since.get().is_some()
    }

    /// When something must have happened; none while a request is under way, which has its own.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.under_way.get(), self.head_since.get()) {
            (1.., _) => None,
            (0, Some(since)) => Some(since + HTTP_HEAD_TIMEOUT),
            (0, None) => Some(self.idle_since.get() + HTTP_IDLE_TIMEOUT),
        }
    }
}

/// A request that is under way, from its head to the end of its answer.
pub(crate) struct UnderWay(Rc<Activity>);

impl UnderWay {
    pub(crate) fn new(activity: &Rc<Activity>) -> Self {
        activity.under_way.set(activity.under_way.get() + 1);
        activity.head_since.set(None);
        Self(activity.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.idle_since.set(runtime::now());
    }
}

//! The story of a connection that comes in for a workload on this host.
//!
//! Over HBONE: accepted on port 15008 → handshake → each CONNECT request is decided on one snapshot, and
//! its policies are asked → the application is dialled from the client's own address → 200 → relay → one record.
//! From outside the mesh: captured on port 15006 → decided, policies asked → dialled → relay → one record.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use ringway_protocols::{
    hbone::{Authority, ConnectRequest},
    identity::Identity,
    proxy_protocol,
    tls::Handshake,
};

use crate::{
    accounts::{AdmittedConnection, AdmittedTunnel},
    capture::Pod,
    close::CloseReason,
    connect,
    connection::{Carrier, Connection, Decided, OpenSocket, Policed, relay_connection},
    decide::{self, InboundTarget},
    handover,
    handshakes::{CutForRoom, Handshaking},
    parting::Parting,
    reach::handshake_failed,
    relay::{ApplicationIs, Relayed, relay_tunnelled, write_all},
    runtime::{self, TcpStream},
    shard::Shard,
    snapshot::{Service, Snapshot, Workload},
    telemetry::{Direction, Parties, Reporter, SecurityPolicy},
    tunnel::{self, HandshakeError, Recheck, Tunnel, TunnelError, TunnelEvent, TunnelStream},
};
#[cfg(feature = "waypoint")]
use crate::{role::Role, waypoint};

/// Serves one connection to port 15008: a tunnel, and in it as many streams as its peer opens.
pub(crate) async fn serve_tunnel(
    shard: Rc<Shard>,
    pod: Rc<Pod>,
    socket: TcpStream,
    from: SocketAddr,
    admitted: AdmittedTunnel,
    handshaking: Handshaking,
) {
    let _open = OpenSocket::new(&shard, Reporter::Destination);
    // A connection that is over already shows in its handshake.
    let local = socket.local_addr().unwrap_or(from);
    // Boxed: a tunnel at rest must not carry the size of its handshake.
    match Box::pin(secure(&shard, &pod, socket, admitted, handshaking)).await {
        Ok(tunnel) => {
            let _registered = pod.register(&tunnel);
            let peer = Rc::new(Peer {
                address: from,
                local,
                identity: tunnel.with_records(|records| records.peer().cloned()).map(Rc::new),
            });
            serve_requests(&shard, &pod, &tunnel, &peer).await;
        }
        // Counted already, as many times as there are.
        Err(CloseReason::LimitReached(_)) => {}
        Err(reason) => early_end(&shard, &pod, from, local, reason),
    }
}

/// Who is at the other end of a tunnel.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) identity: Option<Rc<Identity>>,
}

async fn secure(
    shard: &Rc<Shard>,
    pod: &Pod,
    socket: TcpStream,
    admitted: AdmittedTunnel,
    handshaking: Handshaking,
) -> Result<Rc<Tunnel>, CloseReason> {
    // One that waits for its certificate makes room like one that waits for its peer: the other workloads need none.
    let credentials = handshaking.peer(async {
        let workload = shard.workload(&pod.workload).await?;
        shard.credentials(workload.identity()).await
    });
    let credentials = match handshaking.unless_cut(credentials).await {
        Ok(credentials) => credentials?,
        Err(CutForRoom) => {
            socket.reset_on_close();
            return Err(handshake_failed(HandshakeError::CutForRoom));
        }
    };
    let machine = || Handshake::server(&credentials);
    match tunnel::handshake(&socket, tunnel::Role::Server, machine, &handshaking).await {
        Ok(secured) => {
            let (role, options) = (tunnel::Role::Server, &shard.config.tunnels);
            let tunnel = Tunnel::new(socket, secured, role, options, admitted, &pod.stalled);
            Recheck::watch(shard, pod, &credentials, &tunnel);
            Ok(tunnel)
        }
        Err(error) => {
            if matches!(error, HandshakeError::CutForRoom | HandshakeError::TimedOut) {
                socket.reset_on_close();
            }
            Err(handshake_failed(error))
        }
    }
}

async fn serve_requests(shard: &Rc<Shard>, pod: &Rc<Pod>, tunnel: &Rc<Tunnel>, peer: &Rc<Peer>) {
    loop {
        match tunnel.next().await {
            TunnelEvent::Request(stream, request) => {
                let (shard, pod, peer) = (shard.clone(), pod.clone(), peer.clone());
                match pod.account.admit_connection() {
                    #[cfg(feature = "waypoint")]
                    Ok(admitted) if pod.role == Role::Waypoint => {
                        let serving =
                            waypoint::serve_stream(shard, pod, peer, stream, request, admitted);
                        runtime::spawn(serving);
                    }
                    Ok(admitted) => {
                        runtime::spawn(serve_stream(shard, pod, peer, stream, request, admitted));
                    }
                    // No record: it is counted, and a flood of it must not fill the log.
                    Err(limit) => {
                        tunnel.refuse(&stream, CloseReason::LimitReached(limit).status());
                    }
                }
            }
            TunnelEvent::Malformed(why) => {
                let reason = CloseReason::MalformedConnect(why);
                early_end(shard, pod, peer.address, peer.local, reason);
            }
            // Broken by the peer: worth a record of its own, whatever its streams were told.
            TunnelEvent::Lost(TunnelError::Http2(why)) => {
                let reason = CloseReason::Http2(why.to_string());
                return early_end(shard, pod, peer.address, peer.local, reason);
            }
            TunnelEvent::Ended | TunnelEvent::Lost(_) => return,
        }
    }
}

/// Serves one CONNECT request from here to its record.
async fn serve_stream(
    shard: Rc<Shard>,
    pod: Rc<Pod>,
    peer: Rc<Peer>,
    stream: TunnelStream,
    request: Box<ConnectRequest>,
    _admitted: AdmittedConnection,
) {
    let connection =
        Connection::begin(&shard, &pod.uid, Direction::Inbound, peer.address, peer.local);
    // Boxed: a connection at rest must not carry the size of its dial.
    let accepting = Box::pin(accept(&shard, &pod, &peer, &stream, request, &connection));
    let reason = match accepting.await {
        Ok(application) => {
            relay_tunnelled(&application, &stream, ApplicationIs::Server, &connection).await
        }
        Err(reason) => {
            stream.tunnel().refuse(&stream, reason.status());
            reason
        }
    };
    connection.end(reason);
}

/// Decides, dials the application, and only then answers 200.
async fn accept(
    shard: &Rc<Shard>,
    pod: &Pod,
    peer: &Peer,
    stream: &TunnelStream,
    request: Box<ConnectRequest>,
    connection: &Connection,
) -> Result<Rc<TcpStream>, CloseReason> {
    connection.unless_cut(known(shard, pod)).await??;
    if shard.config.on_demand {
        connection.unless_cut(asked_about(shard, pod, peer, &request.authority)).await??;
    }
    let (local, target) = decide_stream(shard, pod, peer, &request, connection)?;
    let dialling =
        pod.dial_application(shard, target.as_client.then(|| peer.address.ip()), target.address);
    let application = Rc::new(connection.unless_cut(dialling).await??);
    stream.tunnel().accept(stream, &connect::response(shard, &local));
    if let Some(announced) = target.proxy_protocol {
        let mut header = Vec::new();
        let identity = peer.identity.as_deref().map(ToString::to_string);
        let service = target.announced_service.as_deref().map(Service::hostname);
        proxy_protocol::encode(peer.address, announced, identity.as_deref(), service, &mut header);
        write_all(&application, &header)
            .await
            .map_err(|error| CloseReason::DialFailed(error.kind()))?;
    }
    stream.attach(&application, connection.counters());
    Ok(application)
}

/// Waits a while for control to learn of the workload and of the policies it names.
async fn known(shard: &Shard, pod: &Pod) -> Result<(), CloseReason> {
    shard.workload(&pod.workload).await?;
    shard.policies(&pod.workload).await;
    Ok(())
}

/// Where only what was asked for is told: waits a while for what tells whether a CONNECT for `authority` may end here.
async fn asked_about(
    shard: &Shard,
    pod: &Pod,
    peer: &Peer,
    authority: &Authority,
) -> Result<(), CloseReason> {
    let missing = |snapshot: &Snapshot| {
        let local = snapshot.workload_of(&pod.workload)?;
        decide::missing_inbound(snapshot, local, peer.local.ip(), authority)
    };
    shard.asked_about(missing).await
}

/// Decides on one snapshot what the stream is connected to, and whether it is let in.
fn decide_stream(
    shard: &Rc<Shard>,
    pod: &Pod,
    peer: &Peer,
    request: &ConnectRequest,
    connection: &Connection,
) -> Result<(Arc<Workload>, InboundTarget), CloseReason> {
    let snapshot = shard.snapshot_to_decide();
    let local = local(&snapshot, pod)?;
    let target = decide::inbound_tunnel(&snapshot, local, peer.local.ip(), &request.authority)
        .map_err(CloseReason::Refused)?;
    let parties = parties_of(&snapshot, peer, request, local, &target);
    let said = request.forwarded.as_ref().and_then(|forwarded| forwarded.host.as_deref());
    if let Some(service) = parties.service.as_ref().filter(|one| said == Some(one.hostname())) {
        connection.called(service);
    }
    connection.decided(Decided {
        parties,
        destination: peer.local,
        carrier: Carrier::Hbone,
        authority: Some(request.authority.clone()),
        trace_id: request.traceparent.map(|traceparent| traceparent.trace_id()),
    });
    let policed = Policed { identity: peer.identity.clone(), port: target.destination.port() };
    connection.authorize(&snapshot, local, policed).map_err(CloseReason::Refused)?;
    Ok((local.clone(), target))
}

fn local<'a>(snapshot: &'a Snapshot, pod: &Pod) -> Result<&'a Arc<Workload>, CloseReason> {
    let unknown = || CloseReason::UnknownWorkload(pod.workload.to_string());
    snapshot.workload_of(&pod.workload).ok_or_else(unknown)
}

fn parties_of(
    snapshot: &Snapshot,
    peer: &Peer,
    request: &ConnectRequest,
    local: &Arc<Workload>,
    target: &InboundTarget,
) -> Parties {
    let source = connect::source_workload(snapshot, request, peer.address.ip());
    Parties {
        reporter: Reporter::Destination,
        security_policy: SecurityPolicy::MutualTls,
        source_identity: peer.identity.as_deref().cloned(),
        destination_identity: Some(local.identity().clone()),
        baggage: request.baggage.clone().map(Arc::new),
        source,
        destination: Some(local.clone()),
        service: service_of(snapshot, request, local, target),
        far_end: None,
    }
}

/// The service the client meant: the one it asked for, or said it had called, or else one that leads
/// here.
fn service_of(
    snapshot: &Snapshot,
    request: &ConnectRequest,
    local: &Workload,
    target: &InboundTarget,
) -> Option<Arc<Service>> {
    let host = request.forwarded.as_ref().and_then(|forwarded| forwarded.host.as_deref());
    target.destination_service.clone().or_else(|| {
        decide::inbound_service(snapshot, local, target.destination.port(), host).cloned()
    })
}

/// Serves one plaintext connection from outside the mesh.
pub(crate) async fn serve_plaintext(
    shard: Rc<Shard>,
    pod: Rc<Pod>,
    client: TcpStream,
    from: SocketAddr,
    _admitted: AdmittedConnection,
) {
    let _open = OpenSocket::new(&shard, Reporter::Destination);
    // A connection that is over already went nowhere we can still name.
    let destination = client.original_destination().unwrap_or(from);
    let connection = Connection::begin(&shard, &pod.uid, Direction::Inbound, from, destination);
    let dialling = Box::pin(dial_plaintext(&shard, &pod, from, destination, &connection));
    let reason = match dialling.await {
        Ok(server) => match relay_connection(&shard, &pod, &connection, &client, &server).await {
            Relayed::Ended(reason) => {
                if matches!(reason, CloseReason::PolicyChanged(_)) {
                    Parting::abort_both(&shard, [client, server]);
                }
                reason
            }
            Relayed::CalledAway(state) => {
                return handover::give_up(&shard, connection, client, server, state);
            }
        },
        Err(reason) => {
            client.reset_on_close();
            reason
        }
    };
    connection.end(reason);
}

async fn dial_plaintext(
    shard: &Rc<Shard>,
    pod: &Pod,
    from: SocketAddr,
    destination: SocketAddr,
    connection: &Connection,
) -> Result<TcpStream, CloseReason> {
    connection.unless_cut(known(shard, pod)).await??;
    let target = decide_plaintext(shard, pod, from, destination, connection)?;
    let dialling = pod.dial_application(shard, target.as_client.then(|| from.ip()), target.address);
    connection.unless_cut(dialling).await?
}

/// Decides on one snapshot what the connection is connected to, and whether it is let in.
fn decide_plaintext(
    shard: &Rc<Shard>,
    pod: &Pod,
    from: SocketAddr,
    destination: SocketAddr,
    connection: &Connection,
) -> Result<InboundTarget, CloseReason> {
    let snapshot = shard.snapshot_to_decide();
    let local = local(&snapshot, pod)?;
    let target =
        decide::inbound_plaintext(&snapshot, local, destination).map_err(CloseReason::Refused)?;
    let source = snapshot.workload_by_address(&snapshot.settings().network, from.ip());
    let service = decide::inbound_service(&snapshot, local, target.destination.port(), None);
    let parties = Parties {
        reporter: Reporter::Destination,
        security_policy: SecurityPolicy::Unknown,
        source_identity: None,
        destination_identity: None,
        source: source.cloned(),
        destination: Some(local.clone()),
        service: service.cloned(),
        baggage: None,
        far_end: None,
    };
    let carrier = Carrier::Tcp;
    let decided = Decided { parties, destination, carrier, authority: None, trace_id: None };
    connection.decided(decided);
    let policed = Policed { identity: None, port: target.destination.port() };
    connection.authorize(&snapshot, local, policed).map_err(CloseReason::Refused)?;
    Ok(target)
}

/// Records a connection that ended before anything could be decided.
fn early_end(
    shard: &Rc<Shard>,
    pod: &Pod,
    from: SocketAddr,
    local: SocketAddr,
    reason: CloseReason,
) {
    Connection::begin(shard, &pod.uid, Direction::Inbound, from, local).end(reason);
}

#[cfg(test)]
mod tests {
    /// The future of a connection at rest is a good part of what the connection costs: it must not grow
    /// unnoticed.
    #[test]
    fn the_futures_of_connections_stay_small() {
        fn bytes<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        fn bytes6<A, B, C, D, E, F, G>(_: fn(A, B, C, D, E, F) -> G) -> usize {
            size_of::<G>()
        }
        let (stream, plain) = (bytes6(super::serve_stream), bytes(super::serve_plaintext));
        assert!(stream <= 400 && plain <= 640, "{stream} and {plain} bytes");
    }
}

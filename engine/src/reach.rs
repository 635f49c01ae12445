//! Reaches what a route names: a plain dial, or a stream in a tunnel that is there or is dialled now.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use ringway_protocols::{
    hbone::{ConnectRequest, ConnectResponse, ErrorCode},
    tls::Handshake,
};

use crate::{
    accounts::Limit,
    capture::Pod,
    close::CloseReason,
    connect,
    decide::{NextHop, Route},
    inner,
    limits::CONNECT_RESPONSE_TIMEOUT,
    placement::Placed,
    runtime::{self, TcpStream},
    shard::Shard,
    snapshot::Workload,
    telemetry::FarEnd,
    tunnel::{self, HandshakeError, Received, Recheck, Role, Tunnel, TunnelKey, TunnelStream},
};

/// Who wants to reach what.
pub(crate) struct Call<'a> {
    pub(crate) shard: &'a Rc<Shard>,
    pub(crate) pod: &'a Rc<Pod>,
    pub(crate) source: &'a Arc<Workload>,
    /// Where the application calls from.
    pub(crate) client: SocketAddr,
    /// What it dialled.
    pub(crate) destination: SocketAddr,
    /// What its connection is called in everybody's log.
    pub(crate) trace_id: [u8; 16],
}

/// What a connection was connected to.
pub(crate) enum Reached {
    /// A plain TCP connection.
    Plain(TcpStream),
    /// A stream in a tunnel, and that it counts for its destination.
    Tunnelled(TunnelStream, Placed),
    /// A stream in a tunnel that runs through a network's gateway, and who answered behind it.
    DoublyTunnelled(TunnelStream, Box<FarEnd>),
}

/// Why nothing was reached, and how far it was.
pub(crate) struct Unreached {
    pub(crate) reason: CloseReason,
    /// The gateway of another network answered; somebody behind it did not.
    pub(crate) behind_gateway: bool,
}

impl From<CloseReason> for Unreached {
    fn from(reason: CloseReason) -> Self {
        Self { reason, behind_gateway: false }
    }
}

impl From<Unreached> for CloseReason {
    fn from(unreached: Unreached) -> Self {
        unreached.reason
    }
}

/// Reaches what `route` names.
///
/// # Errors
/// Why it cannot be reached. Not a byte of the application's has been sent.
pub(crate) async fn reach(call: &Call<'_>, route: &Route) -> Result<Reached, Unreached> {
    let &Call { shard, pod, source, client, destination, trace_id } = call;
    match &route.next_hop {
        NextHop::Direct { address } | NextHop::PassThrough { address } => {
            Ok(Reached::Plain(pod.dial(shard, *address).await?))
        }
        NextHop::Tunnel { peer, expected, authority } => {
            let service = route.destination_service.as_deref();
            let request = connect::request(shard, source, client, authority, service, trace_id);
            let placed = shard.placement.count(&pod.uid, destination);
            let (source, expected) = (source.identity().clone(), expected.clone());
            let key = TunnelKey { source, peer: *peer, expected };
            let (stream, _said) = open(shard, pod, &key, &request).await?;
            Ok(Reached::Tunnelled(stream, placed))
        }
        NextHop::DoubleTunnel { gateway, expected, authority, expected_inside } => {
            let service = route.destination_service.as_deref();
            let request = connect::request(shard, source, client, authority, service, trace_id);
            let placed = shard.placement.count(&pod.uid, destination);
            let (identity, expected) = (source.identity().clone(), expected.clone());
            let key = TunnelKey { source: identity, peer: *gateway, expected };
            let (outer, _said) = open(shard, pod, &key, &request).await?;
            let inner = inner::open(call, (outer, placed), expected_inside, request);
            // Boxed: few connections leave their network, and the others must not carry the size of it.
            let (stream, far_end) = Box::pin(inner)
                .await
                .map_err(|reason| Unreached { reason, behind_gateway: true })?;
            Ok(Reached::DoublyTunnelled(stream, far_end))
        }
    }
}

/// Opens a stream to the destination and waits for its 200. A stream that the peer has not looked at, or
/// whose tunnel broke before the answer, is tried once more in another tunnel: no byte has been sent in it.
async fn open(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    key: &TunnelKey,
    request: &ConnectRequest,
) -> Result<(TunnelStream, ConnectResponse), CloseReason> {
    let dial = || dial(shard.clone(), pod.clone(), key.clone());
    let stream = pod.pool.open(key, request, None, dial).await?;
    let first = match answer(&stream).await {
        Ok(response) => return Ok((stream, response)),
        Err(first) => first,
    };
    if !first.another_tunnel {
        return Err(first.reason);
    }
    shard.telemetry.retried_in_another_tunnel();
    let refused_by = stream.tunnel().clone();
    drop(stream);
    let stream = pod.pool.open(key, request, Some(&refused_by), dial).await?;
    let response = answer(&stream).await.map_err(|again| again.reason)?;
    Ok((stream, response))
}

/// Why a request was not answered with 200, and whether another tunnel may bring what this one did not.
pub(crate) struct Unanswered {
    pub(crate) reason: CloseReason,
    another_tunnel: bool,
}

/// Waits for the 200.
pub(crate) async fn answer(stream: &TunnelStream) -> Result<ConnectResponse, Unanswered> {
    let answered = runtime::timeout(CONNECT_RESPONSE_TIMEOUT, stream.response()).await;
    let (reason, another_tunnel) = match answered {
        Ok(Ok(response)) if response.is_success() => return Ok(response),
        Ok(Ok(response)) => (CloseReason::ConnectRefused(response.status), false),
        // By itself, or because a GOAWAY passed it over (RFC 9113 §8.7): it was not processed.
        Ok(Err(Received::Reset(ErrorCode::REFUSED_STREAM))) => {
            (CloseReason::TunnelLost("the peer refused the stream".to_owned()), true)
        }
        Ok(Err(Received::TunnelLost(error))) => (error.reason(), true),
        Ok(Err(_)) => (CloseReason::DestinationReset, false),
        Err(_elapsed) => (CloseReason::HandshakeTimedOut, false),
    };
    Err(Unanswered { reason, another_tunnel })
}

/// Dials a peer's HBONE port and shakes hands.
async fn dial(shard: Rc<Shard>, pod: Rc<Pod>, key: TunnelKey) -> Result<Rc<Tunnel>, CloseReason> {
    let admitted = pod.account.admit_tunnel().map_err(CloseReason::LimitReached)?;
    let credentials = shard.credentials(&key.source).await?;
    let socket = pod.dial(&shard, key.peer).await.map_err(|reason| match reason {
        CloseReason::DialTimedOut => CloseReason::TunnelDialTimedOut,
        other => other,
    })?;
    if let Err(limit) = shard.handshakes.room(&pod.handshakes) {
        return Err(CloseReason::LimitReached(pod.account.refused(limit)));
    }
    let handshaking = shard.handshakes.begin_own(&pod.handshakes);
    let machine = || Handshake::client_to(&credentials, key.expected, key.peer.ip());
    let secured = tunnel::handshake(&socket, Role::Client, machine, &handshaking)
        .await
        .map_err(handshake_failed)?;
    let options = &shard.config.tunnels;
    let tunnel = Tunnel::new(socket, secured, Role::Client, options, admitted, &pod.stalled);
    Recheck::watch(&shard, &pod, &credentials, &tunnel);
    Ok(tunnel)
}

/// Names what went wrong in a handshake.
pub(crate) fn handshake_failed(error: HandshakeError) -> CloseReason {
    match error {
        HandshakeError::Tls(error) => CloseReason::Handshake(error),
        HandshakeError::TimedOut => CloseReason::HandshakeTimedOut,
        HandshakeError::Cut => CloseReason::HandshakeCut,
        HandshakeError::CutForRoom => CloseReason::LimitReached(Limit::HandshakesPerWorkload),
    }
}

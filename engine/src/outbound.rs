//! The story of a connection that a workload on this host opens.
//!
//! Captured on port 15001 → where did it want to go → decide on one snapshot → a stream in a tunnel to
//! the destination's host, or plain TCP where there is no mesh → relay → one record.

use std::{io::ErrorKind, net::SocketAddr, rc::Rc};

use ringway_protocols::{
    hbone::{ConnectRequest, ErrorCode},
    tls::Handshake,
};

use crate::{
    capture::Pod,
    close::CloseReason,
    connect,
    connection::{Connection, Decided, OpenSocket},
    decide::{self, NextHop},
    limits::{CONNECT_RESPONSE_TIMEOUT, HBONE_REFUSED_PATIENCE, HBONE_REFUSED_PAUSE},
    placement::Placed,
    relay::{ApplicationIs, relay_plain, relay_tunnelled},
    runtime::{self, TcpStream},
    shard::Shard,
    telemetry::{Direction, Parties, Reporter, SecurityPolicy},
    tunnel::{self, HandshakeError, Received, Role, Tunnel, TunnelKey, TunnelStream},
};

/// Serves one captured connection from here to its record.
pub(crate) async fn serve(shard: Rc<Shard>, pod: Rc<Pod>, client: TcpStream, from: SocketAddr) {
    let _open = OpenSocket::new(&shard, Reporter::Source);
    // A connection that is over already went nowhere we can still name.
    let destination = client.original_destination().unwrap_or(from);
    let connection = Connection::begin(&shard, &pod.uid, Direction::Outbound, from, destination);
    let client = Rc::new(client);
    // Boxed: a connection at rest must not carry the size of its beginning.
    let reason = match Box::pin(reach(&shard, &pod, destination, &connection)).await {
        Ok(Reached::Plain(server)) => {
            relay_plain(&client, &server, &shard.pipes, &connection).await
        }
        Ok(Reached::Tunnelled(stream, _placed)) => {
            stream.attach(&client, connection.counters());
            relay_tunnelled(&client, &stream, ApplicationIs::Client, &connection).await
        }
        Err(reason) => reason,
    };
    if !matches!(reason, CloseReason::Finished) {
        // What did not end in order must not look as if it had.
        client.reset_on_close();
    }
    connection.end(reason);
}

/// What a connection was connected to.
enum Reached {
    /// A plain TCP connection.
    Plain(TcpStream),
    /// A stream in a tunnel, and that it counts for its destination.
    Tunnelled(TunnelStream, Placed),
}

/// Decides on one snapshot where the connection goes, and gets it there.
async fn reach(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    destination: SocketAddr,
    connection: &Connection,
) -> Result<Reached, CloseReason> {
    let source = shard.workload(&pod.uid).await?;
    let route = decide::outbound(&shard.snapshot(), &source, destination, shard.random())
        .map_err(CloseReason::Refused)?;
    let mut parties = Parties {
        reporter: Reporter::Source,
        security_policy: SecurityPolicy::Unknown,
        source_identity: None,
        destination_identity: None,
        source: Some(source.clone()),
        destination: route.destination_workload,
        service: route.destination_service,
        baggage: None,
    };
    match route.next_hop {
        NextHop::Direct { address } | NextHop::PassThrough { address } => {
            connection.decided(Decided { parties, destination: address, authority: None });
            let server = connection.unless_cut(pod.dial(shard, address)).await??;
            Ok(Reached::Plain(server))
        }
        NextHop::Tunnel { peer, expected, authority } => {
            parties.security_policy = SecurityPolicy::MutualTls;
            parties.source_identity = Some(source.identity().clone());
            parties.destination_identity =
                parties.destination.as_ref().map(|workload| workload.identity().clone());
            let service = parties.service.as_deref();
            let request =
                connect::request(shard, &source, connection.source(), &authority, service);
            connection.decided(Decided { parties, destination: peer, authority: Some(authority) });
            let placed = shard.placement.count(&pod.uid, destination);
            let key = TunnelKey { source: source.identity().clone(), peer, expected };
            let stream = connection.unless_cut(open(shard, pod, &key, &request)).await??;
            Ok(Reached::Tunnelled(stream, placed))
        }
    }
}

/// Opens a stream to the destination and waits for its 200. A stream the peer refused before it looked
/// at it is tried once more, in another tunnel: no byte has been sent in it.
async fn open(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    key: &TunnelKey,
    request: &ConnectRequest,
) -> Result<TunnelStream, CloseReason> {
    let mut retried = false;
    loop {
        let dial = || dial(shard.clone(), pod.clone(), key.clone());
        let stream = pod.pool.open(key, request, dial).await?;
        match answer(&stream).await {
            Ok(()) => return Ok(stream),
            Err(Unanswered::Refused) if !retried => retried = true,
            Err(Unanswered::Refused) => {
                return Err(CloseReason::TunnelLost("the peer refused the stream".to_owned()));
            }
            Err(Unanswered::Failed(reason)) => return Err(reason),
        }
    }
}

enum Unanswered {
    /// The peer has not looked at the request: it may be sent again.
    Refused,
    Failed(CloseReason),
}

async fn answer(stream: &TunnelStream) -> Result<(), Unanswered> {
    let answered = runtime::timeout(CONNECT_RESPONSE_TIMEOUT, stream.response()).await;
    Err(match answered {
        Ok(Ok(response)) if response.is_success() => return Ok(()),
        Ok(Ok(response)) => Unanswered::Failed(CloseReason::ConnectRefused(response.status)),
        Ok(Err(Received::Reset(ErrorCode::REFUSED_STREAM))) => Unanswered::Refused,
        Ok(Err(Received::TunnelLost(error))) => {
            Unanswered::Failed(CloseReason::TunnelLost(error.to_string()))
        }
        Ok(Err(_)) => Unanswered::Failed(CloseReason::DestinationReset),
        Err(_elapsed) => Unanswered::Failed(CloseReason::HandshakeTimedOut),
    })
}

/// Dials a peer's HBONE port and shakes hands.
async fn dial(shard: Rc<Shard>, pod: Rc<Pod>, key: TunnelKey) -> Result<Rc<Tunnel>, CloseReason> {
    let credentials = shard.credentials(&key.source).await?;
    let socket = dial_hbone_port(&shard, &pod, key.peer).await?;
    let _admitted =
        shard.handshakes.admit().ok_or(CloseReason::LimitReached("handshakes in progress"))?;
    let machine = Handshake::client_to(&credentials, key.expected, key.peer.ip())
        .map_err(|error| handshake_failed(HandshakeError::Tls(error)))?;
    let secured =
        tunnel::handshake(&socket, machine, &shard.handshakes).await.map_err(handshake_failed)?;
    Ok(Tunnel::new(socket, secured.records, secured.received, Role::Client))
}

/// Dials a peer's HBONE port. A mesh learns of an enrolment everywhere at about the same time, not at the
/// same moment: while nobody listens yet it is tried again, for [`HBONE_REFUSED_PATIENCE`].
async fn dial_hbone_port(
    shard: &Shard,
    pod: &Pod,
    peer: SocketAddr,
) -> Result<TcpStream, CloseReason> {
    let give_up = runtime::now() + HBONE_REFUSED_PATIENCE;
    loop {
        match pod.dial(shard, peer).await {
            Err(CloseReason::DialFailed(ErrorKind::ConnectionRefused))
                if runtime::now() < give_up =>
            {
                runtime::sleep(HBONE_REFUSED_PAUSE).await;
            }
            Err(CloseReason::DialTimedOut) => return Err(CloseReason::TunnelDialTimedOut),
            dialled => return dialled,
        }
    }
}

/// Names what went wrong in a handshake.
pub(crate) fn handshake_failed(error: HandshakeError) -> CloseReason {
    match error {
        HandshakeError::Tls(error) => CloseReason::Handshake(error),
        HandshakeError::TimedOut => CloseReason::HandshakeTimedOut,
        HandshakeError::Cut => CloseReason::HandshakeCut,
    }
}

#[cfg(test)]
mod tests {
    /// The future of a connection at rest is a good part of what the connection costs: it must not grow
    /// unnoticed.
    #[test]
    fn the_future_of_a_connection_stays_small() {
        fn bytes<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(super::serve);
        assert!(bytes <= 640, "{bytes} bytes");
    }
}

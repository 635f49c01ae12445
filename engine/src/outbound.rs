//! The story of a connection that a workload on this host opens.
//!
//! Captured on port 15001 → where did it want to go → decide on one snapshot → a stream in a tunnel to
//! the destination's host, or plain TCP where there is no mesh → relay → one record. An endpoint that
//! cannot be reached is not the end: until a byte has been sent, another may serve.

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc};

use crate::{
    accounts::AdmittedConnection,
    capture::Pod,
    close::CloseReason,
    connect,
    connection::{Carrier, Connection, Decided, OpenSocket, relay_connection},
    decide::{self, NextHop, Refusal, Route},
    handover,
    limits::{ENDPOINT_PATIENCE, HBONE_REFUSED_PAUSE},
    reach::{Call, Reached, Unreached, reach},
    relay::{ApplicationIs, Relayed, relay_tunnelled},
    runtime::{self, TcpStream},
    shard::Shard,
    snapshot::{Snapshot, Workload},
    socks5,
    telemetry::{Direction, FarEnd, Parties, Reporter, SecurityPolicy},
    tries::Tries,
};

/// Serves one connection from here to its record: a captured one, or one that was `asked` for by SOCKS5, which is
/// answered before its first byte.
pub(crate) async fn serve(
    shard: Rc<Shard>,
    pod: Rc<Pod>,
    client: TcpStream,
    from: SocketAddr,
    asked: Option<SocketAddr>,
    _admitted: AdmittedConnection,
) {
    let _open = OpenSocket::new(&shard, Reporter::Source);
    // A connection that is over already went nowhere we can still name.
    let destination = asked.or_else(|| client.original_destination().ok()).unwrap_or(from);
    let connection = Connection::begin(&shard, &pod.uid, Direction::Outbound, from, destination);
    let client = Rc::new(client);
    // Boxed: a connection at rest must not carry the size of its beginning.
    let connecting = Box::pin(async {
        let outcome = connect(&shard, &pod, destination, &connection).await;
        if asked.is_some() { socks5::answer(&client, outcome).await } else { outcome }
    });
    let reason = match connecting.await {
        Ok(Reached::Plain(server)) => {
            match relay_connection(&shard, &pod, &connection, &client, &server).await {
                Relayed::Ended(reason) => reason,
                Relayed::CalledAway(state) => {
                    let client = Rc::into_inner(client).expect("only streams of tunnels share it");
                    return handover::give_up(&shard, connection, client, server, state);
                }
            }
        }
        Ok(Reached::Tunnelled(stream, _placed)) => {
            stream.attach(&client, connection.counters());
            relay_tunnelled(&client, &stream, ApplicationIs::Client, &connection).await
        }
        Ok(Reached::DoublyTunnelled(stream, _told)) => {
            stream.attach(&client, connection.counters());
            relay_tunnelled(&client, &stream, ApplicationIs::Client, &connection).await
        }
        // It was told why, and may read that.
        Err(reason) if asked.is_some() => return connection.end(reason),
        Err(reason) => reason,
    };
    if !matches!(reason, CloseReason::Finished) {
        // What did not end in order must not look as if it had.
        client.reset_on_close();
    }
    connection.end(reason);
}

/// Decides where the connection goes and gets it there. What is recorded is the route that was taken, or
/// the last that was tried.
async fn connect(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    destination: SocketAddr,
    connection: &Connection,
) -> Result<Reached, CloseReason> {
    let source = connection.unless_cut(shard.workload(&pod.workload)).await??;
    let client = connection.source();
    if shard.config.on_demand {
        let missing = |snapshot: &Snapshot| decide::missing(snapshot, &source, destination);
        connection.unless_cut(Box::pin(shard.asked_about(missing))).await??;
    }
    let trace_id = connect::fresh_trace_id(shard);
    let call = Call { shard, pod, source: &source, client, destination, trace_id };
    let mut tries = Tries::new(&call);
    let first = match tries.first() {
        Err(Refusal::Unresolved { hostname, .. }) => {
            // Resolved in time or not, the decision says what comes of it.
            let _known = connection.unless_cut(shard.resolved(&hostname)).await?;
            tries.first()
        }
        first => first,
    };
    let mut route = first.map_err(CloseReason::Refused)?;
    let reached = connection.unless_cut(try_all(&call, &mut tries, &mut route, connection)).await;
    let reached = reached.flatten();
    connection.decided(decided(&source, route, reached.as_ref().ok(), trace_id));
    reached
}

/// Tries `route`, and another for as long as one cannot be reached and another is left.
async fn try_all(
    call: &Call<'_>,
    tries: &mut Tries<'_>,
    route: &mut Route,
    connection: &Connection,
) -> Result<Reached, CloseReason> {
    loop {
        connection.trying(route);
        let failed = match try_one(call, tries, route).await {
            Tried::Reached(reached) => return Ok(reached),
            Tried::Left(next) => {
                *route = *next;
                continue;
            }
            Tried::Failed(unreached) => unreached,
        };
        if let Some(next) = tries.after(route, &failed) {
            *route = next;
        } else if tries.may_be_enrolling(route, &failed.reason) {
            runtime::sleep(HBONE_REFUSED_PAUSE).await;
        } else {
            return Err(failed.reason);
        }
    }
}

/// What came of one try.
enum Tried {
    Reached(Reached),
    Failed(Unreached),
    /// It took long, and there is another endpoint.
    Left(Box<Route>),
}

async fn try_one(call: &Call<'_>, tries: &mut Tries<'_>, route: &Route) -> Tried {
    let mut reaching = pin!(reach(call, route));
    let outcome = match runtime::timeout(ENDPOINT_PATIENCE, reaching.as_mut()).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => match tries.after_silence_of(route) {
            Some(next) => return Tried::Left(Box::new(next)),
            None => reaching.await,
        },
    };
    match outcome {
        Ok(reached) => {
            tries.reached(route);
            Tried::Reached(reached)
        }
        Err(unreached) => Tried::Failed(unreached),
    }
}

/// What labels and log say of a route, and of whoever was reached.
fn decided(
    source: &Arc<Workload>,
    route: Route,
    reached: Option<&Reached>,
    trace_id: [u8; 16],
) -> Decided {
    let (destination, carrier, authority) = match route.next_hop {
        NextHop::Direct { address } | NextHop::PassThrough { address } => {
            (address, Carrier::Tcp, None)
        }
        NextHop::Tunnel { peer, authority, .. } => (peer, Carrier::Hbone, Some(authority)),
        NextHop::DoubleTunnel { gateway, authority, .. } => {
            (gateway, Carrier::DoubleHbone, Some(authority))
        }
    };
    let far_end = match reached {
        Some(Reached::DoublyTunnelled(_, far_end)) => Some(far_end.clone()),
        _ => None,
    };
    let mut parties = Parties {
        reporter: Reporter::Source,
        security_policy: SecurityPolicy::Unknown,
        source_identity: None,
        destination_identity: None,
        source: Some(source.clone()),
        destination: route.destination_workload,
        service: route.destination_service,
        baggage: None,
        far_end,
    };
    if authority.is_some() {
        parties.security_policy = SecurityPolicy::MutualTls;
        parties.source_identity = Some(source.identity().clone());
        parties.destination_identity =
            parties.destination.as_ref().map(|workload| workload.identity().clone());
        if let Some(FarEnd { identity, .. }) = parties.far_end.as_deref() {
            parties.destination_identity.clone_from(identity);
        }
    }
    let trace_id = authority.is_some().then_some(trace_id);
    Decided { parties, destination, carrier, authority, trace_id }
}

#[cfg(test)]
mod tests {
    /// The future of a connection at rest is a good part of what the connection costs: it must not grow
    /// unnoticed. A simulated socket is larger than a real one.
    #[cfg(not(feature = "sim"))]
    #[test]
    fn the_future_of_a_connection_stays_small() {
        fn bytes<A, B, C, D, E, F, G>(_: fn(A, B, C, D, E, F) -> G) -> usize {
            size_of::<G>()
        }
        let bytes = bytes(super::serve);
        assert!(bytes <= 640, "{bytes} bytes");
    }
}

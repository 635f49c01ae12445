//! A tunnel inside a stream of another: how a destination on another network is reached.
//!
//! ```text
//! application ─▶ inner stream ─▶ inner tunnel ─▶ near end ┄ far end ─▶ outer stream ─▶ outer tunnel ─▶ gateway
//!                                (TLS, HTTP/2)   (a pair in memory)    (pooled, with others)
//! ```
//!
//! The gateway passes the inner tunnel's bytes on to an endpoint that it chooses; who that is, it proves inside, by
//! one of the names that the service gives its endpoints. The inner tunnel carries this one connection and is shared
//! with no other: sharing would bind others to the endpoint that was chosen for this one.

use std::{rc::Rc, sync::Arc};

use ringway_protocols::{
    hbone::ConnectRequest,
    identity::Identity,
    tls::{Credentials, Handshake},
};

use crate::{
    carry::{carry, pair},
    close::CloseReason,
    limits::LEAVE_TIMEOUT,
    placement::Placed,
    reach::{Call, answer, handshake_failed},
    runtime::{self, TcpStream},
    telemetry::FarEnd,
    tunnel::{self, Recheck, Role, Tunnel, TunnelStream, drive},
};

/// Opens a tunnel inside `outer`, whose gateway has answered 200, and asks in it for the same as outside.
///
/// # Errors
/// Why nobody behind the gateway can be reached. Not a byte of the application's has been sent.
pub(crate) async fn open(
    call: &Call<'_>,
    (outer, placed): (TunnelStream, Placed),
    expected: &Arc<[Identity]>,
    mut request: ConnectRequest,
) -> Result<(TunnelStream, Box<FarEnd>), CloseReason> {
    let &Call { shard, pod, source, .. } = call;
    let admitted = pod.account.admit_tunnel().map_err(CloseReason::LimitReached)?;
    let credentials = shard.credentials(source.identity()).await?;
    let (near, far) = pair(&pod.account);
    runtime::spawn(carry(outer, Rc::new(far), LEAVE_TIMEOUT, Some(placed)));
    let secured = match secure(call, &near, &credentials, expected).await {
        Ok(secured) => secured,
        Err(reason) => {
            near.reset_on_close();
            return Err(reason);
        }
    };
    let options = &shard.config.tunnels;
    let tunnel = Tunnel::new(near, secured, Role::Client, options, admitted, &pod.stalled);
    Recheck::watch(shard, pod, &credentials, &tunnel);

    // What the address of this connection means is said inside only: a gateway is asked for a name.
    request.x_forwarded_network = Some((*shard.snapshot().settings().network).into());
    let stream = tunnel.open(&request).map_err(|_| CloseReason::DestinationReset)?;
    tunnel.end_when_idle();
    runtime::spawn({
        let tunnel = tunnel.clone();
        async move { drive(&tunnel).await }
    });
    let response = answer(&stream).await.map_err(|unanswered| unanswered.reason)?;
    let identity = tunnel.with_records(|records| records.peer().cloned());
    let baggage = response.baggage.filter(|_| shard.config.response_baggage).map(Arc::new);
    Ok((stream, Box::new(FarEnd { identity, baggage })))
}

async fn secure(
    call: &Call<'_>,
    near: &TcpStream,
    credentials: &Credentials,
    expected: &Arc<[Identity]>,
) -> Result<tunnel::Secured, CloseReason> {
    let &Call { shard, pod, .. } = call;
    if let Err(limit) = shard.handshakes.room(&pod.handshakes) {
        return Err(CloseReason::LimitReached(pod.account.refused(limit)));
    }
    let handshaking = shard.handshakes.begin_own(&pod.handshakes);
    let machine = || Handshake::client(credentials, expected.clone());
    tunnel::handshake(near, Role::Client, machine, &handshaking).await.map_err(handshake_failed)
}

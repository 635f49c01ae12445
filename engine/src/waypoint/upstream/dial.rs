//! New connections: to where a route leads, and HTTP/1 on them.

use std::{cell::Cell, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use hyper::client::conn::http1;

use super::{Key, lease::Alone, pool::Opened};
use crate::{
    carry::{carry, pair},
    close::CloseReason,
    decide::Route,
    limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, LEAVE_TIMEOUT},
    reach::{Call, Reached, reach},
    runtime::{self, Task, TcpStream},
    waypoint::{
        handoff::{Giver, handoff},
        io::Io,
        tls::{Originator, Through, originate},
        upload::Attempt,
    },
};

/// A connection to where `route` leads, as a socket or as an end of a pair that a stream, TLS or both carry on.
///
/// # Errors
/// Why it cannot be had.
pub(crate) async fn connect(
    call: &Call<'_>,
    route: &Route,
    through: Option<Through<'_>>,
) -> Result<(Rc<TcpStream>, Option<SocketAddr>), CloseReason> {
    let (socket, local) = carried(call, route).await?;
    Ok(match through {
        Some(through) => (originate(call, socket, through).await?, local),
        None => (socket, local),
    })
}

async fn carried(
    call: &Call<'_>,
    route: &Route,
) -> Result<(Rc<TcpStream>, Option<SocketAddr>), CloseReason> {
    let (stream, placed) = match reach(call, route).await? {
        Reached::Plain(socket) => {
            let local = socket.local_addr().ok();
            return Ok((Rc::new(socket), local));
        }
        Reached::Tunnelled(stream, placed) => (stream, Some(placed)),
        Reached::DoublyTunnelled(stream, _told) => (stream, None),
    };
    let (near, far) = pair(&call.pod.account);
    runtime::spawn(carry(stream, Rc::new(far), LEAVE_TIMEOUT, placed));
    Ok((Rc::new(near), None))
}

pub(super) async fn dial_alone(
    call: &Call<'_>,
    route: &Route,
    originator: Option<&Originator>,
    key: Key,
    opened: Opened,
) -> Result<Alone, CloseReason> {
    let (io, local) = dial(call, route, originator, b"http/1.1").await?;
    let mut builder = http1::Builder::new();
    builder.max_headers(HTTP_HEADERS_MAX).max_buf_size(HTTP_HEAD_BYTES_MAX);
    let (sender, connection) =
        builder.handshake(io).await.map_err(|_| CloseReason::DestinationReset)?;
    let wanted = Rc::new(Cell::new(false));
    let (giver, rest) = handoff();
    let driving = Driving(runtime::spawn(drive_alone(connection, wanted.clone(), giver)));
    let trace_id = call.trace_id;
    Ok(Alone { key, sender, opened, local, trace_id, wanted, rest, _driving: driving })
}

/// Who moves the bytes of an HTTP/1 connection. Dropped, the connection is closed, whatever was under way: nothing more of a
/// body is asked of its client.
pub(super) struct Driving(Task);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn drive_alone(
    connection: http1::Connection<Io, Attempt>,
    wanted: Rc<Cell<bool>>,
    giver: Giver<(Io, Bytes)>,
) {
    // A failure is told to whoever sent the request.
    if let Ok(parts) = connection.without_shutdown().await
        && wanted.get()
    {
        giver.give((parts.io, parts.read_buf));
    }
}

pub(super) async fn dial(
    call: &Call<'_>,
    route: &Route,
    originator: Option<&Originator>,
    protocol: &'static [u8],
) -> Result<(Io, Option<SocketAddr>), CloseReason> {
    let through = originator.map(|originator| Through { originator, protocol: Some(protocol) });
    let (socket, local) = connect(call, route, through).await?;
    Ok((Io::new(socket, Bytes::new()), local))
}

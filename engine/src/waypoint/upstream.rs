//! HTTP connections to backends: on this shard, kept for the next request, shared where HTTP/2 allows it.
//!
//! ```text
//!  check_out ──idle, or with room──▶ Lease ──send──▶ answer ──its body ended──▶ give_back ─▶ idle
//!      └────────────dial──────────────▲                └──dropped before──▶ closed (HTTP/1), reset (HTTP/2)
//! ```
//!
//! A connection runs in a stream of a tunnel to the endpoint's node proxy, under the identity of the pod itself, or in a
//! plain socket where the endpoint has no proxy.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};

use super::{
    draining::{Awaited, Draining},
    handoff::{Getter, Giver, handoff},
    io::{Io, OnShard, Wheel},
    upload::Attempt,
};
use crate::{
    carry::carry,
    close::CloseReason,
    decide::{NextHop, Route},
    hash::FastHasher,
    limits::{
        HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP2_WINDOW_BYTES, INNER_TUNNEL_BYTES_MAX,
        LEAVE_TIMEOUT, UPSTREAM_GIVE_BACK_TIME, UPSTREAM_IDLE_MAX, UPSTREAM_IDLE_TIME,
        UPSTREAM_STREAMS_MAX,
    },
    reach::{Call, Reached, reach},
    runtime::{self, TcpStream},
};

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    Http1,
    Http2,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    next_hop: NextHop,
    dialect: Dialect,
}

/// The connections of one pod.
#[derive(Default)]
pub(crate) struct Upstreams {
    endpoints: RefCell<HashMap<Key, Endpoint, FastHasher>>,
    sweeping: Cell<bool>,
    /// Nothing is kept any more.
    ending: Cell<bool>,
}

#[derive(Default)]
struct Endpoint {
    idle: Vec<Idle>,
    shared: Vec<Rc<Shared>>,
    /// Begun when the dial that is under way has ended.
    dialling: Option<Rc<Draining>>,
}

/// A dial that others may wait for, while it lasts.
struct Dialling(Option<(Rc<Upstreams>, Key, Rc<Draining>)>);

impl Dialling {
    fn begin(upstreams: &Rc<Upstreams>, key: &Key) -> Self {
        if key.dialect == Dialect::Http1 {
            return Self(None);
        }
        let ended = Rc::new(Draining::default());
        let mut endpoints = upstreams.endpoints.borrow_mut();
        endpoints.entry(key.clone()).or_default().dialling = Some(ended.clone());
        drop(endpoints);
        Self(Some((upstreams.clone(), key.clone(), ended)))
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let Some((upstreams, key, ended)) = self.0.take() else { return };
        if let Some(endpoint) = upstreams.endpoints.borrow_mut().get_mut(&key)
            && endpoint.dialling.as_ref().is_some_and(|other| Rc::ptr_eq(other, &ended))
        {
            endpoint.dialling = None;
        }
        ended.begin();
    }
}

struct Idle {
    alone: Alone,
    since: Instant,
}

/// An HTTP/1 connection.
struct Alone {
    sender: http1::SendRequest<Attempt>,
    local: Option<SocketAddr>,
    /// Whether its bytes are wanted when HTTP on it has ended: for an upgrade.
    wanted: Rc<Cell<bool>>,
    rest: Getter<(Io, Bytes)>,
}

/// An HTTP/2 connection.
struct Shared {
    sender: http2::SendRequest<Attempt>,
    local: Option<SocketAddr>,
    streams: Cell<usize>,
    /// A request was not answered: the next ones had better go elsewhere.
    failed: Cell<bool>,
    idle_since: Cell<Instant>,
}

/// A connection for one request.
pub(crate) struct Lease {
    key: Key,
    upstreams: Rc<Upstreams>,
    held: Held,
}

enum Held {
    Alone(Option<Alone>),
    Shared(Rc<Shared>),
}

/// Why there was no answer.
pub(crate) struct Unanswered {
    /// Not a byte of the request went out.
    pub(crate) unsent: bool,
    pub(crate) error: hyper::Error,
}

impl Upstreams {
    /// A connection to where `route` leads: one that is there, or a new one.
    ///
    /// # Errors
    /// Why no new one could be had.
    pub(crate) async fn check_out(
        self: &Rc<Self>,
        call: &Call<'_>,
        route: &Route,
        dialect: Dialect,
    ) -> Result<Lease, CloseReason> {
        let key = Key { next_hop: route.next_hop.clone(), dialect };
        if let Some(held) = self.held(&key) {
            return Ok(Lease { key, upstreams: self.clone(), held });
        }
        if let Some(dialling) = self.dialling(&key) {
            let mut dialled = Awaited::new(&dialling);
            poll_fn(|cx| dialled.poll(cx)).await;
            if let Some(held) = self.held(&key) {
                return Ok(Lease { key, upstreams: self.clone(), held });
            }
        }
        let _dialling = Dialling::begin(self, &key);
        let held = match dialect {
            Dialect::Http1 => Held::Alone(Some(dial_alone(call, route).await?)),
            Dialect::Http2 => {
                let shared = Rc::new(dial_shared(call, route).await?);
                if !self.ending.get() {
                    let mut endpoints = self.endpoints.borrow_mut();
                    endpoints.entry(key.clone()).or_default().shared.push(shared.clone());
                }
                shared.streams.set(1);
                Held::Shared(shared)
            }
        };
        self.sweep();
        Ok(Lease { key, upstreams: self.clone(), held })
    }

    /// The dial of an HTTP/2 connection that is under way: whoever comes meanwhile may share it.
    fn dialling(&self, key: &Key) -> Option<Rc<Draining>> {
        self.endpoints.borrow().get(key)?.dialling.clone()
    }

    fn held(&self, key: &Key) -> Option<Held> {
        let mut endpoints = self.endpoints.borrow_mut();
        let endpoint = endpoints.get_mut(key)?;
        // The one that was used last: those that are not needed grow old.
        while let Some(Idle { alone, .. }) = endpoint.idle.pop() {
            if alone.sender.is_ready() {
                return Some(Held::Alone(Some(alone)));
            }
        }
        endpoint.shared.retain(|shared| !shared.sender.is_closed() && !shared.failed.get());
        let has_room = |shared: &&Rc<Shared>| shared.streams.get() < UPSTREAM_STREAMS_MAX;
        let shared = endpoint.shared.iter().find(has_room)?;
        shared.streams.set(shared.streams.get() + 1);
        Some(Held::Shared(shared.clone()))
    }

    fn keep(self: &Rc<Self>, key: Key, alone: Alone) {
        if self.ending.get() {
            return;
        }
        let mut endpoints = self.endpoints.borrow_mut();
        let idle = &mut endpoints.entry(key).or_default().idle;
        if idle.len() < UPSTREAM_IDLE_MAX {
            idle.push(Idle { alone, since: runtime::now() });
        }
        drop(endpoints);
        self.sweep();
    }

    /// Closes what nobody has used for long, as long as there is anything.
    fn sweep(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let upstreams = Rc::downgrade(self);
        runtime::spawn(async move {
            loop {
                runtime::sleep(UPSTREAM_IDLE_TIME / 4).await;
                let Some(upstreams) = upstreams.upgrade() else { return };
                if upstreams.close_old() {
                    upstreams.sweeping.set(false);
                    return;
                }
            }
        });
    }

    /// Whether nothing is left.
    fn close_old(&self) -> bool {
        let now = runtime::now();
        let is_old = |since: Instant| now >= since + UPSTREAM_IDLE_TIME;
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.retain(|_, endpoint| {
            endpoint.idle.retain(|idle| !is_old(idle.since) && !idle.alone.sender.is_closed());
            endpoint.shared.retain(|shared| {
                let idle = shared.streams.get() == 0 && is_old(shared.idle_since.get());
                !idle && !shared.sender.is_closed()
            });
            !endpoint.idle.is_empty() || !endpoint.shared.is_empty() || endpoint.dialling.is_some()
        });
        endpoints.is_empty()
    }

    /// Closes everything that carries no request, and keeps nothing from here on.
    pub(crate) fn end(&self) {
        self.ending.set(true);
        self.endpoints.borrow_mut().clear();
    }
}

impl Lease {
    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn send(
        &mut self,
        request: Request<Attempt>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let outcome = match &mut self.held {
            Held::Alone(alone) => {
                let alone = alone.as_mut().expect("held until it is given back");
                alone.sender.try_send_request(request).await
            }
            Held::Shared(shared) => {
                let outcome = shared.sender.clone().try_send_request(request).await;
                let ended = outcome.as_ref().is_err_and(|refused| !refused.error().is_user());
                shared.failed.set(shared.failed.get() || ended);
                outcome
            }
        };
        outcome.map_err(|mut refused| Unanswered {
            unsent: refused.take_message().is_some(),
            error: refused.into_error(),
        })
    }

    /// Where it was dialled from, where that is known.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match &self.held {
            Held::Alone(alone) => alone.as_ref().and_then(|alone| alone.local),
            Held::Shared(shared) => shared.local,
        }
    }

    /// Says, before a request is sent that asks for another protocol, that the connection will be wanted.
    pub(crate) fn expect_upgrade(&self) {
        if let Held::Alone(Some(alone)) = &self.held {
            alone.wanted.set(true);
        }
    }

    /// The connection, once HTTP on it has ended with an upgrade.
    pub(crate) async fn into_upgraded(mut self) -> Option<(Rc<TcpStream>, Bytes)> {
        let Held::Alone(alone) = &mut self.held else { return None };
        let alone = alone.take()?;
        let (io, rest) = alone.rest.get().await?;
        Some((io.socket().clone(), rest))
    }

    /// The answer has ended: the connection is there for the next request, as soon as the request before has ended,
    /// too.
    pub(crate) fn give_back(mut self) {
        let Held::Alone(alone) = &mut self.held else { return };
        let Some(mut alone) = alone.take() else { return };
        let (upstreams, key) = (self.upstreams.clone(), self.key.clone());
        if alone.sender.is_ready() {
            return upstreams.keep(key, alone);
        }
        if alone.sender.is_closed() {
            return;
        }
        runtime::spawn(async move {
            let ready = runtime::timeout(UPSTREAM_GIVE_BACK_TIME, alone.sender.ready()).await;
            if let Ok(Ok(())) = ready {
                upstreams.keep(key, alone);
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Held::Shared(shared) = &self.held {
            shared.streams.set(shared.streams.get() - 1);
            shared.idle_since.set(runtime::now());
        }
    }
}

async fn dial_alone(call: &Call<'_>, route: &Route) -> Result<Alone, CloseReason> {
    let (io, local) = dial(call, route).await?;
    let mut builder = http1::Builder::new();
    builder.max_headers(HTTP_HEADERS_MAX).max_buf_size(HTTP_HEAD_BYTES_MAX);
    let (sender, connection) =
        builder.handshake(io).await.map_err(|_| CloseReason::DestinationReset)?;
    let wanted = Rc::new(Cell::new(false));
    let (giver, rest) = handoff();
    runtime::spawn(drive_alone(connection, wanted.clone(), giver));
    Ok(Alone { sender, local, wanted, rest })
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

async fn dial_shared(call: &Call<'_>, route: &Route) -> Result<Shared, CloseReason> {
    let (io, local) = dial(call, route).await?;
    let mut builder = http2::Builder::new(OnShard);
    builder
        .timer(Wheel)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(4 * HTTP2_WINDOW_BYTES)
        .max_header_list_size(HTTP_HEAD_BYTES_MAX as u32);
    let (sender, connection) =
        builder.handshake(io).await.map_err(|_| CloseReason::DestinationReset)?;
    runtime::spawn(async move {
        // A failure is told to whoever sent a request.
        let _ended = connection.await;
    });
    let (streams, failed, idle_since) = (Cell::new(0), Cell::new(false), Cell::new(runtime::now()));
    Ok(Shared { sender, local, streams, failed, idle_since })
}

async fn dial(call: &Call<'_>, route: &Route) -> Result<(Io, Option<SocketAddr>), CloseReason> {
    let (socket, local) = connect(call, route).await?;
    Ok((Io::new(socket, Bytes::new()), local))
}

/// A connection to where `route` leads, as a socket or as an end of a pair that a stream carries on.
///
/// # Errors
/// Why it cannot be had.
pub(crate) async fn connect(
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
    let (near, far) = TcpStream::pair(INNER_TUNNEL_BYTES_MAX);
    runtime::spawn(carry(stream, Rc::new(far), LEAVE_TIMEOUT, placed));
    Ok((Rc::new(near), None))
}

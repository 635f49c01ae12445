//! A connection for one request: from when it is checked out until its answer has ended.

use std::{cell::Cell, mem, net::SocketAddr, pin::pin, rc::Rc};

use bytes::Bytes;
use http::{Request, Response};
use hyper::client::conn::http1;

use super::{Key, Upstreams, dial::Driving, pool::Opened, shared::Shared};
use crate::{
    runtime::{self, Task, TcpStream},
    waypoint::{
        handoff::Getter,
        incoming::Incoming,
        interim::{Expected, Listening},
        io::Io,
        traffic::Places,
        upload::Attempt,
    },
};

/// A connection for one request.
pub(crate) struct Lease {
    pub(super) upstreams: Rc<Upstreams>,
    pub(super) held: Held,
    /// What the request holds until its answer has ended.
    pub(crate) places: Places,
    /// What is left of a body that waits to be asked for goes to nobody once the answer has ended.
    pub(crate) expected: Option<Expected>,
}

pub(super) enum Held {
    /// Boxed: a lease is moved with every answer, and most are of shared connections.
    Alone(Option<Box<Alone>>),
    Shared(Rc<Shared>),
}

/// An HTTP/1 connection.
pub(super) struct Alone {
    pub(super) key: Key,
    pub(super) sender: http1::SendRequest<Attempt>,
    pub(super) opened: Opened,
    pub(super) local: Option<SocketAddr>,
    pub(super) trace_id: [u8; 16],
    /// Whether its bytes are wanted when HTTP on it has ended: for an upgrade.
    pub(super) wanted: Rc<Cell<bool>>,
    pub(super) rest: Getter<(Io, Bytes)>,
    pub(super) _driving: Driving,
}

/// Why there was no answer.
pub(crate) struct Unanswered {
    /// Not a byte of the request went out.
    pub(crate) unsent: bool,
    /// Some went out, and the backend says that it has not looked at it.
    pub(crate) refused: bool,
    /// What came was no HTTP.
    pub(crate) garbled: bool,
    pub(crate) why: String,
}

impl Lease {
    /// Sends a request and waits for the head of its answer. `listening` hears what comes before it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn send(
        &mut self,
        request: Request<Attempt>,
        listening: &Listening,
    ) -> Result<Response<Incoming>, Unanswered> {
        let alone = match &mut self.held {
            Held::Alone(alone) => alone.as_mut().expect("held until it is given back"),
            Held::Shared(shared) => return shared.send(request, listening).await,
        };
        let answered = listening.until(pin!(alone.sender.try_send_request(request))).await;
        answered.map(|response| response.map(Incoming::Http1)).map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            let error = failed.into_error();
            let (garbled, why) = (error.is_parse(), error.to_string());
            Unanswered { unsent, refused: false, garbled, why }
        })
    }

    /// Where it was dialled from, where that is known.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match &self.held {
            Held::Alone(alone) => alone.as_ref().and_then(|alone| alone.local),
            Held::Shared(shared) => shared.local,
        }
    }

    /// What the connection is called in the log of the backend's node.
    pub(crate) fn trace_id(&self) -> Option<[u8; 16]> {
        match &self.held {
            Held::Alone(alone) => alone.as_ref().map(|alone| alone.trace_id),
            Held::Shared(shared) => Some(shared.trace_id),
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
        let alone = *alone.take()?;
        let (io, rest) = alone.rest.get().await?;
        Some((io.socket().clone(), rest))
    }

    /// The answer has ended, in order. The request has its place until it has ended, too: where HTTP/2 carries it, `rest` is
    /// what is still sent of it. Then the connection, or that place on it, is there for the next one.
    pub(crate) fn give_back(mut self, rest: Option<Task>) {
        drop(self.expected.take());
        let Held::Alone(alone) = &mut self.held else {
            if let Some(rest) = rest.filter(|rest| !rest.is_finished()) {
                runtime::spawn(async move {
                    let _end = rest.await;
                    drop(self);
                });
            }
            return;
        };
        let Some(mut alone) = alone.take() else { return };
        let upstreams = self.upstreams.clone();
        if alone.sender.is_ready() {
            return upstreams.keep(alone);
        }
        if alone.sender.is_closed() {
            return;
        }
        let places = mem::take(&mut self.places);
        runtime::spawn(async move {
            if alone.sender.ready().await.is_ok() {
                upstreams.keep(alone);
            }
            drop(places);
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Held::Shared(shared) = &self.held {
            shared.streams.set(shared.streams.get() - 1);
            shared.idle_since.set(runtime::now());
            shared.opened.room.given_back();
        }
    }
}

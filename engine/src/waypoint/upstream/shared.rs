//! HTTP/2 to a backend: h2's, on a connection that many requests share.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{Builder, SendRequest},
};
use http::{Method, Request, Response};
use http_body::Body;

use super::{dial::dial, lease::Unanswered, pool::Opened};
use crate::{
    close::CloseReason,
    decide::Route,
    limits::{HTTP_HEAD_BYTES_MAX, HTTP2_SEND_BYTES_MAX, HTTP2_WINDOW_BYTES, UPSTREAM_STREAMS_MAX},
    reach::Call,
    runtime,
    waypoint::{
        incoming::Incoming,
        interim::Listening,
        sending::{Sending, say_length},
        tls::Originator,
        upload::Attempt,
    },
};

/// An HTTP/2 connection.
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    pub(super) opened: Opened,
    pub(super) local: Option<SocketAddr>,
    pub(super) trace_id: [u8; 16],
    pub(super) streams: Cell<usize>,
    pub(super) idle_since: Cell<Instant>,
    /// A request was not answered: the next ones had better go elsewhere.
    failed: Cell<bool>,
    /// It is closed.
    ended: Rc<Cell<bool>>,
}

pub(super) async fn dial_shared(
    call: &Call<'_>,
    route: &Route,
    originator: Option<&Originator>,
    opened: Opened,
) -> Result<Shared, CloseReason> {
    let (io, local) = dial(call, route, originator, b"h2").await?;
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(HTTP2_WINDOW_BYTES)
        // Room for all of its streams: those whose users take nothing must not stall others.
        .initial_connection_window_size(UPSTREAM_STREAMS_MAX as u32 * HTTP2_WINDOW_BYTES)
        .max_header_list_size(HTTP_HEAD_BYTES_MAX as u32)
        .max_send_buffer_size(HTTP2_SEND_BYTES_MAX)
        // Until it says how many it allows.
        .initial_max_send_streams(UPSTREAM_STREAMS_MAX);
    let (sender, connection) =
        builder.handshake(io).await.map_err(|_| CloseReason::DestinationReset)?;
    let ended = Rc::new(Cell::new(false));
    let tells = ended.clone();
    runtime::spawn(async move {
        // A failure is told to whoever sent a request.
        let _outcome = connection.await;
        tells.set(true);
    });
    let (streams, failed, idle_since) = (Cell::new(0), Cell::new(false), Cell::new(runtime::now()));
    let trace_id = call.trace_id;
    Ok(Shared { sender, opened, local, trace_id, streams, idle_since, failed, ended })
}

impl Shared {
    /// Whether it takes no further request, whoever has ended it.
    pub(super) fn is_over(&self) -> bool {
        self.ended.get() || self.failed.get()
    }

    /// Sends a request, and waits for the head of its answer; `listening` hears what comes before it.
    /// What is left of its body then goes on by itself, as long as the answer is taken.
    pub(super) async fn send(
        &self,
        request: Request<Attempt>,
        listening: &Listening,
    ) -> Result<Response<Incoming>, Unanswered> {
        let (mut head, body) = request.into_parts();
        // Of these, a length of nothing says nothing (RFC 9110 §8.6).
        let is_bare = matches!(head.method, Method::GET | Method::HEAD | Method::DELETE);
        let ended = body.is_end_stream();
        if !(is_bare && ended) {
            say_length(&mut head.headers, &body);
        }
        let mut sender = self.sender.clone();
        let ready = poll_fn(|cx| sender.poll_ready(cx)).await;
        ready.map_err(|error| self.failed(true, error))?;
        let sent = sender.send_request(Request::from_parts(head, ()), ended);
        // The connection was ready: it is the request that cannot be sent.
        let (answer, stream) = sent.map_err(|error| unanswered(false, &error))?;
        let mut sending = (!ended).then(|| Sending::new(body, stream));
        let mut answer = pin!(answer);
        let answered = poll_fn(|cx| {
            if let Some(body) = &mut sending
                && Pin::new(body).poll(cx).is_ready()
            {
                sending = None;
            }
            // It looks at the answer itself, too: none has come while it has to wait.
            while listening.hears() {
                match answer.poll_informational(cx) {
                    Poll::Ready(Some(Ok(interim))) => {
                        listening.hear(interim.status(), interim.headers());
                    }
                    Poll::Ready(_) => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            answer.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => {
                let rest = sending.map(runtime::spawn);
                let (head, stream) = response.into_parts();
                let body = Incoming::of_backend(&head.headers, stream, rest);
                Ok(Response::from_parts(head, body))
            }
            Err(error) => Err(self.failed(false, error)),
        }
    }

    fn failed(&self, unsent: bool, error: h2::Error) -> Unanswered {
        // What a client does to its own request is no fault of the connection's.
        let is_ours = error.is_reset() && !error.is_remote() && !error.is_library();
        self.failed.set(self.failed.get() || !is_ours);
        unanswered(unsent, &error)
    }
}

fn unanswered(unsent: bool, error: &h2::Error) -> Unanswered {
    Unanswered { unsent, refused: is_refused(error), garbled: false, why: error.to_string() }
}

/// Whether the backend says that it has not looked at it: by refusing the stream (RFC 9113 §8.7), or
/// by leaving it behind when it ended the connection in order (§6.8).
fn is_refused(error: &h2::Error) -> bool {
    let in_order = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (in_order || refused)
}

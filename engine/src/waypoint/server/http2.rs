//! HTTP/2 towards a client: h2's, with a task for each request.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection as Http2, Handshake, SendResponse},
};
use http::{Method, Request, Response, header};
use http_body::Body;
use ringway_http::head::hops;

use super::{Ended, Served, date, drive};
use crate::{
    connection::Connection,
    limits::{
        HTTP_HEAD_BYTES_MAX, HTTP2_RESETS_LOCAL_MAX, HTTP2_RESETS_PENDING_MAX,
        HTTP2_SEND_BYTES_MAX, HTTP2_STREAMS_MAX, HTTP2_WINDOW_BYTES,
    },
    runtime::{self, TcpStream},
    waypoint::{
        exchange::exchange,
        handoff::handoff,
        incoming::Incoming,
        interim::{Http2Interims, InterimSink},
        io::Io,
        record::Recorder,
        sending::{Sending, say_length},
        serve::Downstream,
        websocket,
    },
};

/// Serves HTTP/2.
pub(crate) async fn serve_http2(
    downstream: &Rc<Downstream>,
    socket: Rc<TcpStream>,
    early: Bytes,
    connection: Connection,
) {
    let mut builder = Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(4 * HTTP2_WINDOW_BYTES)
        .max_header_list_size(HTTP_HEAD_BYTES_MAX as u32)
        .max_send_buffer_size(HTTP2_SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESETS_PENDING_MAX)
        .max_local_error_reset_streams(Some(HTTP2_RESETS_LOCAL_MAX));
    let flood = Rc::new(Cell::new(None));
    let io = Io::new(socket.clone(), early)
        .telling(downstream.activity.clone())
        .guarded_from_floods(flood.clone());
    let state = State::Greeting(builder.handshake(io));
    let mut http = Serving { downstream: downstream.clone(), state, ending: false };
    match drive(&mut http, downstream, &connection).await {
        Ended::Served(Ok(())) => {}
        Ended::Served(Err(_error)) => {
            if let Some(flood) = flood.get() {
                Recorder::of_flood(downstream, flood).finish();
            }
            socket.reset_on_close();
        }
        Ended::Cut | Ended::TooSlow => socket.reset_on_close(),
    }
    connection.end_of_requests();
}

/// A client's connection.
struct Serving {
    downstream: Rc<Downstream>,
    state: State,
    ending: bool,
}

enum State {
    Greeting(Handshake<Io, Bytes>),
    Serving(Http2<Io, Bytes>),
}

impl Served for Serving {
    type Error = h2::Error;

    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.state {
                State::Greeting(handshake) => {
                    let mut http = ready!(pin!(handshake).poll(cx))?;
                    if self.ending {
                        http.graceful_shutdown();
                    }
                    self.state = State::Serving(http);
                }
                State::Serving(http) => match ready!(http.poll_accept(cx)).transpose()? {
                    Some((request, respond)) => {
                        runtime::spawn(serve(self.downstream.clone(), request, respond));
                    }
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    fn end_in_order(&mut self) {
        self.ending = true;
        if let State::Serving(http) = &mut self.state {
            http.graceful_shutdown();
        }
    }
}

/// Serves one request, from its head to the end of its answer, or until its client wants none any
/// more.
async fn serve(
    downstream: Rc<Downstream>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, stream) = request.into_parts();
    let interims = Http2Interims::of(&head.headers);
    // Behind CONNECT comes no body, but what the stream is asked for.
    let (body, asked, offered) = if head.method == Method::CONNECT {
        let (giver, getter) = handoff();
        (Incoming::Nothing, Some((stream, giver)), Some(getter))
    } else {
        let to_ask = interims.clone().filter(|interims| interims.is_to_be_asked());
        (Incoming::of_client(&head.headers, stream, to_ask), None, None)
    };
    let answered = {
        let request = Request::from_parts(head, body);
        let sink = interims.clone().map(InterimSink::Http2);
        let mut exchange = pin!(exchange(downstream, request, sink, offered));
        poll_fn(|cx| {
            let answered = exchange.as_mut().poll(cx);
            let before_it = interims.as_ref().map_or_else(Vec::new, |interims| interims.take(cx));
            // h2 would send to who has left, too.
            if !before_it.is_empty() && respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            for interim in before_it {
                let _unsent = respond.send_informational(interim);
            }
            match answered {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending => respond.poll_reset(cx).map(|_reason| None),
            }
        })
        .await
    };
    let Some(response) = answered else { return };
    let (mut head, body) = response.into_parts();
    hops::strip_for_http2(&mut head.headers);
    head.headers.entry(header::DATE).or_insert_with(date::now);
    let (goes_on, ended) = (body.goes_on(), body.is_end_stream());
    if !ended {
        say_length(&mut head.headers, &body);
    }
    let head = Response::from_parts(head, ());
    let Ok(stream) = respond.send_response(head, ended && !goes_on) else {
        return respond.send_reset(Reason::INTERNAL_ERROR);
    };
    match asked {
        Some((receive, giver)) if goes_on => giver.give(websocket::Ends { receive, send: stream }),
        _ if ended => {}
        _ => Sending::new(body, stream).await,
    }
}

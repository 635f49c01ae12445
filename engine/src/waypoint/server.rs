//! HTTP towards a client: hyper on the client's connection, until it ends, or is to end.

use std::{
    convert::Infallible,
    error::Error as _,
    future::{Future, poll_fn},
    io::ErrorKind,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};

use ringway_http::head::frames::Flood;

use super::{
    download::Download,
    draining::Awaited,
    exchange::{Upgraded, exchange},
    io::{Io, OnShard, Wheel},
    record::Recorder,
    serve::Downstream,
};
use crate::{
    connection::Connection,
    limits::{
        HTTP_HEAD_BYTES_MAX, HTTP_HEAD_TIMEOUT, HTTP_HEADERS_MAX, HTTP_REFUSED_LINGER_TIME,
        HTTP2_RESETS_LOCAL_MAX, HTTP2_RESETS_PENDING_MAX, HTTP2_SEND_BYTES_MAX, HTTP2_STREAMS_MAX,
        HTTP2_WINDOW_BYTES,
    },
    runtime::{self, TcpStream},
};

/// Serves the requests of one connection.
struct Exchanger(Rc<Downstream>);

impl Service<Request<Incoming>> for Exchanger {
    type Response = Response<Download>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Download>, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(exchange(self.0.clone(), request))
    }
}

/// How a connection came to its end.
enum Ended {
    /// By itself.
    Served(hyper::Result<()>),
    /// It was to be cut.
    Cut,
    /// A head took too long.
    TooSlow,
}

/// A connection of hyper's, of either version.
trait Served {
    fn poll_served(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<hyper::Result<()>>;
    fn end_in_order(self: Pin<&mut Self>);
}

impl Served for http1::Connection<Io, Exchanger> {
    fn poll_served(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<hyper::Result<()>> {
        self.get_mut().poll_without_shutdown(cx)
    }

    fn end_in_order(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Served for http2::Connection<Io, Exchanger, OnShard> {
    fn poll_served(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<hyper::Result<()>> {
        self.poll(cx)
    }

    fn end_in_order(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves HTTP/1.
pub(crate) async fn serve_http1(
    downstream: &Rc<Downstream>,
    socket: Rc<TcpStream>,
    early: Bytes,
    connection: Connection,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(Wheel)
        .header_read_timeout(None)
        .max_headers(HTTP_HEADERS_MAX)
        .max_header_size(HTTP_HEAD_BYTES_MAX)
        .max_buf_size(HTTP_HEAD_BYTES_MAX);
    let io = Io::new(socket.clone(), early)
        .telling(downstream.activity.clone())
        .interrupted_by(downstream.interims.clone())
        .guarded();
    let mut http = builder.serve_connection(io, Exchanger(downstream.clone()));
    match drive(Pin::new(&mut http), downstream, &connection).await {
        Ended::Served(Ok(())) => {
            let upgraded = downstream.upgraded.take();
            match upgraded {
                Some(upgraded) => {
                    let rest = http.into_parts().read_buf;
                    Upgraded::pass(upgraded, downstream, &socket, rest, Some(&connection)).await;
                }
                // The client may be gone already.
                None => drop(socket.shutdown_write()),
            }
        }
        Ended::Served(Err(error)) => {
            if error.is_parse() {
                let code = if error.is_parse_too_large() { 431 } else { 400 };
                Recorder::of_broken(downstream, code).finish();
                // The client may be gone already.
                drop(socket.shutdown_write());
                let leaving = runtime::timeout(HTTP_REFUSED_LINGER_TIME, forget_rest(&socket));
                // Cut, late or in order: it ends.
                let _ended = connection.unless_cut(leaving).await;
            } else {
                socket.reset_on_close();
            }
        }
        Ended::Cut | Ended::TooSlow => socket.reset_on_close(),
    }
    connection.end_of_requests();
}

/// Takes what still comes, until nothing does.
async fn forget_rest(socket: &TcpStream) {
    loop {
        socket.readable().await;
        let read = runtime::scratch(|scratch| {
            let most = runtime::visit_bytes_max().min(scratch.len());
            socket.try_read(&mut scratch[..most])
        });
        match read {
            Ok(0) => return,
            Ok(read) => {
                runtime::moved_bytes(read);
                // Who sends faster than is read here is never done: others, and the deadline, come between.
                runtime::yield_now().await;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Serves HTTP/2.
pub(crate) async fn serve_http2(
    downstream: &Rc<Downstream>,
    socket: Rc<TcpStream>,
    early: Bytes,
    connection: Connection,
) {
    let mut builder = http2::Builder::new(OnShard);
    builder
        .timer(Wheel)
        .enable_connect_protocol()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(4 * HTTP2_WINDOW_BYTES)
        .max_header_list_size(HTTP_HEAD_BYTES_MAX as u32)
        .max_send_buf_size(HTTP2_SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESETS_PENDING_MAX)
        .max_local_error_reset_streams(HTTP2_RESETS_LOCAL_MAX);
    let io =
        Io::new(socket.clone(), early).telling(downstream.activity.clone()).guarded_from_floods();
    let http = pin!(builder.serve_connection(io, Exchanger(downstream.clone())));
    match drive(http, downstream, &connection).await {
        Ended::Served(Ok(())) => {}
        Ended::Served(Err(error)) => {
            if let Some(flood) = flood(&error) {
                Recorder::of_flood(downstream, flood).finish();
            }
            socket.reset_on_close();
        }
        Ended::Cut | Ended::TooSlow => socket.reset_on_close(),
    }
    connection.end_of_requests();
}

/// What there was too much of, if that was the connection's end.
fn flood(error: &hyper::Error) -> Option<Flood> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.get_ref()?.downcast_ref().copied();
        }
        if let Some(error) = error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io) {
            return error.get_ref()?.downcast_ref().copied();
        }
        cause = error.source();
    }
    None
}

/// Drives a connection to its end: its own, or the one that drain, idleness or a cut bring.
async fn drive(
    mut http: Pin<&mut impl Served>,
    downstream: &Downstream,
    connection: &Connection,
) -> Ended {
    let activity = &downstream.activity;
    let mut draining = Awaited::new(&downstream.pod.l7.kept().draining);
    let mut ending = false;
    let mut timer = runtime::sleep(HTTP_HEAD_TIMEOUT);
    poll_fn(|cx| {
        if let Poll::Ready(_reason) = connection.poll_cut(cx) {
            return Poll::Ready(Ended::Cut);
        }
        if !ending && draining.poll(cx).is_ready() {
            ending = true;
            http.as_mut().end_in_order();
        }
        if let Poll::Ready(outcome) = http.as_mut().poll_served(cx) {
            return Poll::Ready(Ended::Served(outcome));
        }
        let Some(deadline) = activity.deadline() else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.reset(deadline);
        }
        if Pin::new(&mut timer).poll(cx).is_ready() {
            if ending || activity.awaits_head() {
                return Poll::Ready(Ended::TooSlow);
            }
            ending = true;
            http.as_mut().end_in_order();
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

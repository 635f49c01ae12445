//! HTTP/1 towards a client: hyper's.

use std::{
    convert::Infallible,
    future::Future,
    io::ErrorKind,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{server::conn::http1, service::Service};

use super::{Ended, Served, drive};
use crate::{
    connection::Connection,
    limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_REFUSED_LINGER_TIME},
    runtime::{self, TcpStream},
    waypoint::{
        download::Download,
        exchange::{Upgraded, exchange},
        incoming::Incoming,
        interim::{Http1Interims, InterimSink},
        io::{Io, Wheel},
        record::Recorder,
        serve::Downstream,
    },
};

/// Serves the requests of one connection.
struct Exchanger {
    downstream: Rc<Downstream>,
    interims: Rc<Http1Interims>,
}

impl Service<Request<hyper::body::Incoming>> for Exchanger {
    type Response = Response<Download>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Download>, Infallible>>>>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let (downstream, request) = (self.downstream.clone(), request.map(Incoming::Http1));
        let interims = InterimSink::Http1(self.interims.clone());
        Box::pin(async { Ok(exchange(downstream, request, Some(interims), None).await) })
    }
}

impl Served for http1::Connection<Io, Exchanger> {
    type Error = hyper::Error;

    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(cx)
    }

    fn end_in_order(&mut self) {
        Pin::new(self).graceful_shutdown();
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
    let interims = Rc::<Http1Interims>::default();
    let io = Io::new(socket.clone(), early)
        .telling(downstream.activity.clone())
        .interrupted_by(interims.clone())
        .guarded();
    let exchanger = Exchanger { downstream: downstream.clone(), interims };
    let mut http = builder.serve_connection(io, exchanger);
    match drive(&mut http, downstream, &connection).await {
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

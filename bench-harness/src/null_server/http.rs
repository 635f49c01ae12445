//! The null server's HTTP: `GET /bytes/N` is answered with N bytes, anything else with 404; calls of
//! gRPC's shape, with any method, as gRPC would.

use std::future::Future;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Connection, Handshake, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};

use super::turn::{Outbox, Turn, ready};
use crate::polled::Polled;

/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header lines of a request at most.
const HEADERS_MAX: usize = 64;
/// Bytes of an answer at most.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Streams of one connection at a time.
const STREAMS_MAX: u32 = 256;

/// What calls of gRPC are told by.
const GRPC: &str = "application/grpc";

/// The size a path asks for.
fn size_of(path: &str) -> Option<usize> {
    path.strip_prefix("/bytes/")?.parse().ok().filter(|size| *size <= BODY_BYTES_MAX)
}

/// HTTP/1.1 with keep-alive.
#[derive(Debug, Default)]
pub(super) struct Http1 {
    inbox: Vec<u8>,
    outbox: Outbox,
    /// The answer that was made last, with its size: it is the same most of the time.
    made: Option<(usize, Vec<u8>)>,
    /// The client wants no more answers.
    is_last: bool,
}

impl Http1 {
    pub(super) fn visit(&mut self, mut socket: &TcpStream, scratch: &mut [u8]) -> io::Result<Turn> {
        loop {
            if !self.outbox.flush(socket)? {
                return Ok(Turn::Waiting);
            }
            if self.is_last {
                // Dropping the socket ends it; a client that is told so sends nothing more.
                return Ok(Turn::Over);
            }
            match ready(socket.read(scratch))? {
                None => return Ok(Turn::Waiting),
                Some(0) => return Ok(Turn::Over),
                Some(count) => {
                    self.inbox.extend_from_slice(&scratch[..count]);
                    while !self.is_last && self.answer_one()? {}
                }
            }
        }
    }

    /// Answers the first request of the inbox, if it is complete.
    fn answer_one(&mut self) -> io::Result<bool> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&self.inbox).map_err(|_| invalid("unreadable request"))?;
        let httparse::Status::Complete(length) = parsed else {
            let is_endless = self.inbox.len() > HEAD_BYTES_MAX;
            return if is_endless { Err(invalid("a head without end")) } else { Ok(false) };
        };
        self.is_last = request.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("connection")
                && header.value.eq_ignore_ascii_case(b"close")
        });
        let size = request.path.and_then(size_of);
        match size {
            None => self.outbox.fill(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
            Some(size) => {
                if self.made.as_ref().is_none_or(|(made, _)| *made != size) {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
                    let mut answer = head.into_bytes();
                    answer.resize(answer.len() + size, b'Z');
                    self.made = Some((size, answer));
                }
                let (_, answer) = self.made.as_ref().expect("it was made");
                self.outbox.fill(answer);
            }
        }
        self.inbox.drain(..length);
        Ok(!self.inbox.is_empty())
    }
}

/// HTTP/2 by the `h2` library, polled by hand.
pub(super) struct Http2 {
    phase: Phase,
    made: Bytes,
    /// Calls whose message has not come whole.
    calls: Vec<Call>,
}

/// A call of gRPC's shape, answered when its message is there.
struct Call {
    message: RecvStream,
    respond: SendResponse<Bytes>,
    answer: Option<Bytes>,
}

enum Phase {
    Shaking(Box<Handshake<Polled, Bytes>>),
    Open(Box<Connection<Polled, Bytes>>),
}

impl Http2 {
    pub(super) fn new(socket: Rc<TcpStream>) -> Http2 {
        let handshake = h2::server::Builder::new()
            .max_concurrent_streams(STREAMS_MAX)
            .handshake(Polled(socket));
        Http2 { phase: Phase::Shaking(Box::new(handshake)), made: Bytes::new(), calls: Vec::new() }
    }

    pub(super) fn visit(&mut self) -> io::Result<Turn> {
        let mut task = Context::from_waker(Waker::noop());
        if let Phase::Shaking(handshake) = &mut self.phase {
            let Poll::Ready(shaken) = Pin::new(&mut **handshake).poll(&mut task) else {
                return Ok(Turn::Waiting);
            };
            let connection = shaken.map_err(|_| invalid("no HTTP/2"))?;
            self.phase = Phase::Open(Box::new(connection));
        }
        let Phase::Open(connection) = &mut self.phase else { unreachable!("it is open") };
        loop {
            let accepted = match connection.poll_accept(&mut task) {
                Poll::Pending if answer_calls(&mut self.calls, &mut task) => continue,
                Poll::Pending => return Ok(Turn::Waiting),
                Poll::Ready(None) => return Ok(Turn::Over),
                Poll::Ready(Some(accepted)) => accepted,
            };
            let (request, mut respond) = accepted.map_err(|_| invalid("the connection broke"))?;
            let body = answer(&request, &mut self.made);
            let is_call = request.headers().get("content-type").is_some_and(|kind| kind == GRPC);
            if is_call {
                let message = request.into_body();
                self.calls.push(Call { message, respond, answer: body });
                continue;
            }
            let response = Response::builder().status(if body.is_some() { 200 } else { 404 });
            let response = response.body(()).expect("a status is a response");
            let is_empty = body.as_ref().is_none_or(Bytes::is_empty);
            // A client that has reset the stream wants no answer.
            if let Ok(mut stream) = respond.send_response(response, is_empty)
                && let Some(body) = body.filter(|body| !body.is_empty())
            {
                let _ = stream.send_data(body, true);
            }
        }
    }
}

/// Answers the calls whose message is there; tells whether there was any.
fn answer_calls(calls: &mut Vec<Call>, task: &mut Context<'_>) -> bool {
    let before = calls.len();
    // An order of their own does not matter: they are streams.
    calls.retain_mut(|call| {
        while let Poll::Ready(data) = call.message.poll_data(task) {
            let Some(Ok(data)) = data else {
                call.answer();
                return false;
            };
            let _ = call.message.flow_control().release_capacity(data.len());
        }
        true
    });
    calls.len() < before
}

impl Call {
    /// As gRPC does: a framed message, and trailers that say that it went well.
    fn answer(&mut self) {
        let status = if self.answer.is_some() { 200 } else { 404 };
        let response = Response::builder().status(status).header("content-type", GRPC);
        let response = response.body(()).expect("a status is a response");
        // A client that has reset the stream wants no answer.
        let Ok(mut stream) = self.respond.send_response(response, false) else { return };
        let body = self.answer.take().unwrap_or_default();
        let mut message = vec![0];
        message.extend_from_slice(&(body.len() as u32).to_be_bytes());
        message.extend_from_slice(&body);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let sent = stream.send_data(message.into(), false);
        let _ = sent.and_then(|()| stream.send_trailers(trailers));
    }
}

fn answer<T>(request: &Request<T>, made: &mut Bytes) -> Option<Bytes> {
    let size = size_of(request.uri().path())?;
    if made.len() != size {
        *made = vec![b'Z'; size].into();
    }
    Some(made.clone())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

//! HTTP/2 with prior knowledge, by the `h2` library, several streams at a time.
//!
//! The library's futures are polled by hand whenever the socket is ready. No runtime stands in between:
//! tokio's timers are milliseconds apart, which is longer than most latencies measured here.

use std::fmt;
use std::future::Future;
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::Request;

use super::{Client, Standing};
use crate::polled::Polled;

/// What a stream may receive before the window is renewed.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What all streams of a connection may receive.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

type Handshake = Pin<
    Box<dyn Future<Output = Result<(SendRequest<Bytes>, Connection<Polled, Bytes>), h2::Error>>>,
>;

pub(super) struct Http2 {
    socket: Rc<TcpStream>,
    phase: Phase,
    /// What is to be asked, ready made.
    uri: String,
    asks: Asks,
    /// Not sent yet: the handshake is not over, or the peer allows no more streams.
    waiting: Vec<Duration>,
    streams: Vec<Stream>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// A GET, whose answer is a body.
    Page,
    /// A unary call of gRPC's shape, whose answer ends with trailers that say that it went well.
    Call,
}

/// The message of a call: not compressed, 16 bytes.
const CALL: &[u8] = b"\0\0\0\0\x10ringway-bench-rq";

enum Phase {
    Shaking(Handshake),
    Open { sender: SendRequest<Bytes>, connection: Box<Connection<Polled, Bytes>> },
}

struct Stream {
    due: Duration,
    asks: Asks,
    answer: Answer,
}

enum Answer {
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Http2 {
    pub(super) fn new(socket: Rc<TcpStream>, authority: &str, path: &str, asks: Asks) -> Http2 {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(Polled(socket.clone()));
        Http2 {
            socket,
            phase: Phase::Shaking(Box::pin(handshake)),
            uri: format!("http://{authority}{path}"),
            asks,
            waiting: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Goes on until nothing moves any more.
    fn pump(&mut self, answered: &mut Vec<Duration>) -> Result<Standing> {
        let mut task = TaskContext::from_waker(Waker::noop());
        if let Phase::Shaking(handshake) = &mut self.phase {
            let Poll::Ready(shaken) = handshake.as_mut().poll(&mut task) else {
                return Ok(Standing::Open);
            };
            let (sender, connection) = shaken.context("no HTTP/2 handshake")?;
            self.phase = Phase::Open { sender, connection: Box::new(connection) };
        }
        let Phase::Open { sender, connection } = &mut self.phase else {
            unreachable!("it is open")
        };
        loop {
            send(sender, (&self.uri, self.asks), &mut self.waiting, &mut self.streams, &mut task)?;
            let is_over = match Pin::new(&mut **connection).poll(&mut task) {
                Poll::Ready(end) => {
                    end.context("the connection broke")?;
                    true
                }
                Poll::Pending => false,
            };
            let has_moved = receive(&mut self.streams, answered, &mut task)?;
            if is_over {
                let lost = self.streams.len() + self.waiting.len();
                ensure!(lost == 0, "the other side ended the connection and owed {lost} answers");
                return Ok(Standing::Ended);
            }
            // What was received makes room in windows, which the connection has to tell the peer.
            if !has_moved {
                return Ok(Standing::Open);
            }
        }
    }
}

/// Opens streams for what waits.
fn send(
    sender: &mut SendRequest<Bytes>,
    (uri, asks): (&str, Asks),
    waiting: &mut Vec<Duration>,
    streams: &mut Vec<Stream>,
    task: &mut TaskContext<'_>,
) -> Result<()> {
    while !waiting.is_empty() {
        match sender.poll_ready(task) {
            Poll::Pending => break,
            Poll::Ready(ready) => ready.context("the connection takes no more requests")?,
        }
        let request = match asks {
            Asks::Page => Request::get(uri),
            Asks::Call => Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers"),
        };
        let request = request.body(()).context("the target or --path is no URI")?;
        let ends = asks == Asks::Page;
        let (answer, mut body) = sender.send_request(request, ends).context("cannot send")?;
        if !ends {
            body.send_data(Bytes::from_static(CALL), true).context("cannot send")?;
        }
        streams.push(Stream { due: waiting.remove(0), asks, answer: Answer::Head(answer) });
    }
    Ok(())
}

/// Takes what has come for all streams; tells whether anything has.
fn receive(
    streams: &mut Vec<Stream>,
    answered: &mut Vec<Duration>,
    task: &mut TaskContext<'_>,
) -> Result<bool> {
    let (mut at, mut has_moved) = (0, false);
    while at < streams.len() {
        let (moved, is_complete) = streams[at].advance(task)?;
        has_moved |= moved;
        if is_complete {
            answered.push(streams.swap_remove(at).due);
        } else {
            at += 1;
        }
    }
    Ok(has_moved)
}

impl Stream {
    /// Takes what has come; tells whether anything has, and whether it is complete.
    fn advance(&mut self, task: &mut TaskContext<'_>) -> Result<(bool, bool)> {
        if let Answer::Head(head) = &mut self.answer {
            let Poll::Ready(response) = Pin::new(head).poll(task) else {
                return Ok((false, false));
            };
            let response = response
                .context("no answer: does the target speak HTTP/2 (`ringway-bench serve null`)?")?;
            let status = response.status();
            ensure!(status == 200, "the answer is {status}");
            self.answer = Answer::Body(response.into_body());
        }
        let Answer::Body(body) = &mut self.answer else { unreachable!("the head is here") };
        let mut has_moved = false;
        loop {
            match body.poll_data(task) {
                Poll::Pending => return Ok((has_moved, false)),
                Poll::Ready(None) => break,
                Poll::Ready(Some(data)) => {
                    let count = data.context("the answer broke off")?.len();
                    body.flow_control().release_capacity(count)?;
                    has_moved = true;
                }
            }
        }
        if self.asks == Asks::Call {
            let Poll::Ready(trailers) = body.poll_trailers(task) else {
                return Ok((has_moved, false));
            };
            let trailers = trailers.context("the answer broke off")?.unwrap_or_default();
            let status = trailers.get("grpc-status");
            ensure!(status.is_some_and(|status| status == "0"), "grpc-status is {status:?}");
        }
        Ok((true, true))
    }
}

impl Client for Http2 {
    fn send(&mut self, due: Duration, answered: &mut Vec<Duration>) -> Result<Standing> {
        self.waiting.push(due);
        self.pump(answered)
    }

    fn advance(&mut self, _scratch: &mut [u8], answered: &mut Vec<Duration>) -> Result<Standing> {
        self.pump(answered)
    }

    fn outstanding(&self) -> Vec<Duration> {
        let sent = self.streams.iter().map(|stream| stream.due);
        self.waiting.iter().copied().chain(sent).collect()
    }

    fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

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
    /// Not sent yet: the handshake is not over, or the peer allows no more streams.
    waiting: Vec<Duration>,
    streams: Vec<Stream>,
}

enum Phase {
    Shaking(Handshake),
    Open { sender: SendRequest<Bytes>, connection: Box<Connection<Polled, Bytes>> },
}

struct Stream {
    due: Duration,
    answer: Answer,
}

enum Answer {
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Http2 {
    pub(super) fn new(socket: Rc<TcpStream>, authority: &str, path: &str) -> Http2 {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(Polled(socket.clone()));
        Http2 {
            socket,
            phase: Phase::Shaking(Box::pin(handshake)),
            uri: format!("http://{authority}{path}"),
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
            send(sender, &self.uri, &mut self.waiting, &mut self.streams, &mut task)?;
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
    uri: &str,
    waiting: &mut Vec<Duration>,
    streams: &mut Vec<Stream>,
    task: &mut TaskContext<'_>,
) -> Result<()> {
    while !waiting.is_empty() {
        match sender.poll_ready(task) {
            Poll::Pending => break,
            Poll::Ready(ready) => ready.context("the connection takes no more requests")?,
        }
        let request = Request::get(uri).body(()).context("the target or --path is no URI")?;
        let (answer, _) = sender.send_request(request, true).context("cannot send")?;
        streams.push(Stream { due: waiting.remove(0), answer: Answer::Head(answer) });
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
        let (moved, is_complete) = streams[at].answer.advance(task)?;
        has_moved |= moved;
        if is_complete {
            answered.push(streams.swap_remove(at).due);
        } else {
            at += 1;
        }
    }
    Ok(has_moved)
}

impl Answer {
    /// Takes what has come; tells whether anything has, and whether it is complete.
    fn advance(&mut self, task: &mut TaskContext<'_>) -> Result<(bool, bool)> {
        if let Answer::Head(head) = self {
            let Poll::Ready(response) = Pin::new(head).poll(task) else {
                return Ok((false, false));
            };
            let response = response
                .context("no answer: does the target speak HTTP/2 (`ringway-bench serve null`)?")?;
            let status = response.status();
            ensure!(status == 200, "the answer is {status}");
            *self = Answer::Body(response.into_body());
        }
        let Answer::Body(body) = self else { unreachable!("the head is here") };
        let mut has_moved = false;
        loop {
            match body.poll_data(task) {
                Poll::Pending => return Ok((has_moved, false)),
                Poll::Ready(None) => return Ok((true, true)),
                Poll::Ready(Some(data)) => {
                    let count = data.context("the answer broke off")?.len();
                    body.flow_control().release_capacity(count)?;
                    has_moved = true;
                }
            }
        }
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

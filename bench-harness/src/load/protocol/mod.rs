//! What is spoken over one connection of the generator.
//!
//! A client never waits: it writes and reads what the socket takes and gives, and says which requests
//! were answered. It neither knows the time nor what a latency is.

mod chunks;
mod http1;
mod http2;
mod raw;
mod serial;

use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use self::http1::Http1;
use self::http2::{Asks, Http2};
use self::raw::Raw;
use self::serial::Serial;

/// The largest message or answer that may be asked for.
const SIZE_MAX: usize = 64 << 20;
/// Streams of one connection at a time; RFC 9113 §6.5.2 advises servers to allow at least 100.
const STREAMS_MAX: usize = 100;

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Messages of fixed size, which come back.
    #[default]
    Raw,
    /// HTTP/1.1, one request at a time.
    Http1,
    /// HTTP/2 without an upgrade, several streams.
    Http2,
    /// Unary calls of gRPC's shape over the same: a framed message each way, and how it went in trailers.
    Grpc,
}

/// How a client is made.
#[derive(Clone, Debug)]
pub(in crate::load) struct Dialect {
    pub(in crate::load) protocol: Protocol,
    /// Bytes of a message, or of the answer that is asked for.
    pub(in crate::load) size: usize,
    /// Requests under way on one connection.
    pub(in crate::load) streams: usize,
    pub(in crate::load) authority: String,
    pub(in crate::load) path: String,
    /// Whether every connection carries one request only.
    pub(in crate::load) is_last: bool,
}

impl Dialect {
    /// # Errors
    /// When the protocol cannot do what is asked for.
    pub(in crate::load) fn check(&self) -> Result<()> {
        let (protocol, streams) = (self.protocol, self.streams);
        ensure!(
            self.protocol != Protocol::Raw || self.size > 0,
            "--size 0: a raw message has at least one byte, or there would be nothing to wait for"
        );
        ensure!(self.size <= SIZE_MAX, "--size {}: at most {SIZE_MAX} bytes", self.size);
        ensure!(
            (1..=STREAMS_MAX).contains(&streams),
            "--streams {streams}: from 1 to {STREAMS_MAX}"
        );
        ensure!(
            streams == 1 || matches!(protocol, Protocol::Http2 | Protocol::Grpc),
            "--streams {streams}: only --protocol http2 and grpc carry several requests on one connection"
        );
        Ok(())
    }

    /// A client on a connection that is open.
    pub(in crate::load) fn client(&self, socket: TcpStream) -> Box<dyn Client> {
        match self.protocol {
            Protocol::Raw => Box::new(Serial::new(socket, Raw::new(self.size))),
            Protocol::Http1 => {
                let http1 = Http1::new(&self.authority, &self.path, self.is_last);
                Box::new(Serial::new(socket, http1))
            }
            Protocol::Http2 | Protocol::Grpc => {
                let asks = match self.protocol {
                    Protocol::Grpc => Asks::Call,
                    _ => Asks::Page,
                };
                Box::new(Http2::new(Rc::new(socket), &self.authority, &self.path, asks))
            }
        }
    }
}

/// One end of a connection.
pub(in crate::load) trait Client {
    /// Sends a request, which was due at `due`. There are never more under way than the dialect says.
    /// Should some be answered in this very moment, they join `answered`.
    fn send(&mut self, due: Duration, answered: &mut Vec<Duration>) -> Result<Standing>;

    /// Reads and writes until the socket has no more to give or take. What is answered joins
    /// `answered`, by the moment it was due.
    fn advance(&mut self, scratch: &mut [u8], answered: &mut Vec<Duration>) -> Result<Standing>;

    /// What is under way, and lost if the connection breaks.
    fn outstanding(&self) -> Vec<Duration>;

    fn socket(&self) -> &TcpStream;
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Standing {
    /// More requests may be sent.
    Open,
    /// The other side takes no more requests; nothing is under way.
    Ended,
}

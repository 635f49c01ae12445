//! The turn of a connection: how it ends, and what may be left of it for the next one.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The socket has no more to give or take.
    Waiting,
    /// There is more to do; it is to be visited again.
    Unfinished,
    /// The connection is over.
    Over,
}

/// Bytes on their way out.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Adds bytes.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes what the socket takes; tells whether that was all.
    pub(super) fn flush(&mut self, mut socket: &TcpStream) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match ready(socket.write(&self.bytes[self.sent..]))? {
                None => return Ok(false),
                Some(count) => self.sent += count,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(true)
    }
}

/// None for "not now".
pub(super) fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

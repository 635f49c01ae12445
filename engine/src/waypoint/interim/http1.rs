//! Interim answers between the messages of an HTTP/1 connection.

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    task::{Context, Poll, ready},
};

use http::{HeaderMap, StatusCode};

use crate::{limits::INTERIM_BYTES_MAX, runtime::TcpStream};

/// Interim answers on their way to an HTTP/1 client; shared by who serves its connection and who moves its bytes.
#[derive(Default)]
pub(crate) struct Http1Interims {
    waiting: RefCell<Vec<u8>>,
    /// Everything that HTTP had to say is written: what is put in now stands between two messages.
    flushed: Cell<bool>,
}

impl Http1Interims {
    /// It is HTTP/1 that is spoken, and nothing is written yet.
    pub(crate) fn begin(&self) {
        self.flushed.set(true);
    }

    /// HTTP writes.
    pub(crate) fn writes(&self) {
        self.flushed.set(false);
    }

    /// HTTP has nothing left to write.
    pub(crate) fn has_flushed(&self) {
        self.flushed.set(true);
    }

    /// Sends a head before the answer. Where the client has not taken what was before, or too much, nobody would miss a hint.
    pub(super) fn put(&self, status: StatusCode, headers: &HeaderMap) {
        let mut waiting = self.waiting.borrow_mut();
        if !self.flushed.get() || waiting.len() > INTERIM_BYTES_MAX {
            return;
        }
        waiting.extend_from_slice(b"HTTP/1.1 ");
        waiting.extend_from_slice(status.as_str().as_bytes());
        waiting.push(b' ');
        waiting.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
        waiting.extend_from_slice(b"\r\n");
        for (name, value) in headers {
            waiting.extend_from_slice(name.as_str().as_bytes());
            waiting.extend_from_slice(b": ");
            waiting.extend_from_slice(value.as_bytes());
            waiting.extend_from_slice(b"\r\n");
        }
        waiting.extend_from_slice(b"\r\n");
    }

    /// Writes what waits, before anything else is written.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
    ) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting.borrow_mut();
        while !waiting.is_empty() {
            ready!(socket.poll_writable(cx));
            match socket.try_write(&waiting) {
                Ok(written) => drop(waiting.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

//! What a tunnel is about to send: sealed records the socket has not taken yet and, behind them, one
//! record still open for small frames.
//!
//! ```text
//! bytes: │ sent │ sealed, unsent … │ [5 header][frames of this turn …          │ ← push appends
//!               ▲ sent             ▲ open
//! ```
//!
//! Frames of one turn of the shard's loop share records and leave in one write. The buffer comes
//! from the shard's spare buffers and goes back as soon as everything is sent, so that an idle tunnel
//! holds none.

use std::io::{ErrorKind, IoSlice};

use ringway_protocols::tls::{
    self, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_BYTES_MAX, RECORD_TRAILER_BYTES, Records,
};

use crate::{buffers, limits::COALESCED_BYTES_MAX, runtime::TcpStream};

/// See the module's drawing.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    open: Option<usize>,
    /// The socket was full when it was last written to.
    blocked: bool,
    failed: Option<ErrorKind>,
}

impl Outgoing {
    /// Appends plaintext to the open record, sealing each record that becomes full.
    ///
    /// # Errors
    /// When the record layer can seal no more.
    pub(super) fn push(
        &mut self,
        mut plaintext: &[u8],
        records: &mut Records,
    ) -> Result<(), tls::Error> {
        while !plaintext.is_empty() {
            let open = self.open_record();
            let held = self.bytes.len() - open - RECORD_HEADER_BYTES;
            let taken = plaintext.len().min(RECORD_PLAINTEXT_BYTES_MAX - held);
            self.bytes.extend_from_slice(&plaintext[..taken]);
            plaintext = &plaintext[taken..];
            if held + taken == RECORD_PLAINTEXT_BYTES_MAX {
                self.seal(records)?;
            }
        }
        Ok(())
    }

    /// Puts records that the TLS layer sealed by itself (answers to key updates) where their sequence
    /// number belongs: behind what is sealed, before what is still open.
    pub(super) fn push_sealed(&mut self, sealed: &[u8]) {
        self.take_buffer();
        let at = self.open.unwrap_or(self.bytes.len());
        self.bytes.splice(at..at, sealed.iter().copied());
        self.open = self.open.map(|open| open + sealed.len());
    }

    /// Seals the open record, if there is one.
    ///
    /// # Errors
    /// When the record layer can seal no more.
    pub(super) fn seal(&mut self, records: &mut Records) -> Result<(), tls::Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let end = self.bytes.len() + RECORD_TRAILER_BYTES;
        self.bytes.resize(end, 0);
        let sealed = records.seal(&mut self.bytes[open..]);
        if sealed.is_err() {
            // What is not sealed must never reach the socket.
            self.bytes.truncate(open);
        }
        sealed
    }

    /// Writes what is sealed. Returns whether nothing is left of it: all is out, or the socket [takes no more](Self::failed).
    pub(super) fn flush(&mut self, socket: &TcpStream) -> bool {
        debug_assert!(self.open.is_none(), "an open record cannot be sent");
        self.blocked = false;
        while self.sent < self.bytes.len() {
            match socket.try_write(&self.bytes[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.compact();
                    self.blocked = true;
                    return false;
                }
                Err(error) => return self.fail(error.kind()),
            }
        }
        self.give_buffer_back();
        true
    }

    /// Writes what is sealed here and then `sealed`, which lies in the shard's scratch; keeps a copy of
    /// what the socket did not take. Returns what [`flush`](Self::flush) does.
    pub(super) fn flush_with(&mut self, sealed: &[u8], socket: &TcpStream) -> bool {
        debug_assert!(self.open.is_none(), "an open record cannot be sent");
        let before = self.bytes.len() - self.sent;
        let written = match socket
            .try_writev(&[IoSlice::new(&self.bytes[self.sent..]), IoSlice::new(sealed)])
        {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return self.fail(error.kind()),
        };
        if written < before {
            self.sent += written;
            self.bytes.extend_from_slice(sealed);
            self.blocked = true;
            return false;
        }
        self.bytes.clear();
        self.sent = 0;
        let rest = &sealed[written - before..];
        if rest.is_empty() {
            self.give_buffer_back();
            return true;
        }
        self.take_buffer();
        self.bytes.extend_from_slice(rest);
        self.flush(socket)
    }

    /// Why the socket takes no more, and never will. What the peer said before it closed may still be there to be read.
    pub(super) fn failed(&self) -> Option<ErrorKind> {
        self.failed
    }

    fn fail(&mut self, why: ErrorKind) -> bool {
        self.failed.get_or_insert(why);
        self.give_buffer_back();
        true
    }

    /// Whether so much is here that it had better go now than at the turn's end, and may.
    pub(super) fn is_worth_a_write(&self) -> bool {
        self.bytes.len() >= COALESCED_BYTES_MAX && !self.blocked
    }

    /// Bytes that wait for the socket.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether a record is open, that is, whether this turn's end has something to seal.
    pub(super) fn has_open_record(&self) -> bool {
        self.open.is_some()
    }

    fn open_record(&mut self) -> usize {
        if let Some(open) = self.open {
            return open;
        }
        self.take_buffer();
        let open = self.bytes.len();
        self.bytes.resize(open + RECORD_HEADER_BYTES, 0);
        self.open = Some(open);
        open
    }

    /// Drops what was sent when that is at least half of the buffer, so that a slow peer costs one
    /// copy of a byte at most on average, and the buffer does not grow for ever.
    fn compact(&mut self) {
        if self.sent * 2 >= self.bytes.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn take_buffer(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers::take();
        }
    }

    fn give_buffer_back(&mut self) {
        self.sent = 0;
        buffers::give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.give_buffer_back();
    }
}

//! The protocol machines of a tunnel and the bytes between them: records outside, frames inside.

use std::{io, ops::Range};

use ringway_protocols::{
    hbone::Connection,
    tls::{Opened, Records},
};

use super::{TunnelError, outgoing::Outgoing};
use crate::{buffers, limits::TUNNEL_BACKLOG_BYTES_MAX};

/// The protocol machines and their bytes.
pub(super) struct Core {
    pub(super) records: Records,
    pub(super) machine: Connection,
    /// The part of a record that has arrived so far.
    pub(super) received: Vec<u8>,
    /// Nobody has looked yet whether whole records came behind the handshake.
    pub(super) unseen: bool,
    pub(super) outgoing: Outgoing,
}

/// What opening every complete record of a read came to.
pub(super) struct OpenedAll {
    pub(super) plaintexts: Vec<Range<usize>>,
    pub(super) consumed: usize,
    /// An error, or the peer's close, that holds once the plaintexts before it are dealt with.
    pub(super) end: Result<(), TunnelError>,
}

impl Core {
    pub(super) fn open_all(&mut self, arrived: &mut [u8]) -> OpenedAll {
        let mut opened = OpenedAll { plaintexts: Vec::new(), consumed: 0, end: Ok(()) };
        loop {
            let at = opened.consumed;
            match self.records.open(&mut arrived[at..]) {
                Ok(Opened::Incomplete { .. }) => break,
                Ok(Opened::Data { consumed, plaintext }) => {
                    opened.plaintexts.push(at + plaintext.start..at + plaintext.end);
                    opened.consumed += consumed;
                }
                Ok(Opened::Control { consumed }) => {
                    opened.consumed += consumed;
                    self.take_record_output();
                }
                Ok(Opened::Closed { consumed }) => {
                    opened.consumed += consumed;
                    opened.end = Err(TunnelError::Closed);
                    break;
                }
                Err(error) => {
                    self.take_record_output();
                    opened.end = Err(error.into());
                    break;
                }
            }
        }
        opened
    }

    /// What it means that a read brought nothing. Where nothing can be sent any more, that is the end: what had come before was
    /// read first.
    pub(super) fn read_nothing(&self, outcome: io::Result<usize>) -> Result<(), TunnelError> {
        match (self.outgoing.failed(), outcome) {
            (Some(why), _) => Err(TunnelError::Io(why)),
            (None, Ok(_)) => Err(TunnelError::Cut),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            (None, Err(error)) => Err(TunnelError::Io(error.kind())),
        }
    }

    /// Keeps the part of a record that has arrived; holds no buffer when there is none.
    pub(super) fn keep(&mut self, partial: &[u8]) {
        if partial.is_empty() {
            buffers::give_back(std::mem::take(&mut self.received));
            return;
        }
        if self.received.capacity() == 0 {
            self.received = buffers::take();
        }
        self.received.extend_from_slice(partial);
    }

    /// Frames the machine has queued join the open record, and it is sealed. While the socket takes
    /// nothing they stay where they are: the machine bounds what a peer provokes without reading.
    pub(super) fn seal_output(&mut self) -> Result<(), TunnelError> {
        if self.outgoing.backlog_bytes() < TUNNEL_BACKLOG_BYTES_MAX {
            self.push_output()?;
        }
        self.outgoing.seal(&mut self.records)?;
        Ok(())
    }

    /// What the record layer has to say for itself: key updates, answers to them, an alert.
    fn take_record_output(&mut self) {
        let mut sealed = Vec::new();
        if self.records.take_output(&mut sealed) {
            self.outgoing.push_sealed(&sealed);
        }
    }

    /// Frames the machine has queued join the open record; what is pushed next comes behind them.
    pub(super) fn push_output(&mut self) -> Result<(), TunnelError> {
        self.take_record_output();
        if self.machine.has_output() {
            let mut frames = buffers::take();
            self.machine.take_output(&mut frames);
            let pushed = self.outgoing.push(&frames, &mut self.records);
            buffers::give_back(frames);
            pushed?;
        }
        Ok(())
    }
}

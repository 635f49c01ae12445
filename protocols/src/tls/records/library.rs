//! The record layer of rustls itself, behind the same interface.
//!
//! Slower, by one copy and one allocation each way. It is here to be chosen when ours is in doubt, and
//! to be held against ours in every test.

use super::{OpenedRecord, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_BYTES_MAX, RECORD_TRAILER_BYTES};
use crate::tls::{
    bounds::HELD_BYTES_MAX,
    connection::{Ask, Connection, Step},
    error::{Error, Misbehaviour},
};

/// A record that carries an alert.
const ALERT_RECORD_BYTES: usize = RECORD_HEADER_BYTES + 2 + RECORD_TRAILER_BYTES;

/// See the module's text.
pub(super) struct LibraryRecords {
    connection: Connection,
    /// Records that rustls may want to see again: pieces of a handshake message.
    held: Vec<u8>,
    output: Vec<u8>,
    sealed: u64,
    records_per_key: u64,
}

impl LibraryRecords {
    pub(super) fn new(connection: Connection, records_per_key: u64) -> Self {
        Self { connection, held: Vec::new(), output: Vec::new(), sealed: 0, records_per_key }
    }

    pub(super) fn seal(&mut self, record: &mut [u8]) -> Result<(), Error> {
        let plaintext = RECORD_HEADER_BYTES..record.len() - RECORD_TRAILER_BYTES;
        let mut sealed = vec![0; record.len()];
        let ask = Ask::Encrypt(&record[plaintext], &mut sealed);
        // Were a key update to go first, the record would not fit: then it is for `take_output`.
        let written = self.connection.ask(&mut self.held, ask)?;
        assert_eq!(written, record.len(), "one record comes out for one that went in");
        record.copy_from_slice(&sealed);
        self.sealed += 1;
        Ok(())
    }

    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<OpenedRecord, Error> {
        self.held.extend_from_slice(record);
        if self.held.len() > HELD_BYTES_MAX {
            return Err(Misbehaviour::MessageTooLong.into());
        }
        let mut opened = None;
        loop {
            let (discard, step) = self.connection.step(&mut self.held, &mut self.output);
            self.held.drain(..discard);
            match step? {
                Step::Again => {}
                Step::Data(plaintext) => {
                    let fits = plaintext.len() <= RECORD_PLAINTEXT_BYTES_MAX
                        && RECORD_HEADER_BYTES + plaintext.len() <= record.len();
                    assert!(fits && opened.is_none(), "a record opens to less than itself, once");
                    record[RECORD_HEADER_BYTES..][..plaintext.len()].copy_from_slice(&plaintext);
                    opened = Some(OpenedRecord::Data(plaintext.len()));
                }
                Step::PeerClosed => opened = Some(OpenedRecord::Closed),
                Step::Traffic | Step::Blocked => break,
            }
            if matches!(opened, Some(OpenedRecord::Closed)) {
                break;
            }
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        Ok(opened.unwrap_or(OpenedRecord::Control))
    }

    pub(super) fn take_output(&mut self, sealing: bool, out: &mut Vec<u8>) {
        if sealing {
            self.take_queued();
            if self.sealed >= self.records_per_key
                && self.connection.ask(&mut self.held, Ask::Refresh).is_ok()
            {
                self.sealed = 0;
                self.take_queued();
            }
            // rustls puts an update that it owes in front of the next record. One that fits nowhere
            // brings out the update alone.
            let _ = self.connection.ask(&mut self.held, Ask::Encrypt(&[0], &mut []));
            self.take_queued();
        }
        out.append(&mut self.output);
    }

    /// Takes what rustls has queued to be sent.
    fn take_queued(&mut self) {
        while self.connection.common().wants_write() {
            // Nothing is received here, so there is nothing to drop and nothing that could fail.
            let _ = self.connection.step(&mut self.held, &mut self.output);
        }
    }

    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        let mut record = [0; ALERT_RECORD_BYTES];
        if let Ok(written) = self.connection.ask(&mut self.held, Ask::Close(&mut record)) {
            out.extend_from_slice(&record[..written]);
        }
    }

    pub(super) fn queue_alert(&mut self) {
        self.connection.take_alert(&mut self.output);
    }
}

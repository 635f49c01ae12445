//! Our own record layer: one pass of the AEAD over the bytes where they lie.
//!
//! rustls keeps what is not traffic: it derives the next keys and stores tickets.

use std::time::SystemTime;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, client::ClientConnectionData,
    kernel::KernelConnection, server::ServerConnectionData,
};

use super::{
    APPLICATION_DATA, OpenedRecord, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_BYTES_MAX,
    RECORD_TRAILER_BYTES, RECORDS_PER_KEY_MAX, TAG_BYTES, Terms,
};
use crate::tls::{
    bounds::MESSAGE_BYTES_MAX,
    connection::Connection,
    error::{Error, Misbehaviour},
};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// See the module's text.
pub(super) struct OwnRecords {
    sealing: Direction,
    opening: Direction,
    kernel: Kernel,
    update: Update,
    records_per_key: u64,
    /// A message behind the handshake that has arrived in part.
    message: Vec<u8>,
    alert: Option<AlertDescription>,
}

enum Kernel {
    /// A client also needs to know how long to keep tickets.
    Client(Box<(KernelConnection<ClientConnectionData>, Terms, Option<SystemTime>)>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

/// Which key updates are on their way.
#[derive(Default)]
struct Update {
    /// The peer wants our next key: an update is to be sent.
    wanted_by_peer: bool,
    /// We have asked for the peer's next key, and it has not come.
    asked: bool,
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => return Err(unusable("a cipher suite that was not offered")),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .map_err(|_| unusable("a traffic key of the wrong length"))?;
        let iv = iv.as_ref().try_into().map_err(|_| unusable("an IV of the wrong length"))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record (RFC 8446 §5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

fn unusable(why: &str) -> Error {
    Error::Handshake(rustls::Error::General(why.to_owned()))
}

impl OwnRecords {
    pub(super) fn new(
        connection: Connection,
        terms: Terms,
        peer_not_after: Option<SystemTime>,
    ) -> Result<Self, Error> {
        let records_per_key = terms.records_per_key.min(RECORDS_PER_KEY_MAX / 2);
        let (secrets, kernel) = match connection {
            Connection::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (secrets, Kernel::Client(Box::new((kernel, terms, peer_not_after))))
            }
            Connection::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (secrets, Kernel::Server(Box::new(kernel)))
            }
        };
        Ok(Self {
            sealing: Direction::new(secrets.tx)?,
            opening: Direction::new(secrets.rx)?,
            kernel,
            update: Update::default(),
            records_per_key,
            message: Vec::new(),
            alert: None,
        })
    }

    pub(super) fn seal(&mut self, record: &mut [u8]) -> Result<(), Error> {
        self.seal_as(record, APPLICATION_DATA)
    }

    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<OpenedRecord, Error> {
        if self.opening.sequence >= RECORDS_PER_KEY_MAX {
            return Err(Misbehaviour::KeyNotRenewed.into());
        }
        let (header, sealed) =
            record.split_first_chunk_mut::<RECORD_HEADER_BYTES>().expect("a whole record");
        let nonce = self.opening.nonce();
        let inner = self
            .opening
            .key
            .open_in_place(nonce, Aad::from(*header), sealed)
            .map_err(|_| Error::BadRecord)?;
        // Content, type and padding together (RFC 8446 §5.2, §5.4).
        if inner.len() > RECORD_PLAINTEXT_BYTES_MAX + 1 {
            return Err(Misbehaviour::RecordTooLong.into());
        }
        // The content type is the last byte that is not padding (RFC 8446 §5.4).
        let end = inner.iter().rposition(|byte| *byte != 0);
        let end = end.ok_or(Misbehaviour::NoContentType)?;
        let (kind, content) = (inner[end], &inner[..end]);
        // RFC 8446 §5.1: no other record between the pieces of a handshake message.
        if kind != HANDSHAKE && !self.message.is_empty() {
            return Err(Misbehaviour::MessageInterrupted.into());
        }
        match kind {
            APPLICATION_DATA => Ok(OpenedRecord::Data(end)),
            ALERT => open_alert(content),
            HANDSHAKE if content.is_empty() => Err(Misbehaviour::EmptyMessage.into()),
            HANDSHAKE => {
                self.message.extend_from_slice(content);
                self.take_messages()?;
                Ok(OpenedRecord::Control)
            }
            _ => Err(Misbehaviour::WrongRecordType.into()),
        }
    }

    pub(super) fn take_output(&mut self, sealing: bool, out: &mut Vec<u8>) {
        if let Some(alert) = self.alert.take() {
            self.seal_alert(2, alert, out);
        }
        if !sealing {
            return;
        }
        let ask = self.opening.sequence >= self.records_per_key && !self.update.asked;
        let due = self.sealing.sequence >= self.records_per_key;
        if ask || due || self.update.wanted_by_peer {
            // If it fails, the old key goes on until it is exhausted, which `seal` reports.
            let _ = self.renew_sealing_key(ask, out);
        }
    }

    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.seal_alert(1, AlertDescription::CloseNotify, out);
    }

    pub(super) fn queue_alert(&mut self, error: &Error) {
        self.alert = error.alert();
    }

    fn seal_as(&mut self, record: &mut [u8], kind: u8) -> Result<(), Error> {
        if self.sealing.sequence >= RECORDS_PER_KEY_MAX {
            return Err(Error::KeysExhausted);
        }
        let length = record.len() - RECORD_HEADER_BYTES;
        let [high, low] = u16::try_from(length).expect("a record fits its length").to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        record[..RECORD_HEADER_BYTES].copy_from_slice(&header);
        let (inner, tag) = record[RECORD_HEADER_BYTES..].split_at_mut(length - TAG_BYTES);
        *inner.last_mut().expect("the type is part of it") = kind;
        let nonce = self.sealing.nonce();
        let sealed = self
            .sealing
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), inner)
            .map_err(|_| Error::KeysExhausted)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    fn seal_small(&mut self, content: &[u8], kind: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.resize(start + RECORD_HEADER_BYTES, 0);
        out.extend_from_slice(content);
        out.resize(out.len() + RECORD_TRAILER_BYTES, 0);
        let sealed = self.seal_as(&mut out[start..], kind);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }

    fn seal_alert(&mut self, level: u8, alert: AlertDescription, out: &mut Vec<u8>) {
        // Without a key the peer finds the connection cut, which is all that is left to tell.
        let _ = self.seal_small(&[level, u8::from(alert)], ALERT, out);
    }

    /// Tells the peer, with the old key, that the next record has the next one (RFC 8446 §4.6.3).
    fn renew_sealing_key(&mut self, ask: bool, out: &mut Vec<u8>) -> Result<(), Error> {
        let next = match &mut self.kernel {
            Kernel::Client(client) => client.0.update_tx_secret(),
            Kernel::Server(kernel) => kernel.update_tx_secret(),
        };
        let next = Direction::new(next?)?;
        self.seal_small(&[KEY_UPDATE, 0, 0, 1, u8::from(ask)], HANDSHAKE, out)?;
        self.sealing = next;
        self.update.wanted_by_peer = false;
        self.update.asked |= ask;
        Ok(())
    }

    fn take_messages(&mut self) -> Result<(), Error> {
        while let &[kind, a, b, c, ref rest @ ..] = self.message.as_slice() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MESSAGE_BYTES_MAX {
                return Err(Misbehaviour::MessageTooLong.into());
            }
            if rest.len() < length {
                return Ok(());
            }
            let mut body: Vec<u8> = self.message.drain(..4 + length).skip(4).collect();
            match (kind, &mut self.kernel) {
                (NEW_SESSION_TICKET, Kernel::Client(client)) => {
                    let (kernel, terms, peer_not_after) = &mut **client;
                    if keep_ticket(&mut body, terms.resumable_seconds(*peer_not_after)) {
                        kernel.handle_new_session_ticket(&body)?;
                    }
                }
                (KEY_UPDATE, _) => self.handle_key_update(&body)?,
                _ => return Err(Misbehaviour::UnexpectedMessage.into()),
            }
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    fn handle_key_update(&mut self, body: &[u8]) -> Result<(), Error> {
        // RFC 8446 §5.1: messages must not span key changes.
        if !self.message.is_empty() {
            return Err(Misbehaviour::KeyUpdateNotAlone.into());
        }
        match body {
            [0] => {}
            [1] => self.update.wanted_by_peer = true,
            _ => return Err(Misbehaviour::MalformedKeyUpdate.into()),
        }
        let next = match &mut self.kernel {
            Kernel::Client(client) => client.0.update_rx_secret(),
            Kernel::Server(kernel) => kernel.update_rx_secret(),
        };
        self.opening = Direction::new(next?)?;
        self.update.asked = false;
        Ok(())
    }
}

fn open_alert(content: &[u8]) -> Result<OpenedRecord, Error> {
    match content {
        [] => Err(Misbehaviour::EmptyMessage.into()),
        // The level means nothing any more (RFC 8446 §6).
        [_, code] => match AlertDescription::from(*code) {
            AlertDescription::CloseNotify => Ok(OpenedRecord::Closed),
            // A close_notify follows (RFC 8446 §6.1).
            AlertDescription::UserCanceled => Ok(OpenedRecord::Control),
            alert => Err(Error::PeerAlert(alert)),
        },
        _ => Err(Misbehaviour::MalformedAlert.into()),
    }
}

/// Shortens a ticket's lifetime to `seconds`. Returns whether it is worth keeping: a lifetime of 0 means
/// to drop it (RFC 8446 §4.6.1), and rustls would take it to mean for ever.
fn keep_ticket(body: &mut [u8], seconds: u32) -> bool {
    // What is too short for a ticket is for rustls to refuse.
    let Some(lifetime) = body.first_chunk_mut::<4>() else { return true };
    let seconds = seconds.min(u32::from_be_bytes(*lifetime));
    *lifetime = seconds.to_be_bytes();
    seconds > 0
}

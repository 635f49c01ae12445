//! Traffic records, sealed and opened in the caller's buffers (RFC 8446 §5).

use std::ops::Range;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ExtractedSecrets, client::ClientConnectionData,
    kernel::KernelConnection, server::ServerConnectionData,
};

use super::{error::Error, handshake::Peer};
use crate::identity::Identity;

/// Type, version and length in front of each record.
pub const RECORD_HEADER_BYTES: usize = 5;
/// The inner content type and the tag behind each plaintext.
pub const RECORD_TRAILER_BYTES: usize = 1 + TAG_BYTES;
/// The most plaintext one record carries.
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = 16_384;

const TAG_BYTES: usize = 16;
/// What a peer may put into one record: plaintext, type, padding and tag (RFC 8446 §5.2).
pub(super) const CIPHERTEXT_BYTES_MAX: usize = RECORD_PLAINTEXT_BYTES_MAX + 256;
/// Records sealed with one key before it is renewed. AES-GCM allows 2^24.5 full-sized records
/// (RFC 8446 §5.5); this is well below.
const RECORDS_PER_KEY_MAX: u64 = 1 << 23;
/// Records without content in a row that a peer may send.
const EMPTY_RECORDS_MAX: u32 = 32;
/// The longest message behind the handshake that is put together from several records: a ticket.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// What the first record of received bytes was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Not all of it is here: this many bytes are needed in all.
    Incomplete {
        /// The record's whole length, or that of its header while that is not here.
        needed: usize,
    },
    /// Plaintext, where it lies.
    Data {
        /// Bytes of the record.
        consumed: usize,
        /// The plaintext within it.
        plaintext: Range<usize>,
    },
    /// A ticket or a key update; nothing for the caller but perhaps something to send.
    Control {
        /// Bytes of the record.
        consumed: usize,
    },
    /// The peer has closed in order.
    Closed {
        /// Bytes of the record.
        consumed: usize,
    },
}

/// The traffic of one session after its handshake.
pub struct Records {
    peer: Peer,
    suite: &'static str,
    kernel: Kernel,
    sealing: Direction,
    opening: Direction,
    /// A message behind the handshake that has arrived in part.
    message: Vec<u8>,
    empty_records: u32,
    output: Vec<u8>,
}

enum Kernel {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
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
            _ => return Err(Error::PeerMisbehaved("a cipher suite we did not offer")),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::KeysExhausted)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::KeysExhausted)?;
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

impl Records {
    pub(super) fn client(
        peer: Peer,
        secrets: ExtractedSecrets,
        kernel: KernelConnection<ClientConnectionData>,
    ) -> Result<Self, Error> {
        let suite = suite_name(kernel.negotiated_cipher_suite());
        Self::new(peer, suite, secrets, Kernel::Client(Box::new(kernel)))
    }

    pub(super) fn server(
        peer: Peer,
        secrets: ExtractedSecrets,
        kernel: KernelConnection<ServerConnectionData>,
    ) -> Result<Self, Error> {
        let suite = suite_name(kernel.negotiated_cipher_suite());
        Self::new(peer, suite, secrets, Kernel::Server(Box::new(kernel)))
    }

    fn new(
        peer: Peer,
        suite: &'static str,
        secrets: ExtractedSecrets,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        Ok(Self {
            peer,
            suite,
            kernel,
            sealing: Direction::new(secrets.tx)?,
            opening: Direction::new(secrets.rx)?,
            message: Vec::new(),
            empty_records: 0,
            output: Vec::new(),
        })
    }

    /// The identity the peer proved.
    pub fn peer(&self) -> Option<&Identity> {
        self.peer.identity.as_ref()
    }

    /// Whether the session was resumed.
    pub fn resumed(&self) -> bool {
        self.peer.resumed
    }

    /// The key exchange of the handshake.
    pub fn key_exchange(&self) -> &'static str {
        self.peer.key_exchange
    }

    /// The cipher suite.
    pub fn cipher_suite(&self) -> &'static str {
        self.suite
    }

    /// Seals one record in place: `record` is exactly header, plaintext and trailer.
    ///
    /// # Errors
    /// When the keys are exhausted and cannot be renewed.
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), Error> {
        self.seal_as(record, APPLICATION_DATA)
    }

    /// Opens the first record of `received` in place.
    ///
    /// # Errors
    /// When the peer broke the protocol, the record does not open, or it is a fatal alert.
    pub fn open(&mut self, received: &mut [u8]) -> Result<Opened, Error> {
        let Some(header) = received.first_chunk::<RECORD_HEADER_BYTES>() else {
            return Ok(Opened::Incomplete { needed: RECORD_HEADER_BYTES });
        };
        let header = *header;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != APPLICATION_DATA {
            return Err(Error::PeerMisbehaved("a record of the wrong type"));
        }
        if length > CIPHERTEXT_BYTES_MAX {
            return Err(Error::PeerMisbehaved("a record that is too long"));
        }
        let consumed = RECORD_HEADER_BYTES + length;
        if received.len() < consumed {
            return Ok(Opened::Incomplete { needed: consumed });
        }
        let sealed = &mut received[RECORD_HEADER_BYTES..consumed];
        let nonce = self.opening.nonce();
        let inner = self
            .opening
            .key
            .open_in_place(nonce, Aad::from(header), sealed)
            .map_err(|_| Error::BadRecord)?;
        // The content type is the last byte that is not padding (RFC 8446 §5.4).
        let end = inner.iter().rposition(|byte| *byte != 0);
        let end = end.ok_or(Error::PeerMisbehaved("a record without a content type"))?;
        if end > RECORD_PLAINTEXT_BYTES_MAX {
            return Err(Error::PeerMisbehaved("a record that is too long"));
        }
        let (kind, content) = (inner[end], &inner[..end]);
        if content.is_empty() {
            self.empty_records += 1;
            if self.empty_records > EMPTY_RECORDS_MAX {
                return Err(Error::PeerMisbehaved("too many empty records in a row"));
            }
        } else {
            self.empty_records = 0;
        }
        match kind {
            APPLICATION_DATA => {
                let plaintext = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + end;
                Ok(Opened::Data { consumed, plaintext })
            }
            ALERT => alert(content, consumed),
            HANDSHAKE => {
                self.message.extend_from_slice(content);
                self.take_messages()?;
                Ok(Opened::Control { consumed })
            }
            _ => Err(Error::PeerMisbehaved("a record of an unknown type")),
        }
    }

    /// Moves records that were sealed here into `out`; they go before whatever is sealed next.
    pub fn take_output(&mut self, out: &mut Vec<u8>) -> bool {
        let any = !self.output.is_empty();
        out.append(&mut self.output);
        any
    }

    /// Appends the alert that says we close in order.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        // Without a key the peer finds the connection cut, which is all that is left to tell.
        let _ = self.seal_small(&[1, 0], ALERT, out);
    }

    fn seal_as(&mut self, record: &mut [u8], kind: u8) -> Result<(), Error> {
        if self.sealing.sequence >= RECORDS_PER_KEY_MAX {
            return Err(Error::KeysExhausted);
        }
        let length = record.len() - RECORD_HEADER_BYTES;
        debug_assert!(length - RECORD_TRAILER_BYTES <= RECORD_PLAINTEXT_BYTES_MAX);
        let [high, low] = u16::try_from(length).expect("a record fits its length").to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        record[..RECORD_HEADER_BYTES].copy_from_slice(&header);
        let tag_at = record.len() - TAG_BYTES;
        record[tag_at - 1] = kind;
        let nonce = self.sealing.nonce();
        let (plaintext, tag) = record[RECORD_HEADER_BYTES..].split_at_mut(length - TAG_BYTES);
        let sealed = self
            .sealing
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), plaintext)
            .map_err(|_| Error::KeysExhausted)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    fn seal_small(&mut self, content: &[u8], kind: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.resize(start + RECORD_HEADER_BYTES, 0);
        out.extend_from_slice(content);
        out.resize(out.len() + RECORD_TRAILER_BYTES, 0);
        self.seal_as(&mut out[start..], kind)
    }

    fn take_messages(&mut self) -> Result<(), Error> {
        while let &[kind, a, b, c, ref rest @ ..] = self.message.as_slice() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MESSAGE_BYTES_MAX {
                return Err(Error::PeerMisbehaved("a handshake message that is too long"));
            }
            if rest.len() < length {
                break;
            }
            let body = rest[..length].to_vec();
            self.message.drain(..4 + length);
            match (kind, &mut self.kernel) {
                (NEW_SESSION_TICKET, Kernel::Client(kernel)) => {
                    kernel.handle_new_session_ticket(&body).map_err(Error::Handshake)?;
                }
                (KEY_UPDATE, _) => self.key_update(&body)?,
                _ => return Err(Error::PeerMisbehaved("an unexpected handshake message")),
            }
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    fn key_update(&mut self, body: &[u8]) -> Result<(), Error> {
        let requested = match body {
            [0] => false,
            [1] => true,
            _ => return Err(Error::PeerMisbehaved("a malformed key update")),
        };
        let next = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_rx_secret(),
            Kernel::Server(kernel) => kernel.update_rx_secret(),
        };
        self.opening = Direction::new(next.map_err(Error::Handshake)?)?;
        if requested {
            let mut output = std::mem::take(&mut self.output);
            self.seal_small(&[KEY_UPDATE, 0, 0, 1, 0], HANDSHAKE, &mut output)?;
            self.output = output;
            let next = match &mut self.kernel {
                Kernel::Client(kernel) => kernel.update_tx_secret(),
                Kernel::Server(kernel) => kernel.update_tx_secret(),
            };
            self.sealing = Direction::new(next.map_err(Error::Handshake)?)?;
        }
        Ok(())
    }
}

fn alert(content: &[u8], consumed: usize) -> Result<Opened, Error> {
    match content {
        [_, 0] => Ok(Opened::Closed { consumed }),
        [_, code] => Err(Error::PeerAlert(AlertDescription::from(*code))),
        _ => Err(Error::PeerMisbehaved("a malformed alert")),
    }
}

fn suite_name(suite: rustls::SupportedCipherSuite) -> &'static str {
    match suite.suite() {
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        _ => "unknown",
    }
}

//! Traffic records, sealed and opened in the caller's buffers (RFC 8446 §5).
//!
//! ```text
//!           │ 5 header │ plaintext │ 1 type │ 16 tag │
//!  seal()   ──── filled ─▶          ◀─── filled ─────
//! ```
//!
//! There are two record layers behind one interface. Ours ([`own`]) seals and opens where the bytes lie.
//! The other ([`library`]) leaves the keys with rustls and copies; it is what the first is held against.
//!
//! Both put out records of their own (key updates, alerts) only through [`Records::take_output`]: that is
//! the one place where a key may change under the caller, so that no record can overtake an update.

mod library;
mod own;

use std::{ops::Range, sync::Arc, time::SystemTime};

use rustls::{
    CertificateError, CommonState, NamedGroup, SupportedCipherSuite, time_provider::TimeProvider,
};

use self::{library::LibraryRecords, own::OwnRecords};
use super::{
    bounds::{RECORDS_PER_KEY, RECORDS_WITHOUT_DATA_MAX},
    connection::Connection,
    credentials::Credentials,
    error::{Error, Misbehaviour},
    peer::{Acceptance, Peer},
    trust::system_time,
};
use crate::identity::Identity;

/// Type, version and length in front of each record.
pub const RECORD_HEADER_BYTES: usize = 5;
/// The inner content type and the tag behind each plaintext.
pub const RECORD_TRAILER_BYTES: usize = 1 + TAG_BYTES;
/// The most plaintext one record carries.
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = 16_384;

const TAG_BYTES: usize = 16;
/// What a peer may put into one record: plaintext, type, padding and tag (RFC 8446 §5.2).
const CIPHERTEXT_BYTES_MAX: usize = RECORD_PLAINTEXT_BYTES_MAX + 256;
/// What AES-GCM allows for one key (RFC 8446 §5.5): 2^24.5 records of full size.
const RECORDS_PER_KEY_MAX: u64 = 23_726_566;
const _: () = assert!(RECORDS_PER_KEY * 2 < RECORDS_PER_KEY_MAX);

const APPLICATION_DATA: u8 = 23;

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
    /// The peer has closed in order. Whatever comes behind is ignored.
    Closed {
        /// Bytes of the record.
        consumed: usize,
    },
}

/// The traffic of one session after its handshake.
pub struct Records {
    peer: Box<Facts>,
    layer: Layer,
    end: End,
    without_data: u32,
}

enum Layer {
    Own(OwnRecords),
    Library(LibraryRecords),
}

/// What has ended, apart for both directions.
#[derive(Clone, Copy, Default)]
struct End {
    sealing: bool,
    peer_closed: bool,
    failed: bool,
}

/// What does not change any more.
struct Facts {
    peer: Peer,
    suite: Option<SupportedCipherSuite>,
}

/// What the credentials set for every session made with them.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) records_per_key: u64,
    pub(super) time: Arc<dyn TimeProvider>,
    pub(super) own_not_after: SystemTime,
}

impl Terms {
    /// How many seconds a session may be resumed from now on: no longer than both certificates live.
    fn resumable_seconds(&self, peer_not_after: Option<SystemTime>) -> u32 {
        let Some(now) = self.time.current_time().map(system_time) else { return 0 };
        let ends = peer_not_after.unwrap_or(now).min(self.own_not_after);
        let left = ends.duration_since(now).unwrap_or_default();
        u32::try_from(left.as_secs()).unwrap_or(u32::MAX)
    }
}

impl Records {
    pub(super) fn own(peer: Peer, connection: Connection, terms: Terms) -> Result<Self, Error> {
        let facts = Facts::new(peer, connection.common());
        let layer = OwnRecords::new(connection, terms, facts.peer.not_after)?;
        Ok(Self::new(facts, Layer::Own(layer)))
    }

    pub(super) fn library(peer: Peer, connection: Connection, terms: &Terms) -> Self {
        let facts = Facts::new(peer, connection.common());
        let layer = LibraryRecords::new(connection, terms.records_per_key);
        Self::new(facts, Layer::Library(layer))
    }

    fn new(facts: Facts, layer: Layer) -> Self {
        Self { peer: Box::new(facts), layer, end: End::default(), without_data: 0 }
    }

    /// Seals one record in place: `record` is exactly header, plaintext and trailer.
    ///
    /// # Errors
    /// When this side has closed or failed, or when nobody took the output that renews the key.
    ///
    /// # Panics
    /// When `record` holds no plaintext, or more than [`RECORD_PLAINTEXT_BYTES_MAX`].
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), Error> {
        let plaintext = record.len().checked_sub(RECORD_HEADER_BYTES + RECORD_TRAILER_BYTES);
        let fits = plaintext.is_some_and(|bytes| (1..=RECORD_PLAINTEXT_BYTES_MAX).contains(&bytes));
        assert!(fits, "a record is header, plaintext and trailer");
        if self.end.sealing {
            return Err(Error::Closed);
        }
        match &mut self.layer {
            Layer::Own(own) => own.seal(record),
            Layer::Library(library) => library.seal(record),
        }
    }

    /// Opens the first record of `received` in place.
    ///
    /// # Errors
    /// When the peer broke the protocol, the record does not open, or it is a fatal alert. Then the
    /// session is over; the alert for the peer, if any, is in [`Self::take_output`].
    pub fn open(&mut self, received: &mut [u8]) -> Result<Opened, Error> {
        if self.end.failed {
            return Err(Misbehaviour::AfterTheEnd.into());
        }
        if self.end.peer_closed {
            // RFC 8446 §6.1: data behind a closure alert is ignored.
            return Ok(Opened::Closed { consumed: received.len() });
        }
        let opened = self.open_first(received);
        match &opened {
            Err(error) => self.fail(error),
            Ok(Opened::Closed { .. }) => self.end.peer_closed = true,
            Ok(_) => {}
        }
        opened
    }

    fn open_first(&mut self, received: &mut [u8]) -> Result<Opened, Error> {
        let Some(header) = received.first_chunk::<RECORD_HEADER_BYTES>() else {
            return Ok(Opened::Incomplete { needed: RECORD_HEADER_BYTES });
        };
        let &[kind, _, _, high, low] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        // Change cipher spec too, from now on (RFC 8446 §5).
        if kind != APPLICATION_DATA {
            return Err(Misbehaviour::WrongRecordType.into());
        }
        if length > CIPHERTEXT_BYTES_MAX {
            return Err(Misbehaviour::RecordTooLong.into());
        }
        let consumed = RECORD_HEADER_BYTES + length;
        let Some(record) = received.get_mut(..consumed) else {
            return Ok(Opened::Incomplete { needed: consumed });
        };
        let opened = match &mut self.layer {
            Layer::Own(own) => own.open(record)?,
            Layer::Library(library) => library.open(record)?,
        };
        let plaintext_bytes = match &opened {
            OpenedRecord::Data(plaintext_bytes) => *plaintext_bytes,
            OpenedRecord::Control => 0,
            OpenedRecord::Closed => return Ok(Opened::Closed { consumed }),
        };
        if plaintext_bytes > 0 {
            self.without_data = 0;
        } else {
            self.without_data += 1;
            if self.without_data > RECORDS_WITHOUT_DATA_MAX {
                return Err(Misbehaviour::RecordsWithoutData.into());
            }
        }
        Ok(match opened {
            OpenedRecord::Data(bytes) => {
                let plaintext = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + bytes;
                Opened::Data { consumed, plaintext }
            }
            _ => Opened::Control { consumed },
        })
    }

    /// Moves records of this layer's own into `out`: answers to key updates, key updates that are due,
    /// alerts. They go behind whatever was sealed before and before whatever is sealed next.
    ///
    /// Call it after [`Opened::Control`], after an error, and now and then while sending; before each
    /// flush is best. A sender that never does runs into [`Error::KeysExhausted`] in the end.
    pub fn take_output(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        match &mut self.layer {
            Layer::Own(own) => own.take_output(!self.end.sealing, out),
            Layer::Library(library) => library.take_output(!self.end.sealing, out),
        }
        out.len() > before
    }

    /// Appends what [`Self::take_output`] has and then the alert that says we close in order. After that
    /// nothing can be sealed.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.end.sealing {
            return;
        }
        self.take_output(out);
        match &mut self.layer {
            Layer::Own(own) => own.close_notify(out),
            Layer::Library(library) => library.close_notify(out),
        }
        self.end.sealing = true;
    }

    /// Ends both directions over `error`, and leaves the alert for it to be taken.
    pub(super) fn fail(&mut self, error: &Error) {
        if !self.end.sealing {
            match &mut self.layer {
                Layer::Own(own) => own.queue_alert(error),
                // rustls has queued its own, if it found the fault.
                Layer::Library(library) => library.queue_alert(),
            }
        }
        self.end = End { sealing: true, failed: true, ..self.end };
    }

    /// Judges the peer again, by what `credentials` trust at present. Nothing is done where that is what
    /// the peer was accepted by, and little where what has changed does not concern its chain.
    ///
    /// # Errors
    /// [`Error::PeerUntrusted`] when the peer would not be accepted now. Then the session is over; the
    /// alert that tells it is in [`Self::take_output`].
    pub fn judge_again(&mut self, credentials: &Credentials) -> Result<(), Error> {
        let Some(accepted) = &mut self.peer.peer.accepted else { return Ok(()) };
        let trust = credentials.trust();
        if Arc::ptr_eq(&accepted.trust, trust) {
            return Ok(());
        }
        let Acceptance { chain, role, trust: before } = accepted;
        let verdict = match credentials.options().time.current_time() {
            Some(now) => trust.verify_after(before, chain, now, *role).map_err(Error::from),
            None => Err(rustls::Error::FailedToGetCurrentTime.into()),
        };
        match verdict {
            Ok(()) => accepted.trust = trust.clone(),
            Err(ref error) => self.fail(error),
        }
        verdict
    }

    /// Ends the session because the peer's certificate has ended, and leaves the alert that says so to be taken.
    pub fn expire(&mut self) {
        self.fail(&Error::PeerUntrusted(CertificateError::Expired));
    }

    /// The identity the peer proved: of a server the first that was expected, of a client the first of
    /// our trust domain.
    pub fn peer(&self) -> Option<&Identity> {
        self.peer.peer.identity.as_ref()
    }

    /// When the certificate ends by which the peer proved it.
    pub fn peer_not_after(&self) -> Option<SystemTime> {
        self.peer.peer.not_after
    }

    /// Whether the session was resumed.
    pub fn resumed(&self) -> bool {
        self.peer.peer.resumed
    }

    /// The key exchange of the handshake.
    pub fn key_exchange(&self) -> &'static str {
        match self.peer.peer.key_exchange {
            Some(NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
            Some(NamedGroup::X25519) => "X25519",
            Some(NamedGroup::secp256r1) => "P-256",
            Some(NamedGroup::secp384r1) => "P-384",
            _ => "none",
        }
    }

    /// The cipher suite.
    pub fn cipher_suite(&self) -> &'static str {
        match self.peer.suite.map(|suite| suite.suite()) {
            Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
            Some(rustls::CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
            _ => "unknown",
        }
    }
}

impl Facts {
    fn new(peer: Peer, common: &CommonState) -> Self {
        Self { peer, suite: common.negotiated_cipher_suite() }
    }
}

/// What a record layer found in one whole record.
enum OpenedRecord {
    /// This many bytes of data, which lie behind the header now.
    Data(usize),
    Control,
    Closed,
}

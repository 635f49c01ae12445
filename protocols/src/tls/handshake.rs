//! One TLS handshake, over rustls' unbuffered interface.
//!
//! ```text
//!           advance()                     advance()
//! Shaking ────────────▶ Shaking … ───────────────────▶ Complete ──finish()──▶ Records
//!    └───────────────────────┴──────▶ Failed (the alert is in to_send)
//! ```
//!
//! What rustls does not insist on is checked when it is done and before anybody gets the records: that
//! both sides agreed on HTTP/2, and that a session taken up again still holds.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    CommonState, HandshakeKind, client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    bounds::{HANDSHAKE_BYTES_MAX, PEER_CHAIN_BYTES_MAX},
    connection::{Connection, Step},
    credentials::{ALPN, Credentials},
    error::{Error, Misbehaviour},
    options::RecordLayer,
    peer::{Acceptance, Peer},
    records::{RECORD_HEADER_BYTES, Records, Terms},
    trust::{PeerRole, validity},
    verifier::{ClientVerifier, ServerVerifier},
};
use crate::identity::Identity;

/// The name in our ClientHello's stead: none is sent and none is looked at.
const SERVER_NAME: &str = "hbone.invalid";

/// A handshake in progress.
pub struct Handshake {
    state: State,
    /// Whole records at the front of `received` that rustls has been shown and may want to see again.
    shown: usize,
    /// Bytes that the peer's handshake has taken.
    taken: usize,
    /// rustls can go no further without input.
    blocked: bool,
    verifier: Verifier,
    records: RecordLayer,
    terms: Terms,
}

enum State {
    Shaking(Connection),
    Complete(Box<Records>),
    Failed(Error),
}

enum Verifier {
    OfServer(Arc<ServerVerifier>),
    OfClient(Arc<ClientVerifier>),
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The peer's next bytes are needed.
    NeedsInput,
    /// Done: send what is to be sent, then [`Handshake::finish`].
    Complete,
}

impl Handshake {
    /// A handshake with a server that must prove one of `expected`.
    ///
    /// # Errors
    /// When rustls refuses our own configuration.
    pub fn client(credentials: &Credentials, expected: Arc<[Identity]>) -> Result<Self, Error> {
        let name = ServerName::try_from(SERVER_NAME).expect("a constant, valid name");
        Self::client_named(credentials, &expected, name)
    }

    /// The same, with sessions kept apart by the server's address: one server's tickets mean nothing to
    /// another, even if both prove the same identity. The address is not sent.
    ///
    /// # Errors
    /// When rustls refuses our own configuration.
    pub fn client_to(
        credentials: &Credentials,
        expected: Arc<[Identity]>,
        server: IpAddr,
    ) -> Result<Self, Error> {
        Self::client_named(credentials, &expected, ServerName::IpAddress(server.into()))
    }

    fn client_named(
        credentials: &Credentials,
        expected: &Arc<[Identity]>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let role = credentials.client(expected)?;
        let connection = UnbufferedClientConnection::new(role.config, name)?;
        let verifier = Verifier::OfServer(role.verifier);
        Ok(Self::new(credentials, Connection::Client(Box::new(connection)), verifier))
    }

    /// A handshake with a client of our own trust domain.
    ///
    /// # Errors
    /// When rustls refuses our own configuration.
    pub fn server(credentials: &Credentials) -> Result<Self, Error> {
        let role = credentials.server();
        let connection = UnbufferedServerConnection::new(role.config.clone())?;
        let verifier = Verifier::OfClient(role.verifier.clone());
        Ok(Self::new(credentials, Connection::Server(Box::new(connection)), verifier))
    }

    fn new(credentials: &Credentials, connection: Connection, verifier: Verifier) -> Self {
        let options = credentials.options();
        Self {
            state: State::Shaking(connection),
            shown: 0,
            taken: 0,
            blocked: false,
            verifier,
            records: options.records,
            terms: Terms {
                records_per_key: options.records_per_key,
                time: options.time.clone(),
                own_not_after: credentials.not_after(),
            },
        }
    }

    /// Takes received bytes from the front of `received` and appends to `to_send`. What is left in
    /// `received` must stand at its front the next time.
    ///
    /// # Errors
    /// When the handshake failed; then `to_send` ends with the alert that says so to the peer.
    pub fn advance(
        &mut self,
        received: &mut Vec<u8>,
        to_send: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        loop {
            let connection = match &mut self.state {
                State::Complete(_) => return Ok(Progress::Complete),
                State::Failed(error) => return Err(error.clone()),
                State::Shaking(connection) => connection,
            };
            // A record is shown only when rustls has nothing else to do, so that it cannot run ahead:
            // what comes behind the last one of the handshake is for the records.
            let mut whole = true;
            if self.blocked {
                match record_bytes(received.get(self.shown..).unwrap_or_default()) {
                    Record::Nothing => return Ok(Progress::NeedsInput),
                    Record::Part => whole = false,
                    Record::Whole(bytes) => self.shown += bytes,
                }
            }
            let input = if whole { self.shown } else { received.len() };
            let (discard, step) = connection.step(&mut received[..input], to_send);
            received.drain(..discard);
            self.shown = self.shown.saturating_sub(discard);
            self.taken += discard;
            let outcome = match step {
                Ok(Step::Again) => {
                    self.blocked = false;
                    Ok(())
                }
                Ok(Step::Blocked) if self.taken + self.shown > HANDSHAKE_BYTES_MAX => {
                    Err(Misbehaviour::HandshakeTooLong.into())
                }
                Ok(Step::Blocked) if !whole => return Ok(Progress::NeedsInput),
                Ok(Step::Blocked) => {
                    self.blocked = true;
                    Ok(())
                }
                Ok(Step::Traffic) => self.settle(to_send),
                Ok(Step::Data(_)) => Err(Misbehaviour::DataInHandshake.into()),
                Ok(Step::PeerClosed) => Err(Misbehaviour::ClosedInHandshake.into()),
                Err(error) => {
                    connection.take_alert(to_send);
                    Err(error)
                }
            };
            if let Err(error) = outcome {
                self.state = State::Failed(error);
            }
        }
    }

    /// The records that follow. Only after [`Progress::Complete`].
    ///
    /// # Errors
    /// When the handshake is not complete.
    pub fn finish(self) -> Result<Records, Error> {
        match self.state {
            State::Complete(records) => Ok(*records),
            State::Failed(error) => Err(error),
            State::Shaking(_) => Err(Error::Handshake(rustls::Error::HandshakeNotComplete)),
        }
    }

    /// The handshake is complete for rustls: is it for us?
    fn settle(&mut self, to_send: &mut Vec<u8>) -> Result<(), Error> {
        let taken_over = State::Failed(Error::Handshake(rustls::Error::HandshakeNotComplete));
        let State::Shaking(connection) = std::mem::replace(&mut self.state, taken_over) else {
            unreachable!("only a handshake in progress is settled");
        };
        match self.judge(connection.common()) {
            Ok(peer) => {
                let records = match self.records {
                    RecordLayer::Own => Records::own(peer, connection, self.terms.clone())?,
                    RecordLayer::Rustls => Records::library(peer, connection, &self.terms),
                };
                self.state = State::Complete(Box::new(records));
                Ok(())
            }
            Err(error) => {
                // rustls has no alert for what it does not know is wrong.
                let mut records = Records::own(Peer::default(), connection, self.terms.clone())?;
                records.fail(&error);
                records.take_output(to_send);
                Err(error)
            }
        }
    }

    fn judge(&self, common: &CommonState) -> Result<Peer, Error> {
        if self.shown > 0 {
            return Err(Misbehaviour::UnexpectedMessage.into());
        }
        if common.alpn_protocol() != Some(ALPN) {
            return Err(Error::PeerWithoutHttp2);
        }
        let chain = common.peer_certificates().unwrap_or_default();
        let leaf = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
        if chain.iter().map(|certificate| certificate.len()).sum::<usize>() > PEER_CHAIN_BYTES_MAX {
            return Err(Misbehaviour::ChainTooLong.into());
        }
        let resumed = common.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed {
            let now = self.terms.time.current_time();
            let now = now.ok_or(rustls::Error::FailedToGetCurrentTime)?;
            self.verifier.check_resumed(chain, now)?;
        }
        Ok(Peer {
            identity: Some(self.verifier.accepted(leaf)?),
            not_after: validity(leaf).map(|validity| validity.not_after),
            accepted: Some(self.verifier.acceptance(chain)),
            resumed,
            key_exchange: common.negotiated_key_exchange_group().map(|group| group.name()),
        })
    }
}

impl Verifier {
    fn check_resumed(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match self {
            Self::OfServer(verifier) => verifier.check_resumed(chain, now),
            Self::OfClient(verifier) => verifier.check_resumed(chain, now),
        }
    }

    fn acceptance(&self, chain: &[CertificateDer<'_>]) -> Acceptance {
        let (role, trust) = match self {
            Self::OfServer(verifier) => (PeerRole::Server, &verifier.trust),
            Self::OfClient(verifier) => (PeerRole::Client, &verifier.trust),
        };
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Acceptance { chain, role, trust: trust.clone() }
    }

    fn accepted(&self, leaf: &CertificateDer<'_>) -> Result<Identity, rustls::Error> {
        match self {
            Self::OfServer(verifier) => verifier.accepted(leaf),
            Self::OfClient(verifier) => verifier.accepted(leaf),
        }
    }
}

/// What stands first in some bytes.
enum Record {
    Nothing,
    Part,
    Whole(usize),
}

fn record_bytes(received: &[u8]) -> Record {
    let Some(&[_, _, _, high, low]) = received.first_chunk::<RECORD_HEADER_BYTES>() else {
        return if received.is_empty() { Record::Nothing } else { Record::Part };
    };
    let bytes = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if bytes <= received.len() { Record::Whole(bytes) } else { Record::Part }
}

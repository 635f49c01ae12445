//! One TLS handshake, over rustls' unbuffered interface.

use std::sync::Arc;

use rustls::{
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};
use rustls_pki_types::ServerName;

use super::{
    credentials::Credentials,
    error::Error,
    records::{CIPHERTEXT_BYTES_MAX, RECORD_HEADER_BYTES, Records},
    verifier,
};
use crate::identity::Identity;

/// The name in our ClientHello's stead: none is sent and none is looked at.
const SERVER_NAME: &str = "hbone.invalid";
/// Change cipher spec, alert, handshake, application data (RFC 8446 §5.1).
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=23;
/// What a handshake message may add to the output at a time, before it is asked how much it needs.
const OUTPUT_STEP_BYTES: usize = 4096;

/// A handshake in progress.
pub struct Handshake {
    connection: Connection,
    /// How much of what was received rustls has been shown: whole records, of which it may not have taken the
    /// last while a message goes on in the next.
    shown_bytes: usize,
    complete: bool,
}

enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
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
        let config = credentials.client(expected)?;
        let connection = UnbufferedClientConnection::new(config, name).map_err(Error::Handshake)?;
        Ok(Self {
            connection: Connection::Client(Box::new(connection)),
            shown_bytes: 0,
            complete: false,
        })
    }

    /// A handshake with a client of our own trust domain.
    ///
    /// # Errors
    /// When rustls refuses our own configuration.
    pub fn server(credentials: &Credentials) -> Result<Self, Error> {
        let connection =
            UnbufferedServerConnection::new(credentials.server()).map_err(Error::Handshake)?;
        Ok(Self {
            connection: Connection::Server(Box::new(connection)),
            shown_bytes: 0,
            complete: false,
        })
    }

    /// Takes received bytes from the front of `received` and appends to `to_send`.
    ///
    /// # Errors
    /// When the handshake failed; then `to_send` ends with the alert that says so to the peer.
    pub fn advance(
        &mut self,
        received: &mut Vec<u8>,
        to_send: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        while !self.complete {
            let shown = &mut received[..self.shown_bytes];
            let (discard, step) = match &mut self.connection {
                Connection::Client(connection) => {
                    step(connection.process_tls_records(shown), to_send)
                }
                Connection::Server(connection) => {
                    step(connection.process_tls_records(shown), to_send)
                }
            };
            received.drain(..discard);
            self.shown_bytes -= discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Blocked) => match first_record(&received[self.shown_bytes..]) {
                    Some(record_bytes) => self.shown_bytes += record_bytes,
                    None => return Ok(Progress::NeedsInput),
                },
                Ok(Step::Complete) => self.complete = true,
                Err(error) => {
                    self.queue_alert(to_send);
                    return Err(error);
                }
            }
        }
        Ok(Progress::Complete)
    }

    /// The records that follow. Only after [`Progress::Complete`].
    ///
    /// # Errors
    /// When rustls does not give up its keys.
    pub fn finish(self) -> Result<Records, Error> {
        match self.connection {
            Connection::Client(connection) => {
                let peer = Peer::of(&connection);
                let (secrets, kernel) =
                    connection.dangerous_into_kernel_connection().map_err(Error::Handshake)?;
                Records::client(peer, secrets, kernel)
            }
            Connection::Server(connection) => {
                let peer = Peer::of(&connection);
                let (secrets, kernel) =
                    connection.dangerous_into_kernel_connection().map_err(Error::Handshake)?;
                Records::server(peer, secrets, kernel)
            }
        }
    }

    /// After an error rustls has an alert to send. It must not be shown the bad bytes again.
    fn queue_alert(&mut self, to_send: &mut Vec<u8>) {
        match &mut self.connection {
            Connection::Client(connection) => {
                while connection.wants_write() {
                    // What can fail here has failed already.
                    let _ = step(connection.process_tls_records(&mut []), to_send);
                }
            }
            Connection::Server(connection) => {
                while connection.wants_write() {
                    let _ = step(connection.process_tls_records(&mut []), to_send);
                }
            }
        }
    }
}

/// What the handshake told about the other side.
pub(super) struct Peer {
    pub(super) identity: Option<Identity>,
    pub(super) resumed: bool,
    pub(super) key_exchange: &'static str,
}

impl Peer {
    fn of(common: &rustls::CommonState) -> Self {
        let leaf = common.peer_certificates().and_then(<[_]>::first);
        let identity = leaf.and_then(|leaf| verifier::identities(leaf).into_iter().next());
        let group = common.negotiated_key_exchange_group().map(|group| group.name());
        Self {
            identity,
            resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            key_exchange: match group {
                Some(rustls::NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
                Some(rustls::NamedGroup::X25519) => "X25519",
                Some(rustls::NamedGroup::secp256r1) => "P-256",
                Some(rustls::NamedGroup::secp384r1) => "P-384",
                _ => "none",
            },
        }
    }
}

/// The length of the first record, if all of it is here. rustls is shown one more record only when it has
/// nothing else to do: what comes behind the last one of the handshake is for [`Records`], and rustls
/// must not take it for its own. What cannot be a record is shown as it is, to be refused at once.
fn first_record(received: &[u8]) -> Option<usize> {
    let &[kind, _, _, high, low] = received.first_chunk()?;
    let content_bytes = usize::from(u16::from_be_bytes([high, low]));
    if !CONTENT_TYPES.contains(&kind) || content_bytes > CIPHERTEXT_BYTES_MAX {
        return Some(received.len());
    }
    let record_bytes = RECORD_HEADER_BYTES + content_bytes;
    (received.len() >= record_bytes).then_some(record_bytes)
}

enum Step {
    Again,
    Blocked,
    Complete,
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    to_send: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state, .. } = status;
    let step = match state {
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            encode(to_send, |room| message.encode(room)).map(|()| Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            // Everything encoded so far stands in `to_send`, which is sent before more is read.
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Complete),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            Err(Error::PeerMisbehaved("it closed during the handshake"))
        }
        Ok(_) => Err(Error::PeerMisbehaved("data before the handshake was complete")),
        Err(rustls::Error::AlertReceived(alert)) => Err(Error::PeerAlert(alert)),
        Err(error) => Err(Error::Handshake(error)),
    };
    (discard, step)
}

fn encode(
    to_send: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let start = to_send.len();
    let mut room = OUTPUT_STEP_BYTES;
    loop {
        to_send.resize(start + room, 0);
        match encode(&mut to_send[start..]) {
            Ok(written) => {
                to_send.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(_) => {
                to_send.truncate(start);
                return Err(Error::PeerMisbehaved("the handshake went out of order"));
            }
        }
    }
}

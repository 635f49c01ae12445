//! rustls' unbuffered connection, client and server alike, one step at a time.

use rustls::{
    CommonState,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
        WriteTraffic,
    },
};

use super::error::{Error, Misbehaviour};

/// What a handshake message may add to the output at a time, before it is asked how much it needs.
const OUTPUT_STEP_BYTES: usize = 4096;

/// One side of a session, as rustls knows it.
pub(super) enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What a step came to.
pub(super) enum Step {
    /// Something was put out; there is more to do.
    Again,
    /// The handshake needs input.
    Blocked,
    /// The handshake is complete and nothing else is to be done.
    Traffic,
    /// Data has come.
    Data(Vec<u8>),
    /// The peer has closed in order.
    PeerClosed,
}

/// What is asked of a connection whose handshake is complete.
pub(super) enum Ask<'a> {
    /// Seal this plaintext into that buffer.
    Encrypt(&'a [u8], &'a mut [u8]),
    /// Seal a close_notify into this buffer.
    Close(&'a mut [u8]),
    /// Renew the sealing key; the message comes out with the next step.
    Refresh,
}

impl Connection {
    /// Does what there is to do with `input`, of which the returned number of bytes is to be dropped.
    /// Bytes that are not dropped must be shown again, at the same place.
    pub(super) fn step(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Client(connection) => step(connection.process_tls_records(input), output),
            Self::Server(connection) => step(connection.process_tls_records(input), output),
        }
    }

    /// After an error: appends the alert that tells the peer, if there is one. rustls must not be shown the
    /// bad bytes again, nor be asked for more than it has.
    pub(super) fn take_alert(&mut self, output: &mut Vec<u8>) {
        while self.common().wants_write() {
            // What can fail here has failed already.
            let _ = self.step(&mut [], output);
        }
    }

    /// Asks something of the traffic's side; `held` is what [`Self::step`] has not dropped.
    /// Returns how many bytes were written.
    pub(super) fn ask(&mut self, held: &mut [u8], what: Ask<'_>) -> Result<usize, Error> {
        // rustls would hand out what it has to send, and with the state it would be lost.
        if self.common().wants_write() {
            return Err(Error::KeysExhausted);
        }
        match self {
            Self::Client(connection) => ask(connection.process_tls_records(held), what),
            Self::Server(connection) => ask(connection.process_tls_records(held), what),
        }
    }

    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Client(connection) => connection,
            Self::Server(connection) => connection,
        }
    }
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    output: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state, .. } = status;
    let step = match state {
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            encode(output, |room| message.encode(room)).map(|()| Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            // Everything encoded so far stands in `output`, which is sent before more is read.
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Traffic),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => match traffic.next_record() {
            Some(Ok(record)) => Ok(Step::Data(record.payload.to_vec())),
            Some(Err(error)) => Err(error.into()),
            None => Ok(Step::Again),
        },
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::PeerClosed),
        Ok(_early_data) => Err(Misbehaviour::DataInHandshake.into()),
        Err(error) => Err(error.into()),
    };
    (discard, step)
}

fn encode(
    output: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let start = output.len();
    let mut room = OUTPUT_STEP_BYTES;
    loop {
        output.resize(start + room, 0);
        match encode(&mut output[start..]) {
            Ok(written) => {
                output.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(error) => {
                output.truncate(start);
                return Err(Error::Handshake(rustls::Error::General(error.to_string())));
            }
        }
    }
}

fn ask<Data>(status: UnbufferedStatus<'_, '_, Data>, what: Ask<'_>) -> Result<usize, Error> {
    let mut traffic: WriteTraffic<'_, Data> = match status.state? {
        ConnectionState::WriteTraffic(traffic) => traffic,
        _something_to_send => return Err(Error::KeysExhausted),
    };
    let exhausted = |_: EncryptError| Error::KeysExhausted;
    match what {
        Ask::Encrypt(plaintext, sealed) => traffic.encrypt(plaintext, sealed).map_err(exhausted),
        Ask::Close(sealed) => traffic.queue_close_notify(sealed).map_err(exhausted),
        Ask::Refresh => traffic.refresh_traffic_keys().map(|()| 0).map_err(Error::from),
    }
}

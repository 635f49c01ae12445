//! Brings the TLS handshake of one socket to its end.
//!
//! A peer that dials and says nothing costs a socket and a task: the machine is made when its first bytes are there.

use std::io;

use ringway_protocols::tls::{self, Handshake, Progress, Records};

use super::Role;
use crate::{
    handshakes::{CutForRoom, Handshaking},
    limits::{HANDSHAKE_RECEIVE_BYTES_MAX, HANDSHAKE_TIMEOUT},
    runtime::{self, TcpStream},
};

/// Why a handshake did not come about.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The TLS layer refused the peer, or the peer us.
    Tls(tls::Error),
    /// The peer was silent for too long.
    TimedOut,
    /// The peer closed, or its socket failed.
    Cut,
    /// It had waited for its peer for too long while others wanted to begin.
    CutForRoom,
}

/// Records of a finished handshake, and the bytes that came behind it.
pub(crate) struct Secured {
    pub(crate) records: Records,
    pub(crate) received: Vec<u8>,
}

/// Shakes hands over `socket`, within [`HANDSHAKE_TIMEOUT`], a few steps a turn of the shard's loop.
pub(crate) async fn handshake(
    socket: &TcpStream,
    role: Role,
    machine: impl FnOnce() -> Result<Handshake, tls::Error>,
    handshaking: &Handshaking,
) -> Result<Secured, HandshakeError> {
    let shaking = async {
        if role == Role::Server {
            handshaking.peer(socket.readable()).await;
        }
        let machine = machine().map_err(HandshakeError::Tls)?;
        // Boxed: one that has not begun must not carry the size of one that has.
        Box::pin(shake_hands(socket, machine, handshaking)).await
    };
    match runtime::timeout(HANDSHAKE_TIMEOUT, handshaking.unless_cut(shaking)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(CutForRoom)) => Err(HandshakeError::CutForRoom),
        Err(_elapsed) => Err(HandshakeError::TimedOut),
    }
}

async fn shake_hands(
    socket: &TcpStream,
    mut machine: Handshake,
    handshaking: &Handshaking,
) -> Result<Secured, HandshakeError> {
    let mut received = Vec::new();
    let mut to_send = Vec::new();
    loop {
        handshaking.step().await;
        let progress = machine.advance(&mut received, &mut to_send);
        send_all(socket, &mut to_send).await.map_err(|_| match &progress {
            // The alert could not be delivered; the reason for it is what matters.
            Err(error) => HandshakeError::Tls(error.clone()),
            Ok(_) => HandshakeError::Cut,
        })?;
        match progress.map_err(HandshakeError::Tls)? {
            Progress::NeedsInput => {
                handshaking.peer(receive_some(socket, &mut received)).await?;
            }
            Progress::Complete => {
                let records = machine.finish().map_err(HandshakeError::Tls)?;
                return Ok(Secured { records, received });
            }
        }
    }
}

async fn send_all(socket: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.try_write(&bytes[sent..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await,
            Err(error) => return Err(error),
        }
    }
    bytes.clear();
    Ok(())
}

async fn receive_some(socket: &TcpStream, received: &mut Vec<u8>) -> Result<(), HandshakeError> {
    loop {
        socket.readable().await;
        let read = runtime::scratch(|scratch| {
            let room = HANDSHAKE_RECEIVE_BYTES_MAX.saturating_sub(received.len());
            let buffer = &mut scratch[..room];
            let read = socket.try_read(buffer)?;
            received.extend_from_slice(&buffer[..read]);
            Ok::<_, io::Error>(read)
        });
        match read {
            Ok(0) => return Err(HandshakeError::Cut),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(HandshakeError::Cut),
        }
    }
}

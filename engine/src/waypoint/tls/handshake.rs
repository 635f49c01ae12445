//! What either side of a handshake does: what it has to say goes to the socket, and what the other one says comes from there.

use std::io::{self, ErrorKind};

use rustls::ConnectionCommon;

use super::between::Sending;
use crate::runtime::{self, TcpStream};

/// Sends all there is to say.
pub(super) async fn send<Side>(
    socket: &TcpStream,
    session: &mut ConnectionCommon<Side>,
) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(&mut Sending(socket)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.writable().await,
            other => drop(other?),
        }
    }
    Ok(())
}

/// What the peer says next, so many bytes of it at most. Nothing: it has ended.
pub(super) async fn receive(socket: &TcpStream, bytes_max: usize) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await;
        let read = runtime::scratch(|scratch| {
            let read = socket.try_read(&mut scratch[..bytes_max])?;
            Ok::<_, io::Error>(scratch[..read].to_vec())
        });
        match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

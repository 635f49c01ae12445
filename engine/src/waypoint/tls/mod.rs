//! TLS of clients outside the mesh, which ends here, and TLS to backends, which begins here: a task ([`between`]) between
//! the socket and one end of a pair in memory, so that everything behind it has a plain connection.

mod between;
mod handshake;
mod originate;
mod terminate;

use std::io::{self, ErrorKind};

use rustls::server::Acceptor;

use self::between::Between;
pub(crate) use self::{
    originate::{Originator, Originators, Through, originate, originator},
    terminate::{Terminated, Terminators, terminate},
};
use crate::{
    close::CloseReason,
    limits::CLIENT_HELLO_BYTES_MAX,
    runtime::{self, TcpStream},
};

/// What a client has said first.
pub(crate) struct Hello {
    /// As it came.
    pub(crate) bytes: Vec<u8>,
    pub(crate) server_name: Option<Box<str>>,
}

/// Reads a client's first message.
///
/// # Errors
/// What came is none, or the client left.
pub(crate) async fn client_hello(socket: &TcpStream) -> Result<Hello, CloseReason> {
    let mut bytes = Vec::new();
    loop {
        let mut acceptor = Acceptor::default();
        let mut unread = &bytes[..];
        while !unread.is_empty() {
            acceptor.read_tls(&mut unread).map_err(|_| CloseReason::HandshakeCut)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let server_name = accepted.client_hello().server_name().map(Into::into);
                return Ok(Hello { bytes, server_name });
            }
            Ok(None) if bytes.len() < CLIENT_HELLO_BYTES_MAX => {}
            _ => return Err(CloseReason::HandshakeCut),
        }
        read_more(socket, &mut bytes).await?;
    }
}

async fn read_more(socket: &TcpStream, bytes: &mut Vec<u8>) -> Result<(), CloseReason> {
    loop {
        socket.readable().await;
        let read = runtime::scratch(|scratch| {
            let read = socket.try_read(&mut scratch[..CLIENT_HELLO_BYTES_MAX])?;
            bytes.extend_from_slice(&scratch[..read]);
            Ok::<_, io::Error>(read)
        });
        match read {
            Ok(0) => return Err(CloseReason::HandshakeCut),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(CloseReason::DialFailed(error.kind())),
        }
    }
}

//! A peer of one's own making: mutual TLS with a given certificate, and then any bytes whatever.

use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::relay::Files;

/// A TLS connection that reads and writes plain bytes, blocking.
pub type Probe = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands over `stream` as the owner of `files`, with ALPN `h2`; any server under the roots
/// will do.
///
/// # Errors
/// When the server or we refuse. A server that refuses our certificate says so only after our side
/// is complete (TLS 1.3), so a first read may fail, too.
pub fn connect(stream: TcpStream, files: &Files) -> Result<Probe> {
    let name = ServerName::try_from("name.invalid").expect("a valid name");
    let mut connection = ClientConnection::new(Arc::new(files.client(Vec::new())?), name)?;
    let mut stream = stream;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).context("the handshake failed")?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// The certificate the server presented, as DER.
pub fn certificate(probe: &Probe) -> Option<Vec<u8>> {
    Some(probe.conn.peer_certificates()?.first()?.as_ref().to_vec())
}

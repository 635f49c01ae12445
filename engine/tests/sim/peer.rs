//! A peer that is not Ringway: TLS and HTTP/2 by the protocol crates, and whatever else somebody wants to
//! put on the wire between them.

use std::{io::ErrorKind, net::IpAddr, sync::Arc};

use ringway_engine::runtime::{self, TcpStream};
use ringway_protocols::{
    hbone::{Authority, ConnectRequest, Connection, Event, FRAME_HEADER_BYTES, Settings, StreamId},
    identity::Identity,
    tls::{
        Credentials, Handshake, Opened, Progress, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_BYTES_MAX,
        RECORD_TRAILER_BYTES, Records,
    },
};

use crate::applications::{read_some, write_all};

/// A tunnel in somebody else's hands.
pub(crate) struct Peer {
    stream: TcpStream,
    records: Records,
    received: Vec<u8>,
    pub(crate) machine: Connection,
}

impl Peer {
    /// Shakes hands as a client.
    pub(crate) async fn client(
        stream: TcpStream,
        credentials: &Credentials,
        expected: Identity,
        server: IpAddr,
    ) -> Option<Self> {
        let handshake = Handshake::client_to(credentials, Arc::new([expected]), server).ok()?;
        let machine = Connection::client(Settings::client(), runtime::now());
        Self::shake(stream, handshake, machine).await
    }

    /// Shakes hands as a server.
    pub(crate) async fn server(stream: TcpStream, credentials: &Credentials) -> Option<Self> {
        let handshake = Handshake::server(credentials).ok()?;
        let machine = Connection::server(Settings::server(), runtime::now());
        Self::shake(stream, handshake, machine).await
    }

    async fn shake(
        stream: TcpStream,
        mut handshake: Handshake,
        machine: Connection,
    ) -> Option<Self> {
        let (mut received, mut to_send, mut buffer) = (Vec::new(), Vec::new(), vec![0; 8192]);
        loop {
            let progress = handshake.advance(&mut received, &mut to_send);
            write_all(&stream, &to_send).await.ok()?;
            to_send.clear();
            if progress.ok()? == Progress::Complete {
                let records = handshake.finish().ok()?;
                return Some(Self { stream, records, received, machine });
            }
            let got = read_some(&stream, &mut buffer).await.ok().filter(|got| *got > 0)?;
            received.extend_from_slice(&buffer[..got]);
        }
    }

    /// Sends what the machine has to say.
    pub(crate) async fn flush(&mut self) -> Result<(), ErrorKind> {
        let mut frames = Vec::new();
        self.machine.take_output(&mut frames);
        self.send(&frames).await
    }

    /// Sends these bytes, in records.
    pub(crate) async fn send(&mut self, plaintext: &[u8]) -> Result<(), ErrorKind> {
        for piece in plaintext.chunks(RECORD_PLAINTEXT_BYTES_MAX) {
            let mut record = vec![0; RECORD_HEADER_BYTES];
            record.extend_from_slice(piece);
            record.resize(record.len() + RECORD_TRAILER_BYTES, 0);
            self.records.seal(&mut record).map_err(|_| ErrorKind::BrokenPipe)?;
            write_all(&self.stream, &record).await?;
        }
        Ok(())
    }

    /// One read, and what the machine makes of it; an error is the end.
    pub(crate) async fn receive(&mut self) -> Result<Vec<Event>, ErrorKind> {
        let mut buffer = vec![0; 16 * 1024];
        let got = read_some(&self.stream, &mut buffer).await?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof);
        }
        self.received.extend_from_slice(&buffer[..got]);
        let mut events = Vec::new();
        let mut at = 0;
        loop {
            match self.records.open(&mut self.received[at..]) {
                Ok(Opened::Incomplete { .. }) => break,
                Ok(Opened::Control { consumed }) => at += consumed,
                Ok(Opened::Data { consumed, plaintext }) => {
                    let input = self.received[at + plaintext.start..at + plaintext.end].to_vec();
                    self.understand(&input, &mut events)?;
                    at += consumed;
                }
                Ok(Opened::Closed { .. }) | Err(_) => return Err(ErrorKind::ConnectionAborted),
            }
        }
        self.received.drain(..at);
        Ok(events)
    }

    fn understand(&mut self, input: &[u8], events: &mut Vec<Event>) -> Result<(), ErrorKind> {
        let mut cursor = 0;
        loop {
            match self.machine.next_event(input, &mut cursor, runtime::now()) {
                Ok(Some(Event::Data { stream, flow_controlled_bytes, .. })) => {
                    self.machine.release(stream, flow_controlled_bytes, runtime::now());
                }
                Ok(Some(event)) => events.push(event),
                Ok(None) => return Ok(()),
                Err(_) => return Err(ErrorKind::InvalidData),
            }
        }
    }

    /// Whatever comes is thrown away until the other side ends it.
    pub(crate) async fn until_closed(mut self) {
        while self.receive().await.is_ok() {}
    }

    pub(crate) fn open(&mut self, authority: &str) -> Option<StreamId> {
        let request = ConnectRequest {
            authority: authority.parse::<std::net::SocketAddr>().map(Authority::Address).ok()?,
            baggage: None,
            forwarded: None,
            traceparent: None,
            x_forwarded_network: None,
        };
        self.machine.open(&request).ok()
    }

    /// Ends without a word.
    pub(crate) fn abort(self) {
        self.stream.abort();
    }
}

/// An HTTP/2 frame, whatever it says.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

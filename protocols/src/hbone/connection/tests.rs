//! Stories of a client machine and a server machine that talk to each other.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::headers::{Authority, Baggage};
use super::*;

/// One end, and what it has been told.
struct End {
    machine: Connection,
    events: VecDeque<Event>,
    received: Vec<u8>,
}

impl End {
    fn new(machine: Connection) -> Self {
        Self { machine, events: VecDeque::new(), received: Vec::new() }
    }

    /// Feeds `bytes` in slices of `slice_bytes`, releasing data at once.
    fn feed(&mut self, bytes: &[u8], slice_bytes: usize, now: Instant) -> Result<(), Error> {
        for slice in bytes.chunks(slice_bytes.max(1)) {
            let mut cursor = 0;
            while let Some(event) = self.machine.next_event(slice, &mut cursor, now)? {
                if let Event::Data { stream, payload, flow_controlled_bytes } = &event {
                    self.received.extend_from_slice(&slice[payload.clone()]);
                    self.machine.release(*stream, *flow_controlled_bytes);
                    continue;
                }
                self.events.push_back(event);
            }
            assert_eq!(cursor, slice.len(), "a slice is used up");
        }
        Ok(())
    }

    fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.machine.take_output(&mut out);
        out
    }

    fn next(&mut self) -> Event {
        self.events.pop_front().expect("an event was due")
    }

    /// What this end would put on the wire to send `payload`.
    fn data(&mut self, stream: StreamId, payload: &[u8], end: bool) -> Vec<u8> {
        let mut wire = self.output();
        wire.extend_from_slice(&self.machine.data_header(stream, payload.len(), end));
        wire.extend_from_slice(payload);
        wire
    }
}

/// A client and a server, and the cut of their byte streams.
struct Pair {
    client: End,
    server: End,
    now: Instant,
    slice_bytes: usize,
}

impl Pair {
    fn with(client: Settings, server: Settings, slice_bytes: usize) -> Self {
        let now = Instant::now();
        let client = End::new(Connection::client(client, now));
        let server = End::new(Connection::server(server, now));
        Self { client, server, now, slice_bytes }
    }

    fn new() -> Self {
        let mut pair = Self::with(Settings::client(), Settings::server(), usize::MAX);
        pair.drive();
        assert_eq!(pair.client.next(), Event::Settings);
        assert_eq!(pair.server.next(), Event::Settings);
        pair
    }

    /// Carries output both ways until there is none.
    fn drive(&mut self) {
        while self.client.machine.has_output() || self.server.machine.has_output() {
            let output = self.client.output();
            self.server.feed(&output, self.slice_bytes, self.now).unwrap();
            let output = self.server.output();
            self.client.feed(&output, self.slice_bytes, self.now).unwrap();
        }
    }

    fn client_sends(&mut self, stream: StreamId, payload: &[u8], end: bool) {
        let wire = self.client.data(stream, payload, end);
        self.server.feed(&wire, self.slice_bytes, self.now).unwrap();
    }

    fn server_sends(&mut self, stream: StreamId, payload: &[u8], end: bool) {
        let wire = self.server.data(stream, payload, end);
        self.client.feed(&wire, self.slice_bytes, self.now).unwrap();
    }

    /// Opens a stream and has it accepted.
    fn open(&mut self) -> StreamId {
        let stream = self.client.machine.open(&request()).unwrap();
        self.drive();
        let want = Event::Request { stream, request: Box::new(request()), end_of_stream: false };
        assert_eq!(self.server.next(), want);
        self.server.machine.accept(stream, &ConnectResponse::status(200));
        self.drive();
        let response = ConnectResponse::status(200);
        assert_eq!(self.client.next(), Event::Response { stream, response, end_of_stream: false });
        stream
    }
}

fn request() -> ConnectRequest {
    let baggage = Baggage { namespace: Some("ns".into()), ..Baggage::default() };
    ConnectRequest {
        baggage: Some(baggage),
        ..ConnectRequest::to(Authority::Address("10.1.0.10:8080".parse().unwrap()))
    }
}

#[test]
fn a_tunnel_opens_carries_bytes_and_closes() {
    let mut pair = Pair::new();
    let stream = pair.open();
    pair.client_sends(stream, b"ping", false);
    pair.server_sends(stream, b"pong", false);
    assert_eq!(
        (&pair.server.received[..], &pair.client.received[..]),
        (&b"ping"[..], &b"pong"[..])
    );
    pair.client_sends(stream, b"", true);
    assert_eq!(pair.server.next(), Event::EndOfStream { stream });
    pair.server_sends(stream, b"bye", true);
    assert_eq!(pair.client.next(), Event::EndOfStream { stream });
    assert!(pair.client.machine.is_idle() && pair.server.machine.is_idle());
}

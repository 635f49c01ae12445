//! A pair of machines, and a raw peer that can say anything.

use std::collections::VecDeque;
use std::time::Instant;

use ringway_protocols::hbone::frame::{CLIENT_PREFACE, HEAD_BYTES, Head, flag, kind};
use ringway_protocols::hbone::hpack::{Encoder, Remember};
use ringway_protocols::hbone::{
    Authority, Baggage, ConnectRequest, ConnectResponse, Connection, Error, ErrorCode, Event,
    Settings, StreamId,
};

/// One end, and what it has been told.
pub(crate) struct End {
    pub(crate) machine: Connection,
    pub(crate) events: VecDeque<Event>,
    pub(crate) received: Vec<u8>,
    /// Whether data is released as soon as it comes.
    pub(crate) releases: bool,
}

impl End {
    pub(crate) fn new(machine: Connection) -> Self {
        Self { machine, events: VecDeque::new(), received: Vec::new(), releases: true }
    }

    pub(crate) fn client(settings: Settings, now: Instant) -> Self {
        Self::new(Connection::client(settings, now))
    }

    pub(crate) fn server(settings: Settings, now: Instant) -> Self {
        Self::new(Connection::server(settings, now))
    }

    /// Feeds `bytes` in slices of `slice_bytes`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        slice_bytes: usize,
        now: Instant,
    ) -> Result<(), Error> {
        for slice in bytes.chunks(slice_bytes.max(1)) {
            let mut cursor = 0;
            while let Some(event) = self.machine.next_event(slice, &mut cursor, now)? {
                let Event::Data { stream, payload, flow_controlled_bytes } = &event else {
                    self.events.push_back(event);
                    continue;
                };
                self.received.extend_from_slice(&slice[payload.clone()]);
                if self.releases {
                    self.machine.release(*stream, *flow_controlled_bytes, now);
                }
            }
            assert_eq!(cursor, slice.len(), "a slice is used up");
        }
        Ok(())
    }

    pub(crate) fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.machine.take_output(&mut out);
        out
    }

    pub(crate) fn next(&mut self) -> Event {
        self.events.pop_front().expect("an event was due")
    }

    /// What this end puts on the wire to send `payload`.
    pub(crate) fn data(&mut self, stream: StreamId, payload: &[u8], end: bool) -> Vec<u8> {
        let mut wire = self.output();
        wire.extend_from_slice(&self.machine.data_header(stream, payload.len(), end));
        wire.extend_from_slice(payload);
        wire
    }
}

/// A client and a server, and the cut of their byte streams.
pub(crate) struct Pair {
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) now: Instant,
    pub(crate) slice_bytes: usize,
}

impl Pair {
    pub(crate) fn with(client: Settings, server: Settings, slice_bytes: usize) -> Self {
        let now = Instant::now();
        let (client, server) = (End::client(client, now), End::server(server, now));
        let mut pair = Self { client, server, now, slice_bytes };
        pair.drive();
        assert_eq!(pair.client.next(), Event::Settings);
        assert_eq!(pair.server.next(), Event::Settings);
        pair
    }

    pub(crate) fn new() -> Self {
        Self::with(Settings::client(), Settings::server(), usize::MAX)
    }

    /// Carries output both ways until there is none.
    pub(crate) fn drive(&mut self) {
        while self.client.machine.has_output() || self.server.machine.has_output() {
            let output = self.client.output();
            self.server.feed(&output, self.slice_bytes, self.now).unwrap();
            let output = self.server.output();
            self.client.feed(&output, self.slice_bytes, self.now).unwrap();
        }
    }

    pub(crate) fn client_sends(&mut self, stream: StreamId, payload: &[u8], end: bool) {
        let wire = self.client.data(stream, payload, end);
        self.server.feed(&wire, self.slice_bytes, self.now).unwrap();
    }

    pub(crate) fn server_sends(&mut self, stream: StreamId, payload: &[u8], end: bool) {
        let wire = self.server.data(stream, payload, end);
        self.client.feed(&wire, self.slice_bytes, self.now).unwrap();
    }

    /// Opens a stream and has it accepted.
    pub(crate) fn open(&mut self) -> StreamId {
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

    pub(crate) fn assert_idle(&self) {
        assert!(self.client.machine.is_idle() && self.server.machine.is_idle());
        assert_eq!((self.client.events.len(), self.server.events.len()), (0, 0));
    }
}

pub(crate) fn request() -> ConnectRequest {
    let baggage = Baggage { namespace: Some("ns".into()), ..Baggage::default() };
    let authority = Authority::Address("10.1.0.10:8080".parse().unwrap());
    ConnectRequest { baggage: Some(baggage), ..ConnectRequest::to(authority) }
}

/// A frame of any kind.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head { length: payload.len() as u32, kind, flags, stream };
    [&head.encode(), payload].concat()
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) fn reset(stream: u32, code: ErrorCode) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes())
}

pub(crate) fn go_away(last_stream: u32, code: ErrorCode) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.0.to_be_bytes()].concat())
}

pub(crate) fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, 0, stream, payload)
}

pub(crate) fn end_data(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flag::END_STREAM, stream, payload)
}

/// A header block that leaves no trace in any table.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    for (name, value) in fields {
        encoder.field(name.as_bytes(), value.as_bytes(), Remember::No, &mut block);
    }
    block
}

pub(crate) const CONNECT: &[(&str, &str)] =
    &[(":method", "CONNECT"), (":authority", "10.1.0.10:8080")];
pub(crate) const OK: &[(&str, &str)] = &[(":status", "200")];

pub(crate) fn headers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &block(fields))
}

pub(crate) fn end_headers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block(fields))
}

/// What a raw client says first.
pub(crate) fn client_hello() -> Vec<u8> {
    [CLIENT_PREFACE.as_slice(), &settings(&[])].concat()
}

/// The frames in `wire`, after the client preface if it begins with that.
pub(crate) fn frames(wire: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut wire = wire.strip_prefix(CLIENT_PREFACE).unwrap_or(wire);
    while let Some((head, rest)) = wire.split_first_chunk::<HEAD_BYTES>() {
        let head = Head::parse(head);
        let (payload, rest) = rest.split_at(head.length as usize);
        frames.push((head, payload.to_vec()));
        wire = rest;
    }
    assert!(wire.is_empty(), "output is whole frames");
    frames
}

/// The last frame of a kind in `wire`.
pub(crate) fn last_of(wire: &[u8], kind: u8) -> Option<(Head, Vec<u8>)> {
    frames(wire).into_iter().rfind(|(head, _)| head.kind == kind)
}

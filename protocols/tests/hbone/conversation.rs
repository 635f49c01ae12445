//! A conversation of two machines made of steps that a random source chooses: what each side does, which
//! bytes arrive when, and how time passes. Whatever the steps, both keep to the rules, every byte
//! arrives once and in order, and no flow-control credit is lost.
//!
//! Shared with the fuzz target that feeds it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringway_protocols::hbone::*;

use crate::support::request;

/// A step of a random conversation. Numbers pick among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Open,
    Accept(usize),
    Refuse(usize),
    Send {
        client: bool,
        pick: usize,
        bytes: usize,
        end: bool,
    },
    Reset {
        client: bool,
        pick: usize,
    },
    Release {
        client: bool,
        pick: usize,
        bytes: u32,
    },
    /// So many bytes of what is under way arrive.
    Arrive {
        at_client: bool,
        bytes: usize,
    },
    /// Time passes, and timers run.
    Wait(u64),
    Leave,
}

/// One end with what it knows about its streams.
struct Side {
    machine: Connection,
    /// Under way to the other side.
    wire: Vec<u8>,
    streams: BTreeMap<StreamId, Knowledge>,
    requests: Vec<StreamId>,
}

#[derive(Debug, Default)]
struct Knowledge {
    sent: usize,
    received: usize,
    unreleased: u32,
    may_send: bool,
    sent_end: bool,
    received_end: bool,
    reset: bool,
}

/// The byte at an offset of a stream, which both sides can compute.
fn byte_at(stream: StreamId, offset: usize) -> u8 {
    (stream.0 as usize * 7 + offset + (offset >> 8)) as u8
}

impl Side {
    fn new(machine: Connection) -> Self {
        Self { machine, wire: Vec::new(), streams: BTreeMap::new(), requests: Vec::new() }
    }

    fn flush(&mut self) {
        self.machine.take_output(&mut self.wire);
    }

    fn send(&mut self, stream: StreamId, bytes: usize, end: bool) {
        let known = self.streams.get_mut(&stream).unwrap();
        if !known.may_send || known.sent_end || known.reset {
            return;
        }
        let most = self.machine.send_capacity(stream).min(self.machine.peer_frame_bytes_max());
        let bytes = bytes.min(most);
        if bytes == 0 && !end {
            return;
        }
        self.machine.take_output(&mut self.wire);
        self.wire.extend_from_slice(&self.machine.data_header(stream, bytes, end));
        self.wire.extend((known.sent..known.sent + bytes).map(|offset| byte_at(stream, offset)));
        known.sent += bytes;
        known.sent_end = end;
    }

    fn reset(&mut self, stream: StreamId) {
        self.machine.reset(stream, ErrorCode::CONNECT_ERROR);
        let known = self.streams.get_mut(&stream).unwrap();
        known.reset = true;
        known.unreleased = 0;
    }

    fn release(&mut self, stream: StreamId, bytes: u32, now: Instant) {
        let known = self.streams.get_mut(&stream).unwrap();
        let bytes = bytes.min(known.unreleased);
        known.unreleased -= bytes;
        self.machine.release(stream, bytes, now);
    }

    /// Hears `bytes`, and checks that every event makes sense.
    fn hear(&mut self, bytes: &[u8], now: Instant) {
        let mut cursor = 0;
        while let Some(event) =
            self.machine.next_event(bytes, &mut cursor, now).expect("both keep to the rules")
        {
            match event {
                Event::Request { stream, request: asked, end_of_stream } => {
                    assert_eq!(*asked, request());
                    assert!(!end_of_stream);
                    self.streams.insert(stream, Knowledge::default());
                    self.requests.push(stream);
                }
                Event::Response { stream, response, end_of_stream } => {
                    let known = self.streams.get_mut(&stream).unwrap();
                    assert!(!known.reset && response.is_success() != end_of_stream);
                    known.received_end = end_of_stream;
                }
                Event::Data { stream, payload, flow_controlled_bytes } => {
                    let known = self.streams.get_mut(&stream).unwrap();
                    assert!(!known.reset && !known.received_end, "nothing comes after the end");
                    assert!(!payload.is_empty());
                    for (offset, &byte) in bytes[payload.clone()].iter().enumerate() {
                        assert_eq!(byte, byte_at(stream, known.received + offset));
                    }
                    known.received += payload.len();
                    known.unreleased += flow_controlled_bytes;
                }
                Event::EndOfStream { stream } => {
                    let known = self.streams.get_mut(&stream).unwrap();
                    assert!(!known.reset && !known.received_end);
                    known.received_end = true;
                }
                Event::Reset { stream, code } => {
                    let known = self.streams.get_mut(&stream).unwrap();
                    let why =
                        [ErrorCode::CONNECT_ERROR, ErrorCode::NO_ERROR, ErrorCode::REFUSED_STREAM];
                    assert!(!known.reset && why.contains(&code), "{code}");
                    known.reset = true;
                }
                Event::SendCapacity { stream } => {
                    let known = stream.map(|stream| &self.streams[&stream]);
                    assert!(known.is_none_or(|known| !known.reset));
                }
                Event::Settings | Event::GoAway { .. } => {}
                Event::Malformed { .. } => unreachable!("requests are well formed"),
            }
        }
        assert_eq!(cursor, bytes.len());
    }

    /// Some stream this side knows.
    fn pick(&self, pick: usize) -> Option<StreamId> {
        let nth = pick.checked_rem(self.streams.len())?;
        self.streams.keys().nth(nth).copied()
    }
}

/// Lets bytes under way arrive; those that do not are still under way.
fn arrive(from: &mut Side, to: &mut Side, bytes: usize, now: Instant) {
    from.flush();
    let arriving: Vec<u8> = from.wire.drain(..bytes.min(from.wire.len())).collect();
    for record in arriving.chunks(16_384) {
        to.hear(record, now);
    }
}

/// Plays the steps, and then lets everything settle.
pub(crate) fn play(steps: Vec<Step>) {
    let small = |settings| Settings {
        stream_window_bytes: 150_000,
        connection_window_bytes: 600_000,
        streams_max: 7,
        ..settings
    };
    let mut now = Instant::now();
    let mut client = Side::new(Connection::client(small(Settings::client()), now));
    let mut server = Side::new(Connection::server(small(Settings::server()), now));
    for step in steps {
        match step {
            Step::Open => {
                if let Ok(stream) = client.machine.open(&request()) {
                    client
                        .streams
                        .insert(stream, Knowledge { may_send: true, ..Knowledge::default() });
                }
            }
            Step::Accept(pick) if !server.requests.is_empty() => {
                let stream = server.requests.swap_remove(pick % server.requests.len());
                server.machine.accept(stream, &ConnectResponse::status(200));
                server.streams.get_mut(&stream).unwrap().may_send = true;
            }
            Step::Refuse(pick) if !server.requests.is_empty() => {
                let stream = server.requests.swap_remove(pick % server.requests.len());
                server.machine.refuse(stream, 503);
                let known = server.streams.get_mut(&stream).unwrap();
                (known.reset, known.unreleased) = (true, 0);
            }
            Step::Accept(_) | Step::Refuse(_) => {}
            Step::Wait(milliseconds) => {
                // What is under way arrives first: silence is the subject of other tests.
                arrive(&mut client, &mut server, usize::MAX, now);
                arrive(&mut server, &mut client, usize::MAX, now);
                now += Duration::from_millis(milliseconds);
                client.machine.handle_timeout(now).unwrap();
                server.machine.handle_timeout(now).unwrap();
                arrive(&mut client, &mut server, usize::MAX, now);
                arrive(&mut server, &mut client, usize::MAX, now);
            }
            Step::Leave => server.machine.go_away(ErrorCode::NO_ERROR),
            Step::Arrive { at_client: true, bytes } => arrive(&mut server, &mut client, bytes, now),
            Step::Arrive { at_client: false, bytes } => {
                arrive(&mut client, &mut server, bytes, now)
            }
            Step::Send { client: by_client, pick, bytes, end } => {
                let side = if by_client { &mut client } else { &mut server };
                if let Some(stream) = side.pick(pick) {
                    side.send(stream, bytes, end);
                }
            }
            Step::Reset { client: by_client, pick } => {
                let side = if by_client { &mut client } else { &mut server };
                if let Some(stream) = side.pick(pick) {
                    side.reset(stream);
                    side.requests.retain(|&waiting| waiting != stream);
                }
            }
            Step::Release { client: by_client, pick, bytes } => {
                let side = if by_client { &mut client } else { &mut server };
                if let Some(stream) = side.pick(pick) {
                    side.release(stream, bytes, now);
                }
            }
        }
        assert!(client.machine.retained_bytes() + server.machine.retained_bytes() <= 64 * 1024);
    }
    settle(client, server, now);
}

/// Lets everything arrive and be released, and draws the balance.
fn settle(mut client: Side, mut server: Side, now: Instant) {
    for _ in 0..3 {
        for side in [&mut client, &mut server] {
            let known: Vec<_> = side.streams.keys().copied().collect();
            known.into_iter().for_each(|stream| side.release(stream, u32::MAX, now));
        }
        arrive(&mut client, &mut server, usize::MAX, now);
        arrive(&mut server, &mut client, usize::MAX, now);
    }
    for (&stream, asked) in &client.streams {
        let Some(served) = server.streams.get(&stream) else {
            assert!(asked.reset, "{stream:?} was asked for and never heard of");
            continue;
        };
        for (from, to) in [(asked, served), (served, asked)] {
            assert!(to.received <= from.sent);
            if !from.reset && !to.reset {
                assert_eq!(
                    (to.received, to.received_end),
                    (from.sent, from.sent_end),
                    "{stream:?}"
                );
            }
        }
    }
    for side in [&mut client, &mut server] {
        let open: Vec<_> = side.streams.keys().copied().collect();
        open.into_iter().for_each(|stream| side.reset(stream));
    }
    arrive(&mut client, &mut server, usize::MAX, now);
    arrive(&mut server, &mut client, usize::MAX, now);
    assert!(client.machine.is_idle() && server.machine.is_idle());
    assert_eq!((client.machine.open_streams(), server.machine.open_streams()), (0, 0));
    let Ok(stream) = client.machine.open(&request()) else {
        assert!(client.machine.is_going_away());
        return;
    };
    // Whatever was announced or is still pending, at least half of the connection's window is
    // there.
    assert!(client.machine.send_capacity(stream) >= 65_535);
}

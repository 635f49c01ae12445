//! What holds whatever happens: two machines under random use, and one machine under random input.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_protocols::hbone::frame::{flag, kind};
use ringway_protocols::hbone::*;

use crate::support::*;

/// A step of a random conversation. Numbers pick among what there is.
#[derive(Clone, Debug)]
enum Step {
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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Open),
        4 => any::<usize>().prop_map(Step::Accept),
        1 => any::<usize>().prop_map(Step::Refuse),
        12 => (any::<bool>(), any::<usize>(), 0_usize..40_000, proptest::bool::weighted(0.2))
            .prop_map(|(client, pick, bytes, end)| Step::Send { client, pick, bytes, end }),
        1 => (any::<bool>(), any::<usize>()).prop_map(|(client, pick)| Step::Reset { client, pick }),
        6 => (any::<bool>(), any::<usize>(), 0_u32..60_000)
            .prop_map(|(client, pick, bytes)| Step::Release { client, pick, bytes }),
        12 => (any::<bool>(), prop_oneof![1_usize..40, 1_usize..100_000])
            .prop_map(|(at_client, bytes)| Step::Arrive { at_client, bytes }),
        1 => (0_u64..12_000).prop_map(Step::Wait),
        1 => proptest::option::weighted(0.05, Just(Step::Leave)).prop_map(|leave| leave.unwrap_or(Step::Open)),
    ]
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

    fn release(&mut self, stream: StreamId, bytes: u32) {
        let known = self.streams.get_mut(&stream).unwrap();
        let bytes = bytes.min(known.unreleased);
        known.unreleased -= bytes;
        self.machine.release(stream, bytes);
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

fn play(steps: Vec<Step>) {
    let small = |settings| Settings {
        stream_window_bytes: 65_535,
        connection_window_bytes: 150_000,
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
                    side.release(stream, bytes);
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
            known.into_iter().for_each(|stream| side.release(stream, u32::MAX));
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

/// Frames a peer might invent: often sound, sometimes not.
fn invented_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![Just(0_u32), 1_u32..12];
    let any_frame = (0_u8..12, any::<u8>(), stream.clone(), vec(any::<u8>(), 0..40))
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    let fields = prop_oneof![Just(CONNECT), Just(OK), Just(&[("a", "b")][..])];
    let header_frame = (stream.clone(), fields, any::<u8>()).prop_map(|(stream, fields, flags)| {
        let flags =
            (flags & (flag::END_STREAM | flag::END_HEADERS)) | (flag::END_HEADERS * (flags >> 7));
        frame(kind::HEADERS, flags, stream, &block(fields))
    });
    let rest_of_block =
        stream.clone().prop_map(|stream| frame(kind::CONTINUATION, flag::END_HEADERS, stream, b""));
    let payload = (stream.clone(), any::<u8>(), 0_usize..3_000)
        .prop_map(|(stream, flags, bytes)| frame(kind::DATA, flags & 9, stream, &vec![0; bytes]));
    let credit =
        (stream.clone(), 0_u32..100_000).prop_map(|(stream, bytes)| window_update(stream, bytes));
    let code = (stream, 0_u32..15).prop_map(|(stream, code)| reset(stream, ErrorCode(code)));
    let setting = vec((0_u16..10, prop_oneof![0_u32..3, 16_000_u32..70_000]), 0..4)
        .prop_map(|values| settings(&values));
    let ping = any::<[u8; 8]>().prop_map(|payload| frame(kind::PING, 0, 0, &payload));
    prop_oneof![
        1 => any_frame, 6 => header_frame, 1 => rest_of_block, 6 => payload, 2 => credit, 2 => code, 1 => setting, 1 => ping,
    ]
}

/// What the engine might do meanwhile.
#[derive(Clone, Copy, Debug)]
enum Deed {
    None,
    Accept,
    Refuse,
    Reset,
    Leave,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => Just(Deed::None), 4 => Just(Deed::Accept), 1 => Just(Deed::Refuse), 1 => Just(Deed::Reset),
        1 => proptest::option::weighted(0.1, Just(Deed::Leave)).prop_map(|deed| deed.unwrap_or(Deed::None)),
    ]
}

/// Plays invented frames to a machine in slices of `slice_bytes`; what it tells and says is the
/// result.
fn tell(server: bool, script: &[(Vec<u8>, Deed)], slice_bytes: usize) -> (String, Vec<u8>) {
    let now = Instant::now();
    let mut end = if server {
        End::server(Settings::server(), now)
    } else {
        let mut end = End::client(Settings::client(), now);
        (0..5).for_each(|_| assert!(end.machine.open(&request()).is_ok()));
        end
    };
    let hello = if server { client_hello() } else { settings(&[]) };
    end.feed(&hello, slice_bytes, now).unwrap();
    let (mut told, mut said, mut heard) = (String::new(), Vec::new(), hello.len());
    said.extend(end.output());
    let greeting = said.len();
    let mut known = Vec::new();
    for (frame, deed) in script {
        heard += frame.len();
        let result = end.feed(frame, slice_bytes, now);
        for event in end.events.drain(..) {
            if let Event::Request { stream, .. } | Event::Response { stream, .. } = event {
                known.push(stream);
            }
            told += &format!("{event:?}\n");
        }
        said.extend(end.output());
        assert!(end.machine.retained_bytes() <= RETAINED_BYTES_MAX);
        if let Err(error) = result {
            told += &format!("{error}\n");
            assert_eq!(end.feed(b"anything", 1, now), Err(error));
            break;
        }
        match (deed, known.last().copied()) {
            (Deed::Leave, _) => end.machine.go_away(ErrorCode::NO_ERROR),
            (Deed::Accept, Some(stream)) if server => {
                end.machine.accept(stream, &ConnectResponse::status(200));
                known.pop();
            }
            (Deed::Refuse, Some(stream)) if server => {
                end.machine.refuse(stream, 503);
                known.pop();
            }
            (Deed::Reset, Some(stream)) => {
                end.machine.reset(stream, ErrorCode::CANCEL);
                known.pop();
            }
            _ => {}
        }
        said.extend(end.output());
    }
    assert!(said.len() - greeting <= 10 * heard + 100, "{} bytes answer {heard}", said.len());
    frames(&said);
    (told, said)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_once_and_no_credit_is_lost(steps in vec(step(), 1..250)) {
        play(steps);
    }

    #[test]
    fn invented_frames_are_judged_alike_however_they_are_cut(
        server: bool, script in vec((invented_frame(), deed()), 0..40), slice_bytes in 1_usize..50,
    ) {
        let whole = tell(server, &script, usize::MAX);
        let cut = tell(server, &script, slice_bytes);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn any_bytes_are_heard(bytes in vec(any::<u8>(), 0..300), server: bool) {
        let now = Instant::now();
        let mut end = if server { End::server(Settings::server(), now) } else { End::client(Settings::client(), now) };
        let hello = if server { client_hello() } else { settings(&[]) };
        end.feed(&hello, 99, now).unwrap();
        let _ = end.feed(&bytes, 99, now);
    }
}

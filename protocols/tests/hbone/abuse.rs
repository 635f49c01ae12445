//! Attacks that keep to the letter of the protocol, and honest traffic that looks a little like
//! them.
//!
//! Each attack is given 100,000 rounds and must be cut off early, with ENHANCE_YOUR_CALM, having
//! made the machine hold no more than its bound and answer no more than a few times what it was
//! sent.

use std::time::{Duration, Instant};

use ringway_protocols::hbone::frame::{U31_MAX, flag, kind};
use ringway_protocols::hbone::hpack::{Encoder, Remember};
use ringway_protocols::hbone::*;

use crate::support::*;

const ROUNDS: u32 = 100_000;

/// How the side under attack behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Engine {
    /// Accepts every stream, takes what comes, and its answers are read.
    Ready,
    /// The application takes nothing.
    Stalled,
    /// The attacker does not read: output stays where it is.
    Unread,
    /// Answers every request with 503.
    Refusing,
    /// The application fills whatever window stream 1 has.
    Talking,
}

struct Victim {
    end: End,
    engine: Engine,
    received_bytes: usize,
    answered_bytes: usize,
}

impl Victim {
    fn server(engine: Engine) -> Self {
        let mut victim = Self::new(End::server(Settings::server(), Instant::now()), engine);
        victim.end.feed(&client_hello(), 999, Instant::now()).unwrap();
        victim.end.output();
        victim
    }

    /// A client with streams 1, 3, … open.
    fn client(engine: Engine, streams: u32) -> Self {
        let mut victim = Self::new(End::client(Settings::client(), Instant::now()), engine);
        victim.end.feed(&settings(&[]), 999, Instant::now()).unwrap();
        for _ in 0..streams {
            victim.end.machine.open(&request()).unwrap();
        }
        victim.end.output();
        victim
    }

    fn new(mut end: End, engine: Engine) -> Self {
        end.releases = engine != Engine::Stalled;
        Self { end, engine, received_bytes: 0, answered_bytes: 0 }
    }

    fn hear(&mut self, bytes: &[u8], now: Instant) -> Result<(), Error> {
        self.received_bytes += bytes.len();
        let result = self.end.feed(bytes, 16_384, now);
        while let Some(event) = self.end.events.pop_front() {
            if let Event::Request { stream, .. } = event {
                match self.engine {
                    Engine::Refusing => self.end.machine.refuse(stream, 503),
                    _ => self.end.machine.accept(stream, &ConnectResponse::status(200)),
                }
            }
        }
        if self.engine == Engine::Talking {
            self.talk();
        }
        let retained = self.end.machine.retained_bytes();
        assert!(retained <= RETAINED_BYTES_MAX, "{retained} bytes are held");
        if self.engine != Engine::Unread {
            self.answered_bytes += self.end.output().len();
        }
        self.end.received.clear();
        result
    }
}

impl Victim {
    fn talk(&mut self) {
        let machine = &mut self.end.machine;
        let stream = StreamId(1);
        loop {
            let bytes = machine.send_capacity(stream).min(machine.peer_frame_bytes_max());
            if bytes == 0 {
                return;
            }
            machine.data_header(stream, bytes, false);
        }
    }
}

/// Plays `round` until the victim has enough. It must have after at most `rounds`.
fn attack(
    name: &str,
    mut victim: Victim,
    rounds: u32,
    want: Abuse,
    mut round: impl FnMut(u32) -> Vec<u8>,
) {
    let now = Instant::now();
    for n in 0..ROUNDS {
        let Err(error) = victim.hear(&round(n), now) else { continue };
        assert_eq!(error, Error::PeerAbusive(want), "{name}");
        assert_eq!(error.code(), ErrorCode::ENHANCE_YOUR_CALM, "{name}");
        assert!(n <= rounds, "{name}: only cut after {n} rounds");
        let ratio = victim.answered_bytes as f64 / victim.received_bytes as f64;
        assert!(ratio < 10.0, "{name}: answered {ratio} times what was sent");
        return;
    }
    panic!("{name}: never cut");
}

fn stream_of(round: u32) -> u32 {
    2 * round + 1
}

/// Opens the stream of this round and then says `rest` on it.
fn on_new_stream(round: u32, rest: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let stream = stream_of(round);
    [headers(stream, CONNECT), rest(stream)].concat()
}

/// Opens stream 1 in the first round, and always says `rest`.
fn on_stream_one(round: u32, rest: Vec<u8>) -> Vec<u8> {
    if round == 0 { [headers(1, CONNECT), rest].concat() } else { rest }
}

#[test]
fn rapid_reset() {
    let reset_it = |n| on_new_stream(n, |stream| reset(stream, ErrorCode::CANCEL));
    attack("rapid reset", Victim::server(Engine::Ready), 400, Abuse::RapidReset, reset_it);
    attack("rapid reset, unread", Victim::server(Engine::Unread), 400, Abuse::RapidReset, reset_it);
}

#[test]
fn made_you_reset() {
    let variant = |name: &str, rest: fn(u32) -> Vec<u8>| {
        let victim = Victim::server(Engine::Ready);
        attack(name, victim, 20, Abuse::ProvokedReset, |n| on_new_stream(n, rest));
    };
    variant("window 0", |stream| window_update(stream, 0));
    variant("window overflow", |stream| window_update(stream, U31_MAX));
    variant("DATA after the end", |stream| [end_data(stream, b""), data(stream, b"x")].concat());
    variant("HEADERS after the end", |stream| {
        [end_data(stream, b""), end_headers(stream, &[("a", "b")])].concat()
    });
    variant("trailers again and again", |stream| end_headers(stream, &[("a", "b")]).repeat(2));
    variant("PRIORITY of a wrong length", |stream| frame(kind::PRIORITY, 0, stream, b"1234"));
    variant("dependence on itself", |stream| {
        frame(kind::PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], b"x"].concat())
    });
}

#[test]
fn continuation_floods() {
    let unfinished = |rest: fn() -> Vec<u8>| {
        move |n| {
            if n == 0 { frame(kind::HEADERS, 0, 1, &block(CONNECT)) } else { rest() }
        }
    };
    let server = || Victim::server(Engine::Ready);
    let one_byte = unfinished(|| frame(kind::CONTINUATION, 0, 1, b"\x82"));
    attack("CONTINUATION", server(), 9, Abuse::Continuations, one_byte);
    let empty = unfinished(|| frame(kind::CONTINUATION, 0, 1, b""));
    attack("empty CONTINUATION", server(), 9, Abuse::Continuations, empty);
    let large = unfinished(|| frame(kind::CONTINUATION, 0, 1, &vec![0x82; 30_000]));
    attack("large CONTINUATION", server(), 3, Abuse::HeaderBlockTooLarge, large);
}

#[test]
fn control_floods() {
    let server = || Victim::server(Engine::Ready);
    attack("SETTINGS", server(), 16, Abuse::Settings, |_| settings(&[]));
    let acknowledgement = |_| frame(kind::SETTINGS, flag::ACK, 0, &[]);
    attack("SETTINGS acknowledgements", server(), 16, Abuse::Settings, acknowledgement);
    let long = vec![(4, 65_535); 1_000];
    attack("long SETTINGS", server(), 0, Abuse::Settings, |_| settings(&long));
    attack("PING", server(), 100, Abuse::Pings, |_| frame(kind::PING, 0, 0, &[0; 8]));
    attack("PONG", server(), 100, Abuse::Pings, |_| frame(kind::PING, flag::ACK, 0, &[0; 8]));
    let priority = |n| frame(kind::PRIORITY, 0, stream_of(n), &[0, 0, 0, 0, 1]);
    attack("PRIORITY", server(), 100, Abuse::Priorities, priority);
    attack("unknown frames", server(), 100, Abuse::UnknownFrames, |_| frame(0xbe, 1, 9, b"x"));
    let go_away = |_| go_away(0, ErrorCode::NO_ERROR);
    attack("GOAWAY", server(), 8, Abuse::GoAways, go_away);
}

#[test]
fn data_floods() {
    for engine in [Engine::Ready, Engine::Stalled] {
        let server = || Victim::server(engine);
        let empty = |n| on_stream_one(n, data(1, b""));
        attack("empty DATA", server(), 110, Abuse::EmptyData, empty);
        let padding = |n| on_stream_one(n, frame(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0]));
        attack("nothing but padding", server(), 110, Abuse::EmptyData, padding);
    }
    let padded = [&[255, b'x'][..], &[0; 255]].concat();
    let padded = |n| on_stream_one(n, frame(kind::DATA, flag::PADDED, 1, &padded));
    attack("padded bytes", Victim::server(Engine::Ready), 410, Abuse::Padding, padded);
    // Empty DATA on a stream that is gone is no cheaper.
    let late = |n| {
        let opening =
            if n == 0 { [headers(1, CONNECT), window_update(1, 0)].concat() } else { vec![] };
        [opening, data(1, b"")].concat()
    };
    attack("late empty DATA", Victim::server(Engine::Ready), 110, Abuse::EmptyData, late);
    // Nor is a byte on it, with or without its end: nobody takes it, so it does not pay for itself.
    for end in [0, flag::END_STREAM] {
        let late = |n| {
            let opening =
                if n == 0 { [headers(1, CONNECT), window_update(1, 0)].concat() } else { vec![] };
            [opening, frame(kind::DATA, end, 1, b"x")].concat()
        };
        let server = Victim::server(Engine::Ready);
        attack("late bytes", server, 410, Abuse::FramesOnClosedStreams, late);
    }
}

#[test]
fn window_floods() {
    let server = || Victim::server(Engine::Ready);
    attack("drip", server(), 400, Abuse::WindowUpdates, |_| window_update(0, 1));
    let drip = |n| on_stream_one(n, window_update(1, 1));
    attack("drip on a stream", server(), 410, Abuse::WindowUpdates, drip);
    // Each lets a byte out, and that byte does not pay for the next.
    let no_window = settings(&[(4, 0)]);
    let stall = |n| match n {
        0 => [&no_window[..], &headers(1, CONNECT)].concat(),
        _ => window_update(1, 1),
    };
    attack("window stall", Victim::server(Engine::Talking), 410, Abuse::WindowUpdates, stall);
    let late = |n| {
        let opening = [headers(1, CONNECT), reset(1, ErrorCode::CANCEL)].concat();
        if n == 0 { opening } else { reset(1, ErrorCode::CANCEL) }
    };
    attack("late resets", server(), 410, Abuse::FramesOnClosedStreams, late);
}

#[test]
fn a_small_window_is_no_attack() {
    let mut victim = Victim::server(Engine::Talking);
    let now = Instant::now();
    victim.hear(&settings(&[(4, 1024)]), now).unwrap();
    victim.hear(&headers(1, CONNECT), now).unwrap();
    for _ in 0..ROUNDS {
        // A reader of little memory: half of its kilobyte at a time, on the stream and on the connection.
        let credit = [window_update(1, 512), window_update(0, 512)].concat();
        victim.hear(&credit, now).unwrap();
    }
}

#[test]
fn streams_nobody_wanted() {
    let server = || Victim::server(Engine::Ready);
    let open = |n| headers(stream_of(n), CONNECT);
    attack("beyond the concurrency", server(), 600, Abuse::RefusedStreams, open);
    let stalled = |n| {
        let first = if n == 0 { settings(&[(4, 0)]) } else { vec![] };
        [first, open(n)].concat()
    };
    attack("window stall", server(), 600, Abuse::RefusedStreams, stalled);
    let malformed = |n| headers(stream_of(n), &[(":method", "GET")]);
    attack("malformed requests", server(), 200, Abuse::MalformedMessages, malformed);
    let refused = |n| headers(stream_of(n), &[(":method", "CONNECT"), (":authority", "x")]);
    attack("requests for nowhere", server(), 200, Abuse::MalformedMessages, refused);
}

/// Headers that unfold to far more than they are.
#[test]
fn header_bombs() {
    let mut encoder = Encoder::new();
    let value = vec![b'v'; 900];
    let reference_bomb = move |n| {
        let mut block = block(CONNECT);
        encoder.field(b"bomb", &value, Remember::Yes, &mut block);
        for _ in 0..15_000 {
            encoder.field(b"bomb", &value, Remember::Yes, &mut block);
        }
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream_of(n), &block)
    };
    let server = || Victim::server(Engine::Ready);
    attack("HPACK bomb", server(), 5, Abuse::HeaderListTooLarge, reference_bomb);

    // The two of 2026: tiny fields whose bookkeeping is the weight, behind a window that is shut.
    for name in ["cookie", "a"] {
        let mut encoder = Encoder::new();
        let bomb = move |n| {
            let mut block = block(CONNECT);
            encoder.field(name.as_bytes(), b"", Remember::Yes, &mut block);
            for _ in 0..60_000 {
                encoder.field(name.as_bytes(), b"", Remember::Yes, &mut block);
            }
            let shut = if n == 0 { settings(&[(4, 0)]) } else { vec![] };
            [shut, frame(kind::HEADERS, flag::END_HEADERS, stream_of(n), &block)].concat()
        };
        attack(name, server(), 5, Abuse::HeaderListTooLarge, bomb);
    }
    let mut encoder = Encoder::new();
    let trailer_bomb = move |n| {
        let mut trailers = Vec::new();
        encoder.field(b"a", b"", Remember::Yes, &mut trailers);
        for _ in 0..60_000 {
            encoder.field(b"a", b"", Remember::Yes, &mut trailers);
        }
        let flags = flag::END_HEADERS | flag::END_STREAM;
        on_new_stream(n, |stream| frame(kind::HEADERS, flags, stream, &trailers))
    };
    attack("bomb in trailers", server(), 5, Abuse::HeaderListTooLarge, trailer_bomb);
}

/// Whoever does not read the answers gets few of them, whatever pays for the questions.
#[test]
fn unread_answers() {
    let paid_ping = [data(1, b"x"), frame(kind::PING, 0, 0, &[0; 8])].concat();
    let ping = |n| on_stream_one(n, paid_ping.clone());
    attack("PING", Victim::server(Engine::Unread), 5_000, Abuse::UnreadAnswers, ping);
    let request = |n| end_headers(stream_of(n), CONNECT);
    let mut refusing = Victim::server(Engine::Refusing);
    refusing.engine = Engine::Unread;
    let now = Instant::now();
    let error = (0..ROUNDS).find_map(|n| {
        let result = refusing.end.feed(&request(n), 999, now);
        refusing.end.machine.refuse(StreamId(stream_of(n)), 503);
        assert!(refusing.end.machine.retained_bytes() <= RETAINED_BYTES_MAX);
        result.err()
    });
    assert_eq!(error, Some(Error::PeerAbusive(Abuse::UnreadAnswers)));
}

/// The same from a hostile server.
#[test]
fn a_hostile_server() {
    let client = |streams| Victim::client(Engine::Ready, streams);
    attack("SETTINGS", client(0), 16, Abuse::Settings, |_| settings(&[]));
    attack("PING", client(0), 100, Abuse::Pings, |_| frame(kind::PING, 0, 0, &[0; 8]));
    attack("drip", client(1), 400, Abuse::WindowUpdates, |_| window_update(1, 1));
    let empty = |n| if n == 0 { headers(1, OK) } else { data(1, b"") };
    attack("empty DATA", client(1), 110, Abuse::EmptyData, empty);
    let informational = |_| headers(1, &[(":status", "100")]);
    attack("informational", client(1), 200, Abuse::InformationalResponses, informational);
    let malformed = |n| headers(stream_of(n), &[("a", "b")]);
    attack("malformed responses", client(100), 20, Abuse::ProvokedReset, malformed);
    // The application still sends when the server has ended its side, and goes on as if it had not.
    let after_end = |n| {
        let opening = if n == 0 { headers(1, OK) } else { vec![] };
        [opening, end_data(1, b""), data(1, b"x")].concat()
    };
    attack("DATA after the end", client(1), 410, Abuse::FramesOnClosedStreams, after_end);
    // References that unfold to megabytes, on a stream that the first of them has ended.
    let bomb = |n| match n {
        0 => {
            let entry = [&[0x40, 1, b'b', 0x7f, 0xad, 0x1a][..], &[b'b'; 3500]].concat();
            frame(kind::HEADERS, flag::END_HEADERS, 1, &entry)
        }
        _ => frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xbe; 16_000]),
    };
    attack("HPACK bomb", client(1), 6, Abuse::HeaderListTooLarge, bomb);
    let late = |_| reset(1, ErrorCode::CANCEL);
    attack("late resets", client(1), 410, Abuse::FramesOnClosedStreams, late);
    let block = frame(kind::CONTINUATION, 0, 1, b"");
    let continuation = |n| if n == 0 { frame(kind::HEADERS, 0, 1, b"") } else { block.clone() };
    attack("CONTINUATION", client(1), 9, Abuse::Continuations, continuation);
    attack("unknown frames", client(1), 100, Abuse::UnknownFrames, |_| frame(0xbe, 1, 9, b"x"));
    attack("GOAWAY", client(0), 8, Abuse::GoAways, |_| go_away(0, ErrorCode::NO_ERROR));
}

/// Whatever a peer makes us hold, there is one bound for the sum. It is lowered here, because nothing that is known
/// reaches it.
#[test]
fn the_ledger_of_memory_ends_what_no_single_bound_sees() {
    let settings = Settings { retained_bytes_max: 24 * 1024, ..Settings::server() };
    let lowered = || {
        let mut victim = Victim::new(End::server(settings, Instant::now()), Engine::Ready);
        victim.end.feed(&client_hello(), 999, Instant::now()).unwrap();
        victim.end.output();
        victim
    };
    // A block in parts, each within every bound of its own.
    let unfinished = |n| match n {
        0 => frame(kind::HEADERS, 0, 1, &vec![0x82; 8_000]),
        _ => frame(kind::CONTINUATION, 0, 1, &vec![0x82; 8_000]),
    };
    attack("parts of a block", lowered(), 4, Abuse::Memory, unfinished);
    // One frame that comes byte by byte.
    let whole = frame(kind::HEADERS, flag::END_HEADERS, 1, &vec![0x82; 60_000]);
    let trickle = move |n: u32| whole[n as usize * 100..][..100].to_vec();
    attack("a frame in pieces", lowered(), 400, Abuse::Memory, trickle);
}

#[test]
fn a_frame_that_trickles_is_cut_at_its_deadline() {
    let start = Instant::now();
    let mut end = End::server(Settings::server(), start);
    end.feed(&client_hello(), 999, start).unwrap();
    let request = frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x82; 100]);
    let mut now = start;
    let mut cut = None;
    for byte in &request[..request.len() - 1] {
        now += Duration::from_secs(1);
        end.feed(&[*byte], 1, now).unwrap();
        if end.machine.next_deadline().is_some_and(|deadline| deadline <= now) {
            cut = end.machine.handle_timeout(now).err();
        }
        if cut.is_some() {
            break;
        }
    }
    assert_eq!(cut, Some(Error::PeerSilent(Silence::HeaderBlockUnfinished)));
    assert!(now - start <= Duration::from_secs(20), "{:?}", now - start);
}

#[test]
fn an_interactive_session_of_single_bytes_is_work() {
    let mut victim = Victim::server(Engine::Ready);
    let now = Instant::now();
    victim.hear(&headers(1, CONNECT), now).unwrap();
    for _ in 0..ROUNDS {
        victim.hear(&data(1, b"x"), now).unwrap();
        victim.end.machine.data_header(StreamId(1), 1, false);
        // A peer that gives credit back byte by byte, on both levels, and measures the path.
        let answer = [window_update(1, 1), window_update(0, 1), frame(kind::PING, 0, 0, &[0; 8])];
        victim.hear(&answer.concat(), now).unwrap();
    }
}

#[test]
fn short_lived_streams_are_work_whichever_way_they_end() {
    let mut victim = Victim::server(Engine::Ready);
    let now = Instant::now();
    for n in 0..ROUNDS {
        let stream = stream_of(n);
        victim.hear(&headers(stream, CONNECT), now).unwrap();
        victim.hear(&data(stream, b"GET"), now).unwrap();
        victim.end.machine.data_header(StreamId(stream), 3, false);
        let end = match n % 4 {
            0 => reset(stream, ErrorCode::CONNECT_ERROR),
            1 => {
                victim.end.machine.data_header(StreamId(stream), 0, true);
                // What an h2 client says when it drops a finished stream.
                [end_data(stream, b""), window_update(stream, 3), reset(stream, ErrorCode::CANCEL)]
                    .concat()
            }
            2 => {
                victim.end.machine.reset(StreamId(stream), ErrorCode::CONNECT_ERROR);
                // What was under way when our reset was sent.
                [data(stream, b"more"), window_update(stream, 3)].concat()
            }
            _ => {
                victim.end.machine.data_header(StreamId(stream), 0, true);
                [data(stream, b""), end_data(stream, b"")].concat()
            }
        };
        victim.hear(&[end, window_update(0, 3)].concat(), now).unwrap();
        assert!(victim.end.machine.is_idle());
    }
}

#[test]
fn clients_that_give_up_now_and_then_are_borne() {
    let mut victim = Victim::server(Engine::Ready);
    let mut now = Instant::now();
    for n in 0..10_000 {
        now += Duration::from_millis(10);
        let given_up = on_new_stream(n, |stream| reset(stream, ErrorCode::CANCEL));
        victim.hear(&given_up, now).unwrap();
    }
}

#[test]
fn streams_that_carry_nothing_but_their_end_are_borne() {
    let mut victim = Victim::server(Engine::Ready);
    let now = Instant::now();
    for n in 0..10_000 {
        victim.hear(&headers(stream_of(n), CONNECT), now).unwrap();
        victim.hear(&end_data(stream_of(n), b""), now).unwrap();
        victim.end.machine.data_header(StreamId(stream_of(n)), 0, true);
    }
}

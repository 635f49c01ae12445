//! RFC 9113 by its sentences: what a raw peer says, and what the machine must make of it.

use std::io::Write;
use std::time::Instant;

use ringway_protocols::hbone::frame::{CLIENT_PREFACE, U31_MAX, flag, kind};
use ringway_protocols::hbone::{ConnectResponse, Connection, ErrorCode, Event, Settings, StreamId};

use crate::support::*;

/// How far the conversation has come when the row begins.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// A server that has heard nothing.
    FreshServer,
    /// A server after the preface and SETTINGS.
    Server,
    /// A server that has accepted stream 1.
    ServerOpen,
    /// A server that has accepted stream 1, whose client has sent END_STREAM.
    ServerHalfClosed,
    /// A server whose stream 1 both sides have ended.
    ServerEnded,
    /// A server whose client has reset stream 1.
    ServerAfterReset,
    /// A server that has reset stream 1.
    ServerReset,
    /// A server whose client has opened stream 5 and no other.
    ServerSkipped,
    /// A client that has heard nothing.
    FreshClient,
    /// A client after SETTINGS.
    Client,
    /// A client that has asked for stream 1.
    ClientAsking,
    /// A client with stream 1 open.
    ClientOpen,
    /// A client whose stream 1 both sides have ended.
    ClientEnded,
}

/// What must come of it.
#[derive(Clone, Debug, PartialEq)]
enum Want {
    /// GOAWAY with this code, and an error.
    Connection(ErrorCode),
    /// RST_STREAM with this code, and the connection goes on.
    Stream(u32, ErrorCode),
    /// A response with this status that ends the stream.
    Status(u32, u16),
    /// Nothing is wrong, and exactly this is told.
    Fine(Vec<Event>),
    /// Nothing is wrong, and this is answered.
    Answer(Vec<u8>),
}

fn settings_for_tests() -> Settings {
    Settings { stream_window_bytes: 65_535, connection_window_bytes: 100_000, ..Settings::server() }
}

fn arrange(at: At) -> End {
    let now = Instant::now();
    let server = matches!(
        at,
        At::FreshServer
            | At::Server
            | At::ServerOpen
            | At::ServerHalfClosed
            | At::ServerEnded
            | At::ServerAfterReset
            | At::ServerReset
            | At::ServerSkipped
    );
    let mut end = if server {
        End::new(Connection::server(settings_for_tests(), now))
    } else {
        End::new(Connection::client(settings_for_tests(), now))
    };
    let say = |end: &mut End, bytes: &[u8]| end.feed(bytes, usize::MAX, now).unwrap();
    match at {
        At::FreshServer | At::FreshClient => return end,
        _ if server => say(&mut end, &client_hello()),
        _ => say(&mut end, &settings(&[])),
    }
    let one = StreamId(1);
    match at {
        At::Server | At::Client | At::FreshServer | At::FreshClient => {}
        At::ServerSkipped => say(&mut end, &headers(5, CONNECT)),
        At::ServerOpen
        | At::ServerHalfClosed
        | At::ServerEnded
        | At::ServerAfterReset
        | At::ServerReset => {
            say(&mut end, &headers(1, CONNECT));
            end.machine.accept(one, &ConnectResponse::status(200));
            match at {
                At::ServerHalfClosed => say(&mut end, &end_data(1, b"")),
                At::ServerEnded => {
                    say(&mut end, &end_data(1, b""));
                    end.machine.data_header(one, 0, true);
                }
                At::ServerAfterReset => say(&mut end, &reset(1, ErrorCode::CANCEL)),
                At::ServerReset => end.machine.reset(one, ErrorCode::CONNECT_ERROR),
                _ => {}
            }
        }
        At::ClientAsking | At::ClientOpen | At::ClientEnded => {
            assert_eq!(end.machine.open(&request()), Ok(one));
            if at != At::ClientAsking {
                say(&mut end, &headers(1, OK));
            }
            if at == At::ClientEnded {
                end.machine.data_header(one, 0, true);
                say(&mut end, &end_data(1, b""));
            }
        }
    }
    end.output();
    end.events.clear();
    end
}

fn run(rows: Vec<(&str, &str, At, Vec<u8>, Want)>) {
    for (section, name, at, input, want) in rows {
        write_down(&[section, name, &format!("{at:?}"), &hex(&input), &want.to_string()]);
        for slice_bytes in [usize::MAX, 1, 7] {
            let row = format!("§{section}: {name} ({at:?}, slices of {slice_bytes})");
            let mut end = arrange(at);
            let result = end.feed(&input, slice_bytes, Instant::now());
            let output = end.output();
            let resets: Vec<_> = frames(&output)
                .into_iter()
                .filter(|(head, _)| head.kind == kind::RST_STREAM)
                .map(|(head, payload)| (head.stream, payload))
                .collect();
            match &want {
                Want::Connection(code) => {
                    let error = result.expect_err(&row);
                    assert_eq!(error.code(), *code, "{row}: {error}");
                    let (_, payload) = last_of(&output, kind::GOAWAY).expect(&row);
                    assert_eq!(payload[4..], code.0.to_be_bytes(), "{row}");
                    assert_eq!(end.feed(&settings(&[]), 99, Instant::now()), Err(error), "{row}");
                    continue;
                }
                Want::Stream(stream, code) => {
                    assert_eq!(resets, [(*stream, code.0.to_be_bytes().to_vec())], "{row}");
                }
                Want::Status(stream, status) => {
                    let (head, payload) = last_of(&output, kind::HEADERS).expect(&row);
                    assert_eq!(head.stream, *stream, "{row}");
                    assert!(head.flags & flag::END_STREAM != 0, "{row}");
                    let mut decoded = String::new();
                    let mut decoder = ringway_protocols::hbone::hpack::Decoder::new();
                    let collect = |_: &[u8], value: &[u8]| {
                        decoded = String::from_utf8(value.to_vec()).unwrap()
                    };
                    decoder.decode(&payload, usize::MAX, collect).unwrap();
                    assert_eq!(decoded, status.to_string(), "{row}");
                }
                Want::Fine(events) => {
                    assert_eq!(Vec::from(end.events.clone()), *events, "{row}");
                    assert!(resets.is_empty(), "{row}");
                }
                Want::Answer(answer) => {
                    assert_eq!(output, *answer, "{row}");
                }
            }
            assert_eq!(result, Ok(()), "{row}");
            assert!(last_of(&output, kind::GOAWAY).is_none(), "{row}");
            // The connection is still of use.
            let ping = frame(kind::PING, 0, 0, b"ABCDEFGH");
            end.feed(&ping, slice_bytes, Instant::now()).expect(&row);
            assert_eq!(end.output(), frame(kind::PING, flag::ACK, 0, b"ABCDEFGH"), "{row}");
        }
    }
}

/// Appends a row to the file that `RINGWAY_CONFORMANCE_ROWS` names, for whoever says the same to a
/// server over a socket (`scripts/torture B2`).
fn write_down(row: &[&str]) {
    let Some(path) = std::env::var_os("RINGWAY_CONFORMANCE_ROWS") else { return };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    // In one piece: the tests of this file run at the same time.
    file.write_all(format!("{}\n", row.join("\t")).as_bytes()).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Display for Want {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Want::Connection(code) => write!(f, "connection {}", code.0),
            Want::Stream(stream, code) => write!(f, "stream {stream} {}", code.0),
            Want::Status(stream, status) => write!(f, "status {stream} {status}"),
            Want::Fine(_) => f.write_str("fine"),
            Want::Answer(answer) => write!(f, "answer {}", hex(answer)),
        }
    }
}

fn padded(kind: u8, flags: u8, stream: u32, pad_length: u8, rest: &[u8]) -> Vec<u8> {
    frame(kind, flags | flag::PADDED, stream, &[&[pad_length], rest].concat())
}

fn one() -> StreamId {
    StreamId(1)
}

fn reset_event(code: ErrorCode) -> Event {
    Event::Reset { stream: one(), code }
}

fn requested(stream: u32, end_of_stream: bool) -> Event {
    let authority = "10.1.0.10:8080".parse().unwrap();
    let request = Box::new(ringway_protocols::hbone::ConnectRequest::to(authority));
    Event::Request { stream: StreamId(stream), request, end_of_stream }
}

fn answered(end_of_stream: bool) -> Event {
    Event::Response { stream: one(), response: ConnectResponse::status(200), end_of_stream }
}

const PROTOCOL: Want = Want::Connection(ErrorCode::PROTOCOL_ERROR);
const FLOW: Want = Want::Connection(ErrorCode::FLOW_CONTROL_ERROR);
const SIZE: Want = Want::Connection(ErrorCode::FRAME_SIZE_ERROR);
const CLOSED: Want = Want::Connection(ErrorCode::STREAM_CLOSED);
const COMPRESSION: Want = Want::Connection(ErrorCode::COMPRESSION_ERROR);
const CALM: Want = Want::Connection(ErrorCode::ENHANCE_YOUR_CALM);
const STREAM_PROTOCOL: Want = Want::Stream(1, ErrorCode::PROTOCOL_ERROR);

fn nothing() -> Want {
    Want::Fine(vec![])
}

#[test]
fn starting() {
    let http1 = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let ack = frame(kind::SETTINGS, flag::ACK, 0, &[]);
    let preface_then = |rest: &[u8]| [CLIENT_PREFACE.as_slice(), rest].concat();
    #[rustfmt::skip]
    run(vec![
        ("3.4", "an invalid preface is a connection error",      At::FreshServer, http1, PROTOCOL),
        ("3.4", "a preface wrong in its last byte",              At::FreshServer, [&CLIENT_PREFACE[..23], b"x"].concat(), PROTOCOL),
        ("3.4", "the preface must be followed by SETTINGS",      At::FreshServer, preface_then(&frame(kind::PING, 0, 0, &[0; 8])), PROTOCOL),
        ("3.4", "an acknowledgement is not the SETTINGS meant",  At::FreshServer, preface_then(&ack), PROTOCOL),
        ("3.4", "SETTINGS may be empty",                         At::FreshServer, preface_then(&settings(&[])), Want::Fine(vec![Event::Settings])),
        ("3.4", "the server's preface is SETTINGS",              At::FreshClient, frame(kind::PING, 0, 0, &[0; 8]), PROTOCOL),
        ("3.4", "not an acknowledgement, at the client either",  At::FreshClient, ack.clone(), PROTOCOL),
        ("3.4", "the server's SETTINGS may be empty",            At::FreshClient, settings(&[]), Want::Fine(vec![Event::Settings])),
    ]);
}

#[test]
fn frames_in_general() {
    let too_long = |kind| {
        let head = ringway_protocols::hbone::frame::Head {
            length: 1024 * 1024 + 1,
            kind,
            flags: 0,
            stream: 1,
        };
        head.encode().to_vec()
    };
    let reserved_bit = {
        let mut ping = frame(kind::PING, 0, 0, b"12345678");
        ping[5] |= 0x80;
        ping
    };
    let odd_flags = frame(kind::PING, 0xfe, 0, b"12345678");
    let pong = frame(kind::PING, flag::ACK, 0, b"12345678");
    #[rustfmt::skip]
    run(vec![
        ("4.1", "the reserved bit is ignored",                   At::Server, reserved_bit, Want::Answer(pong.clone())),
        ("4.1", "flags without a meaning are ignored",           At::Server, odd_flags, Want::Answer(pong)),
        ("4.1", "unknown frame types are discarded",             At::Server, frame(0xf0, 0xff, 7, &[1; 300]), nothing()),
        ("5.5", "unknown frame types are discarded, on stream 0", At::Client, frame(0xf0, 0xff, 0, b""), nothing()),
        ("5.5", "not in the middle of a header block",           At::Server, [frame(kind::HEADERS, 0, 1, &block(CONNECT)), frame(0xf0, 0, 1, b"")].concat(), PROTOCOL),
        ("4.2", "DATA longer than announced",                    At::ServerOpen, too_long(kind::DATA), SIZE),
        ("4.2", "HEADERS longer than announced",                 At::Server, too_long(kind::HEADERS), SIZE),
        ("4.2", "an unknown frame longer than announced",        At::Server, too_long(0xf0), SIZE),
        ("4.3", "a block that cannot be decompressed",           At::Server, frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x80"), COMPRESSION),
        ("4.3", "nor in trailers",                               At::ServerOpen, frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, b"\xff"), COMPRESSION),
        ("4.3", "nor in a response",                             At::ClientAsking, frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x40"), COMPRESSION),
        ("4.3", "nor on a stream that is gone",                  At::ServerReset, frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, b"\x80"), COMPRESSION),
        ("4.3.1", "a table size above the announced one",        At::Server, frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x3f\xe2\x1f"), COMPRESSION),
    ]);
}

#[test]
fn streams() {
    #[rustfmt::skip]
    run(vec![
        ("5.1", "idle: DATA",                                    At::Server, data(1, b"x"), PROTOCOL),
        ("5.1", "idle: RST_STREAM",                              At::Server, reset(1, ErrorCode::CANCEL), PROTOCOL),
        ("5.1", "idle: WINDOW_UPDATE",                           At::Server, window_update(1, 1), PROTOCOL),
        ("5.1", "idle: CONTINUATION",                            At::Server, frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block(CONNECT)), PROTOCOL),
        ("5.1", "idle: PRIORITY",                                At::Server, frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), nothing()),
        ("5.1", "idle at the client: DATA",                      At::Client, data(1, b"x"), PROTOCOL),
        ("5.1", "idle at the client: HEADERS",                   At::Client, headers(1, OK), PROTOCOL),
        ("5.1", "idle at the client: RST_STREAM",                At::Client, reset(1, ErrorCode::CANCEL), PROTOCOL),
        ("5.1", "half-closed: DATA",                             At::ServerHalfClosed, data(1, b"x"), Want::Stream(1, ErrorCode::STREAM_CLOSED)),
        ("5.1", "half-closed: HEADERS",                          At::ServerHalfClosed, end_headers(1, &[("a", "b")]), Want::Stream(1, ErrorCode::STREAM_CLOSED)),
        ("5.1", "half-closed: WINDOW_UPDATE",                    At::ServerHalfClosed, window_update(1, 1), nothing()),
        ("5.1", "half-closed: PRIORITY",                         At::ServerHalfClosed, frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), nothing()),
        ("5.1", "half-closed: RST_STREAM",                       At::ServerHalfClosed, reset(1, ErrorCode::CANCEL), Want::Fine(vec![reset_event(ErrorCode::CANCEL)])),
        ("5.1", "closed by END_STREAM: DATA",                    At::ServerEnded, data(1, b"x"), CLOSED),
        ("5.1", "closed by END_STREAM: HEADERS",                 At::ServerEnded, headers(1, CONNECT), CLOSED),
        ("5.1", "closed by END_STREAM: WINDOW_UPDATE is late",   At::ServerEnded, window_update(1, 1), nothing()),
        ("5.1", "closed by END_STREAM: RST_STREAM is late",      At::ServerEnded, reset(1, ErrorCode::NO_ERROR), nothing()),
        ("5.1", "closed by END_STREAM: PRIORITY",                At::ServerEnded, frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), nothing()),
        ("5.1", "closed by its own RST_STREAM: DATA",            At::ServerAfterReset, data(1, b"x"), CLOSED),
        ("5.1", "closed by its own RST_STREAM: HEADERS",         At::ServerAfterReset, headers(1, CONNECT), CLOSED),
        ("5.1", "closed by our RST_STREAM: DATA is ignored",     At::ServerReset, data(1, b"x"), nothing()),
        ("5.1", "closed by our RST_STREAM: END_STREAM too",      At::ServerReset, end_data(1, b"x"), nothing()),
        ("5.1", "closed by our RST_STREAM: trailers too",        At::ServerReset, end_headers(1, &[("a", "b")]), nothing()),
        ("5.1", "closed by our RST_STREAM: theirs crossed it",   At::ServerReset, reset(1, ErrorCode::CANCEL), nothing()),
        ("5.1", "at the client, closed: DATA",                   At::ClientEnded, data(1, b"x"), CLOSED),
        ("5.1", "at the client, closed: HEADERS",                At::ClientEnded, headers(1, OK), CLOSED),
        ("5.1.1", "clients use odd ids",                         At::Server, headers(2, CONNECT), PROTOCOL),
        ("5.1.1", "servers open no streams without PUSH",        At::Client, headers(2, OK), PROTOCOL),
        ("5.1.1", "stream 0 is not for HEADERS",                 At::Server, headers(0, CONNECT), PROTOCOL),
        ("5.1.1", "a new id must be higher than all before",     At::ServerSkipped, headers(3, CONNECT), PROTOCOL),
        ("5.1.1", "streams passed over are closed",              At::ServerSkipped, data(3, b"x"), CLOSED),
        ("5.1.1", "ids may be passed over",                      At::Server, headers(7, CONNECT), Want::Fine(vec![requested(7, false)])),
        ("5.1.1", "the highest id there is",                     At::Server, headers(U31_MAX, CONNECT), Want::Fine(vec![requested(U31_MAX, false)])),
        ("5.3.2", "priority in HEADERS is ignored",              At::Server, frame(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 1, &[&[0x80, 0, 0, 3, 9], &block(CONNECT)[..]].concat()), Want::Fine(vec![requested(1, false)])),
        ("5.3.1", "a new stream cannot depend on itself",        At::Server, frame(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 1, &[&[0, 0, 0, 1, 9], &block(CONNECT)[..]].concat()), STREAM_PROTOCOL),
        ("5.3.1", "nor can an open one",                         At::ServerOpen, frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), STREAM_PROTOCOL),
        ("5.3.1", "nor can an idle one",                         At::Server, frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), PROTOCOL),
    ]);
}

#[test]
fn concurrency() {
    let mut server = End::server(Settings { streams_max: 2, ..Settings::server() }, Instant::now());
    let now = Instant::now();
    server.feed(&client_hello(), 9, now).unwrap();
    for stream in [1, 3, 5] {
        server.feed(&headers(stream, CONNECT), 9, now).unwrap();
    }
    let (head, payload) = last_of(&server.output(), kind::RST_STREAM).expect("§5.1.2");
    assert_eq!((head.stream, &payload[..]), (5, &ErrorCode::REFUSED_STREAM.0.to_be_bytes()[..]));
    assert_eq!(server.machine.open_streams(), 2);
    server.feed(&data(5, b"late"), 9, now).expect("§5.4.2: frames under way are tolerated");
    server.feed(&reset(1, ErrorCode::CANCEL), 9, now).unwrap();
    server.feed(&headers(7, CONNECT), 9, now).unwrap();
    assert_eq!(
        server.events.pop_back(),
        Some(requested(7, false)),
        "half-closed or gone: not counted"
    );
}

#[test]
fn data_frames() {
    let whole = vec![0; 65_535];
    let over = vec![0; 65_536];
    let padding_alone = padded(kind::DATA, 0, 1, 255, &[0; 255]);
    #[rustfmt::skip]
    run(vec![
        ("6.1", "DATA on stream 0",                              At::Server, data(0, b"x"), PROTOCOL),
        ("6.1", "padding longer than the payload",               At::ServerOpen, padded(kind::DATA, 0, 1, 5, b"abcd"), PROTOCOL),
        ("6.1", "padding longer than an empty payload",          At::ServerOpen, padded(kind::DATA, 0, 1, 1, b""), PROTOCOL),
        ("6.1", "padding that is all there is",                  At::ServerOpen, padded(kind::DATA, 0, 1, 4, b"abcd"), nothing()),
        ("6.1", "padding of no bytes",                           At::ServerOpen, padded(kind::DATA, 0, 1, 0, b""), nothing()),
        ("6.1", "padding to the most",                           At::ServerOpen, padding_alone, nothing()),
        ("6.1", "PADDED without a pad length",                   At::ServerOpen, frame(kind::DATA, flag::PADDED, 1, b""), SIZE),
        ("6.1", "END_STREAM with padding",                       At::ServerOpen, padded(kind::DATA, flag::END_STREAM, 1, 2, b"ab"), Want::Fine(vec![Event::EndOfStream { stream: one() }])),
        ("6.1", "END_STREAM with payload",                       At::ServerOpen, end_data(1, b"ab"), Want::Fine(vec![Event::EndOfStream { stream: one() }])),
        ("6.1", "END_STREAM with nothing",                       At::ServerOpen, end_data(1, b""), Want::Fine(vec![Event::EndOfStream { stream: one() }])),
        ("8.1", "DATA before the response",                      At::ClientAsking, data(1, b"x"), STREAM_PROTOCOL),
        ("6.9", "DATA that fills the stream's window",           At::ServerOpen, data(1, &whole), nothing()),
        ("6.9", "DATA beyond the stream's window",               At::ServerOpen, data(1, &over), Want::Stream(1, ErrorCode::FLOW_CONTROL_ERROR)),
        ("6.9", "DATA beyond the connection's window",           At::ServerOpen, data(1, &[0; 100_001]), FLOW),
        ("6.9.1", "also on a stream that is gone",               At::ServerReset, data(1, &[0; 100_001]), FLOW),
    ]);
}

#[test]
fn header_frames() {
    let split = |at: usize| {
        let block = block(CONNECT);
        [
            frame(kind::HEADERS, 0, 1, &block[..at]),
            frame(kind::CONTINUATION, 0, 1, &[]),
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[at..]),
        ]
        .concat()
    };
    let with_priority_and_padding = {
        let rest = [&[0, 0, 0, 3, 9][..], &block(CONNECT), &[0; 7]].concat();
        padded(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 1, 7, &rest)
    };
    let open_block = frame(kind::HEADERS, 0, 1, &block(CONNECT)[..3]);
    let interrupted = |by: Vec<u8>| [open_block.clone(), by].concat();
    let on_other_stream = frame(kind::CONTINUATION, flag::END_HEADERS, 3, b"");
    #[rustfmt::skip]
    run(vec![
        ("6.2", "a request with priority and padding",           At::Server, with_priority_and_padding, Want::Fine(vec![requested(1, false)])),
        ("6.2", "a request that ends its stream",                At::Server, end_headers(1, CONNECT), Want::Fine(vec![requested(1, true)])),
        ("6.2", "padding longer than the fragment",              At::Server, padded(kind::HEADERS, flag::END_HEADERS, 1, 200, &block(CONNECT)), PROTOCOL),
        ("6.2", "PADDED without a pad length",                   At::Server, frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 1, b""), SIZE),
        ("6.2", "PRIORITY without its five bytes",               At::Server, frame(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 1, b"1234"), SIZE),
        ("6.10", "a block in three frames, one of them empty",   At::Server, split(3), Want::Fine(vec![requested(1, false)])),
        ("6.10", "a block whose HEADERS is empty",               At::Server, split(0), Want::Fine(vec![requested(1, false)])),
        ("6.10", "CONTINUATION without HEADERS",                 At::Server, frame(kind::CONTINUATION, flag::END_HEADERS, 1, b""), PROTOCOL),
        ("6.10", "CONTINUATION after a whole block",             At::Server, [headers(1, CONNECT), frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"")].concat(), PROTOCOL),
        ("6.10", "CONTINUATION on another stream",               At::Server, interrupted(on_other_stream), PROTOCOL),
        ("6.10", "a block interrupted by DATA",                  At::Server, interrupted(data(1, b"")), PROTOCOL),
        ("6.10", "a block interrupted by HEADERS",               At::Server, interrupted(headers(3, CONNECT)), PROTOCOL),
        ("6.10", "a block interrupted by PING",                  At::Server, interrupted(frame(kind::PING, 0, 0, &[0; 8])), PROTOCOL),
        ("6.10", "a block interrupted by SETTINGS",              At::Server, interrupted(settings(&[])), PROTOCOL),
        ("6.10", "a block interrupted by WINDOW_UPDATE",         At::Server, interrupted(window_update(0, 1)), PROTOCOL),
        ("6.10", "a block interrupted by GOAWAY",                At::Server, interrupted(go_away(0, ErrorCode::NO_ERROR)), PROTOCOL),
        ("6.10", "a block interrupted by RST_STREAM",            At::Server, interrupted(reset(1, ErrorCode::CANCEL)), PROTOCOL),
        ("10.5.1", "a block beyond the announced list",          At::Server, frame(kind::HEADERS, flag::END_HEADERS, 1, &vec![0x82; 64 * 1024 + 300]), CALM),
        ("10.5.1", "also by its announced length alone",         At::Server, frame(kind::HEADERS, 0, 1, &vec![0x82; 64 * 1024 + 300])[..9].to_vec(), CALM),
        ("8.4", "PUSH_PROMISE to a server",                      At::ServerOpen, frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2]), PROTOCOL),
        ("8.4", "PUSH_PROMISE to a client that disabled it",     At::ClientOpen, frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2]), PROTOCOL),
    ]);
}

#[test]
fn management_frames() {
    let ack = frame(kind::SETTINGS, flag::ACK, 0, &[]);
    let max = U31_MAX;
    #[rustfmt::skip]
    run(vec![
        ("6.3", "PRIORITY on stream 0",                          At::Server, frame(kind::PRIORITY, 0, 0, &[0, 0, 0, 3, 9]), PROTOCOL),
        ("6.3", "PRIORITY of four bytes is a stream's error",    At::ServerOpen, frame(kind::PRIORITY, 0, 1, &[0; 4]), Want::Stream(1, ErrorCode::FRAME_SIZE_ERROR)),
        ("6.3", "PRIORITY of six bytes, on no stream",           At::Server, frame(kind::PRIORITY, 0, 1, &[0; 6]), SIZE),
        ("6.4", "RST_STREAM on stream 0",                        At::Server, reset(0, ErrorCode::CANCEL), PROTOCOL),
        ("6.4", "RST_STREAM of three bytes",                     At::ServerOpen, frame(kind::RST_STREAM, 0, 1, &[0; 3]), SIZE),
        ("6.4", "RST_STREAM with an unknown code",               At::ServerOpen, reset(1, ErrorCode(0xabc)), Want::Fine(vec![reset_event(ErrorCode(0xabc))])),
        ("6.5", "SETTINGS are acknowledged",                     At::Server, settings(&[(3, 1)]), Want::Answer(ack.clone())),
        ("6.5", "an acknowledgement is not acknowledged",        At::Server, ack.clone(), Want::Answer(vec![])),
        ("6.5", "an acknowledgement with a payload",             At::Server, frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), SIZE),
        ("6.5", "SETTINGS on a stream",                          At::Server, frame(kind::SETTINGS, 0, 1, &[]), PROTOCOL),
        ("6.5", "SETTINGS that are no multiple of six",          At::Server, frame(kind::SETTINGS, 0, 0, &[0; 5]), SIZE),
        ("6.5.2", "ENABLE_PUSH of 2",                            At::Server, settings(&[(2, 2)]), PROTOCOL),
        ("6.5.2", "ENABLE_PUSH of 1 by a client",                At::Server, settings(&[(2, 1)]), Want::Fine(vec![Event::Settings])),
        ("6.5.2", "ENABLE_PUSH of 1 by a server",                At::Client, settings(&[(2, 1)]), PROTOCOL),
        ("6.5.2", "ENABLE_PUSH of 0 by a server",                At::Client, settings(&[(2, 0)]), Want::Fine(vec![Event::Settings])),
        ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31",                 At::Server, settings(&[(4, max + 1)]), FLOW),
        ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31-1",               At::Server, settings(&[(4, max)]), Want::Fine(vec![Event::Settings])),
        ("6.5.2", "MAX_FRAME_SIZE of 2^14-1",                    At::Server, settings(&[(5, 16_383)]), PROTOCOL),
        ("6.5.2", "MAX_FRAME_SIZE of 2^24",                      At::Server, settings(&[(5, 1 << 24)]), PROTOCOL),
        ("6.5.2", "MAX_FRAME_SIZE of 2^24-1",                    At::Server, settings(&[(5, (1 << 24) - 1)]), Want::Fine(vec![Event::Settings])),
        ("6.5.2", "unknown settings are ignored",                At::Server, settings(&[(0xf0f0, 7)]), Want::Fine(vec![Event::Settings])),
        ("8441 3", "ENABLE_CONNECT_PROTOCOL of 2",               At::Client, settings(&[(8, 2)]), PROTOCOL),
        ("6.9.2", "a window raised beyond 2^31-1 by SETTINGS",   At::ServerOpen, [window_update(1, 1), settings(&[(4, max)])].concat(), FLOW),
        ("6.7", "PING is answered with its payload",             At::Server, frame(kind::PING, 0, 0, b"12345678"), Want::Answer(frame(kind::PING, flag::ACK, 0, b"12345678"))),
        ("6.7", "PONG is not answered",                          At::Server, frame(kind::PING, flag::ACK, 0, b"12345678"), Want::Answer(vec![])),
        ("6.7", "PING on a stream",                              At::ServerOpen, frame(kind::PING, 0, 1, &[0; 8]), PROTOCOL),
        ("6.7", "PING of seven bytes",                           At::Server, frame(kind::PING, 0, 0, &[0; 7]), SIZE),
        ("6.8", "GOAWAY on a stream",                            At::ServerOpen, frame(kind::GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        ("6.8", "GOAWAY of seven bytes",                         At::Server, frame(kind::GOAWAY, 0, 0, &[0; 7]), SIZE),
        ("6.8", "GOAWAY with debug data",                        At::Client, frame(kind::GOAWAY, 0, 0, &[&[0; 8][..], &[b'x'; 3000]].concat()), Want::Fine(vec![Event::GoAway { last_stream: StreamId(0), code: ErrorCode::NO_ERROR }])),
        ("6.8", "a later GOAWAY may lower the last stream",      At::ClientOpen, [go_away(max, ErrorCode::NO_ERROR), go_away(1, ErrorCode::NO_ERROR)].concat(), Want::Fine(vec![Event::GoAway { last_stream: StreamId(max), code: ErrorCode::NO_ERROR }, Event::GoAway { last_stream: one(), code: ErrorCode::NO_ERROR }])),
        ("6.8", "a later GOAWAY must not raise it",              At::ClientOpen, [go_away(1, ErrorCode::NO_ERROR), go_away(3, ErrorCode::NO_ERROR)].concat(), PROTOCOL),
        ("6.8", "streams above the last one were not processed", At::ClientAsking, go_away(0, ErrorCode::NO_ERROR), Want::Fine(vec![Event::GoAway { last_stream: StreamId(0), code: ErrorCode::NO_ERROR }, reset_event(ErrorCode::REFUSED_STREAM)])),
        ("6.9", "WINDOW_UPDATE of three bytes",                  At::ServerOpen, frame(kind::WINDOW_UPDATE, 0, 1, &[0; 3]), SIZE),
        ("6.9", "WINDOW_UPDATE of the connection by 0",          At::Server, window_update(0, 0), PROTOCOL),
        ("6.9", "WINDOW_UPDATE of a stream by 0",                At::ServerOpen, window_update(1, 0), STREAM_PROTOCOL),
        ("6.9", "the reserved bit of the increment is ignored",  At::ServerOpen, window_update(1, 1 << 31 | 5), nothing()),
        ("6.9.1", "the connection's window beyond 2^31-1",       At::Server, window_update(0, max), FLOW),
        ("6.9.1", "a stream's window beyond 2^31-1",             At::ServerOpen, window_update(1, max), Want::Stream(1, ErrorCode::FLOW_CONTROL_ERROR)),
        ("6.9.1", "a window of just 2^31-1",                     At::ServerOpen, window_update(1, max - 65_535), nothing()),
    ]);
}

#[test]
fn requests() {
    let status = |status| Want::Status(1, status);
    let with = |more: &[(&str, &str)]| headers(1, &[CONNECT, more].concat());
    let get =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "10.1.0.10:8080")];
    let without = |name: &str| {
        headers(1, &get.iter().copied().filter(|(field, _)| *field != name).collect::<Vec<_>>())
    };
    let many = vec![("a", ""); 2_000];
    #[rustfmt::skip]
    run(vec![
        ("8.5", "CONNECT without an authority",                  At::Server, headers(1, &[(":method", "CONNECT")]), status(400)),
        ("8.5", "CONNECT with an authority that has no port",    At::Server, headers(1, &[(":method", "CONNECT"), (":authority", "a.example")]), status(400)),
        ("8.5", "CONNECT with a scheme",                         At::Server, with(&[(":scheme", "https")]), STREAM_PROTOCOL),
        ("8.5", "CONNECT with a path",                           At::Server, with(&[(":path", "/")]), STREAM_PROTOCOL),
        ("8.5", "another method",                                At::Server, headers(1, &get), status(400)),
        ("8.3.1", "another method without a scheme",             At::Server, without(":scheme"), STREAM_PROTOCOL),
        ("8.3.1", "another method without a path",               At::Server, without(":path"), STREAM_PROTOCOL),
        ("8.3.1", "no method",                                   At::Server, without(":method"), STREAM_PROTOCOL),
        ("8.3.1", "an empty path",                               At::Server, headers(1, &[(":method", "GET"), (":scheme", "http"), (":path", "")]), STREAM_PROTOCOL),
        ("8.3", "a method twice",                                At::Server, with(&[(":method", "CONNECT")]), STREAM_PROTOCOL),
        ("8.3", "an authority twice",                            At::Server, with(&[(":authority", "10.1.0.10:8080")]), STREAM_PROTOCOL),
        ("8.3", "an unknown pseudo-header",                      At::Server, with(&[(":x", "y")]), STREAM_PROTOCOL),
        ("8.3", "a response's pseudo-header",                    At::Server, with(&[(":status", "200")]), STREAM_PROTOCOL),
        ("8441 4", "extended CONNECT, which we do not announce", At::Server, with(&[(":protocol", "websocket")]), STREAM_PROTOCOL),
        ("8.3", "a pseudo-header after a field",                 At::Server, headers(1, &[(":method", "CONNECT"), ("a", "b"), (":authority", "10.1.0.10:8080")]), STREAM_PROTOCOL),
        ("8.2.1", "a capital letter in a name",                  At::Server, with(&[("Baggage", "x")]), STREAM_PROTOCOL),
        ("8.2.1", "a capital letter in a pseudo-header",         At::Server, with(&[(":Path", "x")]), STREAM_PROTOCOL),
        ("8.2.1", "a space in a name",                           At::Server, with(&[("a b", "x")]), STREAM_PROTOCOL),
        ("8.2.1", "a colon in a name",                           At::Server, with(&[("a:b", "x")]), STREAM_PROTOCOL),
        ("8.2.1", "an empty name",                               At::Server, with(&[("", "x")]), STREAM_PROTOCOL),
        ("8.2.1", "a name not in ASCII",                         At::Server, with(&[("ä", "x")]), STREAM_PROTOCOL),
        ("8.2.1", "NUL in a value",                              At::Server, with(&[("a", "b\0c")]), STREAM_PROTOCOL),
        ("8.2.1", "a line break in a value",                     At::Server, with(&[("a", "b\nc")]), STREAM_PROTOCOL),
        ("8.2.1", "a carriage return in a value",                At::Server, with(&[("a", "b\rc")]), STREAM_PROTOCOL),
        ("8.2.1", "white space before a value",                  At::Server, with(&[("a", " b")]), STREAM_PROTOCOL),
        ("8.2.1", "white space after a value",                   At::Server, with(&[("a", "b\t")]), STREAM_PROTOCOL),
        ("8.2.1", "a value not in ASCII is allowed",             At::Server, with(&[("a", "ä")]), Want::Fine(vec![requested(1, false)])),
        ("8.2.2", "connection",                                  At::Server, with(&[("connection", "close")]), STREAM_PROTOCOL),
        ("8.2.2", "keep-alive",                                  At::Server, with(&[("keep-alive", "5")]), STREAM_PROTOCOL),
        ("8.2.2", "transfer-encoding",                           At::Server, with(&[("transfer-encoding", "chunked")]), STREAM_PROTOCOL),
        ("8.2.2", "upgrade",                                     At::Server, with(&[("upgrade", "h2c")]), STREAM_PROTOCOL),
        ("8.2.2", "proxy-connection",                            At::Server, with(&[("proxy-connection", "x")]), STREAM_PROTOCOL),
        ("8.2.2", "te other than trailers",                      At::Server, with(&[("te", "gzip")]), STREAM_PROTOCOL),
        ("8.2.2", "te of trailers",                              At::Server, with(&[("te", "trailers")]), Want::Fine(vec![requested(1, false)])),
        ("10.5.1", "a list beyond the announced size",           At::Server, with(&many), status(431)),
        ("8.1", "trailers end the stream",                       At::ServerOpen, end_headers(1, &[("a", "b")]), Want::Fine(vec![Event::EndOfStream { stream: one() }])),
        ("8.1", "trailers without END_STREAM",                   At::ServerOpen, headers(1, &[("a", "b")]), STREAM_PROTOCOL),
        ("8.1", "trailers with a pseudo-header",                 At::ServerOpen, end_headers(1, &[(":path", "/")]), STREAM_PROTOCOL),
        ("8.1", "trailers with a capital letter",                At::ServerOpen, end_headers(1, &[("A", "/")]), STREAM_PROTOCOL),
    ]);
}

#[test]
fn responses() {
    let response = |fields: &[(&str, &str)]| headers(1, fields);
    let informational = |status| headers(1, &[(":status", status), ("a", "b")]);
    let then_ok = |first: Vec<u8>| [first, headers(1, OK)].concat();
    let refused = Event::Response {
        stream: one(),
        response: ConnectResponse::status(503),
        end_of_stream: true,
    };
    #[rustfmt::skip]
    run(vec![
        ("8.3.2", "a response",                                  At::ClientAsking, response(OK), Want::Fine(vec![answered(false)])),
        ("8.1", "a response that ends its stream",               At::ClientAsking, end_headers(1, OK), Want::Fine(vec![answered(true)])),
        ("8.5", "a refusal",                                     At::ClientAsking, end_headers(1, &[(":status", "503")]), Want::Fine(vec![refused])),
        ("8.3.2", "a response without a status",                 At::ClientAsking, response(&[("a", "b")]), STREAM_PROTOCOL),
        ("8.3.2", "a status of two digits",                      At::ClientAsking, response(&[(":status", "20")]), STREAM_PROTOCOL),
        ("8.3.2", "a status of letters",                         At::ClientAsking, response(&[(":status", "2xx")]), STREAM_PROTOCOL),
        ("8.3.2", "a status of 600",                             At::ClientAsking, response(&[(":status", "600")]), STREAM_PROTOCOL),
        ("8.3", "a status twice",                                At::ClientAsking, response(&[(":status", "200"), (":status", "200")]), STREAM_PROTOCOL),
        ("8.3", "a status after a field",                        At::ClientAsking, response(&[("a", "b"), (":status", "200")]), STREAM_PROTOCOL),
        ("8.3", "a request's pseudo-header",                     At::ClientAsking, response(&[(":status", "200"), (":path", "/")]), STREAM_PROTOCOL),
        ("8.1", "informational responses come before",           At::ClientAsking, then_ok(informational("103")), Want::Fine(vec![answered(false)])),
        ("8.1", "an informational response cannot end a stream", At::ClientAsking, end_headers(1, &[(":status", "100")]), STREAM_PROTOCOL),
        ("8.6", "101 does not exist",                            At::ClientAsking, informational("101"), STREAM_PROTOCOL),
        ("8.2.2", "a connection-specific field",                 At::ClientAsking, response(&[(":status", "200"), ("connection", "x")]), STREAM_PROTOCOL),
        ("8.1", "trailers end the stream",                       At::ClientOpen, end_headers(1, &[("a", "b")]), Want::Fine(vec![Event::EndOfStream { stream: one() }])),
        ("8.1", "a second response",                             At::ClientOpen, headers(1, OK), STREAM_PROTOCOL),
        ("8.7", "a stream refused is safe to try again",         At::ClientAsking, reset(1, ErrorCode::REFUSED_STREAM), Want::Fine(vec![reset_event(ErrorCode::REFUSED_STREAM)])),
        ("8.5", "a TCP reset at the far end",                    At::ClientOpen, reset(1, ErrorCode::CONNECT_ERROR), Want::Fine(vec![reset_event(ErrorCode::CONNECT_ERROR)])),
    ]);
}

/// §6.9.2: a changed initial window moves the windows of open streams, also below zero.
#[test]
fn a_window_can_become_negative() {
    let now = Instant::now();
    let mut server = arrange(At::ServerOpen);
    let head = server.machine.data_header(one(), 60_000 - 50_000, false);
    assert_eq!(head.len(), 9);
    server.feed(&settings(&[(4, 4_000)]), 9, now).unwrap();
    assert_eq!(server.machine.send_capacity(one()), 0, "4000 - 10000 is below zero");
    server.feed(&window_update(1, 6_000), 9, now).unwrap();
    assert_eq!(server.machine.send_capacity(one()), 0, "zero is not positive");
    server.events.clear();
    server.feed(&window_update(1, 10), 9, now).unwrap();
    assert_eq!(server.next(), Event::SendCapacity { stream: Some(one()) });
    assert_eq!(server.machine.send_capacity(one()), 10);
    server.machine.data_header(one(), 10, false);
    server.feed(&settings(&[(4, 5_000)]), 9, now).unwrap();
    assert_eq!(server.next(), Event::Settings);
    assert_eq!(server.next(), Event::SendCapacity { stream: Some(one()) });
    assert_eq!(server.machine.send_capacity(one()), 1_000);
}

/// §6.8: after its last GOAWAY a server ignores new streams, but keeps the connection's state
/// right.
#[test]
fn streams_after_the_last_goaway_are_ignored() {
    let now = Instant::now();
    let mut server = arrange(At::ServerOpen);
    server.machine.go_away(ErrorCode::INTERNAL_ERROR);
    let (_, payload) = last_of(&server.output(), kind::GOAWAY).unwrap();
    assert_eq!(payload[..4], 1_u32.to_be_bytes());
    server.feed(&headers(3, CONNECT), 9, now).unwrap();
    server.feed(&data(3, &[0; 40_000]), 999, now).unwrap();
    server.feed(&data(3, &[0; 40_000]), 999, now).unwrap();
    assert!(server.events.is_empty());
    let (head, _) = last_of(&server.output(), kind::WINDOW_UPDATE).expect("credit is given back");
    assert_eq!(head.stream, 0);
    server.feed(&end_data(1, b"x"), 999, now).unwrap();
    assert_eq!(server.next(), Event::EndOfStream { stream: one() }, "open streams go on");
}

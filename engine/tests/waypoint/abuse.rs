//! HTTP/2 abuse by clients, at every kind of listener that speaks HTTP/2 with them: each kind is cut soon, costs little, and leaves nothing.
//!
//! What it may cost is counted, not timed: polls of tasks, requests that reach the backend, bytes that the client is answered.

use std::{
    io::{self, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ringway_engine::{Engine, snapshot::AppProtocol};
use ringway_http::model::ListenerProtocol;

use crate::{
    application::{ok, read_head, serve},
    gateway::{GATEWAY, Https, gateway, listener},
    mesh::{Mesh, PATIENCE, Plan, on_both, wait_for},
};

/// Units of abuse that a client sends, unless it is cut before.
const UNITS: u32 = 20_000;
/// The same where a unit has 16 KB.
const LARGE_UNITS: u32 = 500;
/// Units in one write, so that many are under way before the first is judged.
const BATCH: u32 = 50;

/// Polls of tasks, on all shards of the process.
const POLLS_MAX: u64 = 5_000;
/// Requests that come to the backend: those that a client may give up, which depends on how its bytes come.
const PASSED_MAX: u64 = 1_000;
/// Bytes that the client gets.
const ANSWERED_BYTES_MAX: usize = 256 << 10;

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xbe;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

#[test]
fn floods_at_a_waypoint_are_cut() {
    on_both(|reactor| {
        let (plan, passed) = plan();
        let mesh = Mesh::start(reactor, &plan);
        every_flood_is_cut(&mesh, &passed, || patient(mesh.connect(80)));
    });
}

#[test]
fn floods_at_a_plain_listener_are_cut() {
    on_both(|reactor| {
        let (plan, passed) = plan();
        let listener = listener("http", ListenerProtocol::Http);
        let at = (GATEWAY, listener.port);
        let (role, config) = gateway(listener);
        let mesh = Mesh::start(reactor, &plan.at_gateway(role, config));
        every_flood_is_cut(&mesh, &passed, || patient(TcpStream::connect(at).expect("a listener")));
    });
}

#[test]
fn floods_at_a_listener_with_tls_are_cut() {
    on_both(|reactor| {
        let (plan, passed) = plan();
        let https = Https::of("web.example", &[b"h2"]);
        let (role, config) = gateway(https.listener.clone());
        let mesh = Mesh::start(reactor, &plan.at_gateway(role, config));
        every_flood_is_cut(&mesh, &passed, || {
            let stream = https.connect("web.example");
            stream.sock.set_read_timeout(Some(PATIENCE)).expect("set");
            stream.sock.set_write_timeout(Some(PATIENCE)).expect("set");
            stream
        });
    });
}

#[test]
fn what_there_was_too_much_of_is_told() {
    on_both(|reactor| {
        let (plan, _) = plan();
        let mesh = Mesh::start(reactor, &plan);
        let floods = floods();
        let flood = floods.iter().find(|flood| flood.name == "PING").expect("it is there");
        flood.run(patient(mesh.connect(80))).expect("it is cut");
        let record = mesh.record();
        assert_eq!(record.details, "http2.flood{the client sends too much of PING}");
        assert_eq!(record.code, 0);
    });
}

/// A service whose backend has much to say to who asks for that; and how many requests came there.
fn plan() -> (Plan, Arc<AtomicU64>) {
    let passed = Arc::new(AtomicU64::new(0));
    let counted = passed.clone();
    // Of a connection each: what is left of a body must not be taken for a request.
    let last = |body: &str| ok(body).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let (large, short) = (last(&"x".repeat(1 << 20)), last("in"));
    let port = serve(move |_, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        // Bodies that never end are not waited for.
        if let Some(request) = read_head(&mut reader) {
            counted.fetch_add(1, Relaxed);
            let answer = if request.line.contains("/large") { &large } else { &short };
            // Nobody may be listening any more.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (Plan::of(port, AppProtocol::Http11), passed)
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn every_flood_is_cut<S: Read + Write>(mesh: &Mesh, passed: &AtomicU64, connect: impl Fn() -> S) {
    for flood in floods() {
        let name = flood.name;
        let before = (polls(&mesh.waypoint), passed.load(Relaxed));
        let answered = flood.run(connect());
        let answered = answered.unwrap_or_else(|error| panic!("{name} is not cut: {error}"));
        let is_over = || mesh.waypoint.connections().is_empty().then_some(());
        wait_for(is_over);
        let polls = polls(&mesh.waypoint) - before.0;
        let passed = passed.load(Relaxed) - before.1;
        assert!(polls <= POLLS_MAX, "{name}: {polls} polls");
        assert!(passed <= PASSED_MAX, "{name}: {passed} requests were passed on");
        assert!(answered <= ANSWERED_BYTES_MAX, "{name}: {answered} bytes were answered");
        is_served(connect());
        wait_for(is_over);
    }
}

/// One request in order is answered.
fn is_served(mut stream: impl Read + Write) {
    let asked = [GREETING, &*frame(SETTINGS, 0, 0, &[]), &whole(0)].concat();
    stream.write_all(&asked).expect("room");
    let (mut told, mut piece) = (Vec::new(), [0; 4096]);
    let body = frame(DATA, 0, stream_of(0), b"in");
    let is_there = |told: &[u8]| {
        told.windows(body.len()).any(|window| window[..3] == body[..3] && window[5..] == body[5..])
    };
    while !is_there(&told) {
        let read = stream.read(&mut piece);
        let read = read.unwrap_or_else(|error| panic!("{error} after {told:?}"));
        assert!(read > 0, "it ended after {told:?}");
        told.extend_from_slice(&piece[..read]);
    }
}

fn polls(engine: &Engine) -> u64 {
    engine.runtime_counters().iter().map(|counters| counters.polls).sum()
}

/// A kind of abuse.
struct Flood {
    name: &'static str,
    /// What is sent first.
    begin: Vec<u8>,
    /// The nth unit.
    unit: fn(u32) -> Vec<u8>,
}

impl Flood {
    /// Sends until it is cut; how many bytes were answered.
    ///
    /// # Errors
    /// When it is not.
    fn run(&self, mut stream: impl Read + Write) -> io::Result<usize> {
        let greeting = [GREETING, &*frame(SETTINGS, 0, 0, &[])].concat();
        let is_large = (self.unit)(0).len() > 1024;
        let (units, batch) = if is_large { (LARGE_UNITS, 1) } else { (UNITS, BATCH) };
        let mut sent = stream.write_all(&[greeting, self.begin.clone()].concat());
        for first in (0..units).step_by(batch as usize) {
            if sent.is_err() {
                break;
            }
            let units: Vec<u8> = (first..first + batch).flat_map(self.unit).collect();
            sent = stream.write_all(&units);
        }
        let is_stuck =
            |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        if let Some(error) = sent.err().filter(is_stuck) {
            return Err(error);
        }
        let (mut answered, mut piece) = (0, [0; 4096]);
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return Ok(answered),
                Ok(read) => answered += read,
                Err(error) if is_stuck(&error) => return Err(error),
                // Cut, and not ended.
                Err(_) => return Ok(answered),
            }
        }
    }
}

/// The kinds that `bench-harness/torture/abuse.py` tries on tunnels, as users of HTTP have them.
fn floods() -> Vec<Flood> {
    let flood = |name, begin, unit| Flood { name, begin, unit };
    let window_0 = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let entry = |name: &[u8]| {
        let entry = [&[0x40], &*text(name), &text(b"")].concat();
        frame(HEADERS, END_HEADERS, 1, &[request(POST, b"/"), entry].concat())
    };
    let large: Vec<u8> = (0..50)
        .flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &request(GET, b"/large")))
        .collect();
    let big = [&[0x40], &*text(b"bomb"), &text(&[b'b'; 3500])].concat();
    vec![
        flood("rapid reset", vec![], |n| {
            [opened(n), on(RST_STREAM, n, &8_u32.to_be_bytes())].concat()
        }),
        flood("made you reset: window 0", vec![], |n| {
            [opened(n), on(WINDOW_UPDATE, n, &[0; 4])].concat()
        }),
        flood("made you reset: overflow", vec![], |n| {
            [opened(n), on(WINDOW_UPDATE, n, &0x7fff_ffff_u32.to_be_bytes())].concat()
        }),
        flood("made you reset: DATA after the end", vec![], |n| {
            [whole(n), on(DATA, n, b"x")].concat()
        }),
        flood("made you reset: HEADERS after the end", vec![], |n| [whole(n), fields(n)].concat()),
        flood("made you reset: length of PRIORITY", vec![], |n| {
            [opened(n), on(PRIORITY, n, &[0; 4])].concat()
        }),
        flood("CONTINUATION", frame(HEADERS, 0, 1, &literal()), |_| {
            frame(CONTINUATION, 0, 1, &literal())
        }),
        flood("empty CONTINUATION", frame(HEADERS, 0, 1, &literal()), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
        flood("SETTINGS", vec![], |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        flood("PING", vec![], |_| frame(PING, 0, 0, b"are you?")),
        flood("PRIORITY", vec![], |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        flood("unknown frames", vec![], |_| frame(UNKNOWN, 0xff, 0, b"nobody knows")),
        flood("empty DATA", on_first(&request(POST, b"/")), |_| frame(DATA, 0, 1, &[])),
        flood("padded DATA", on_first(&request(POST, b"/")), |_| {
            frame(DATA, PADDED, 1, &[&[255, b'x'][..], &[0; 255]].concat())
        }),
        flood("HPACK bomb", frame(HEADERS, END_HEADERS | END_STREAM, 1, &big), referring),
        flood("HTTP/2 bomb", [window_0.clone(), entry(b"x")].concat(), referring),
        flood("HTTP/2 bomb of cookies", [window_0.clone(), entry(b"cookie")].concat(), referring),
        flood("window stall", [window_0, large].concat(), |n| {
            frame(WINDOW_UPDATE, 0, 2 * (n % 50) + 1, &1_u32.to_be_bytes())
        }),
        flood("trailers", vec![], |n| [opened(n), fields(n)].concat()),
        flood("GOAWAY", vec![], |_| frame(GOAWAY, 0, 0, &[0; 8])),
    ]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The stream of the nth unit; the first is for what goes before.
fn stream_of(n: u32) -> u32 {
    2 * n + 3
}

fn on(kind: u8, n: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind, 0, stream_of(n), payload)
}

fn on_first(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, block)
}

/// A request whose body is still to come.
fn opened(n: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream_of(n), &request(POST, b"/"))
}

/// A request, all of it.
fn whole(n: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream_of(n), &request(GET, b"/"))
}

/// Further fields, which end nothing.
fn fields(n: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream_of(n), &literal())
}

/// A request with thousands of references to the newest entry of the table.
fn referring(n: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream_of(n), &[request(POST, b"/"), vec![0xbe; 16_000]].concat())
}

// Entries of the static table (RFC 7541, appendix A).
const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// A method, a scheme and a path, and for which host (RFC 7541 §6).
fn request(method: u8, path: &[u8]) -> Vec<u8> {
    [&[method, 0x86, 0x04], &*text(path), &[0x01], &text(b"web.example")].concat()
}

/// A field that goes into no table.
fn literal() -> Vec<u8> {
    [&[0x00], &*text(b"a"), &text(&[b'b'; 50])].concat()
}

/// RFC 7541 §5.2, without Huffman's code.
fn text(text: &[u8]) -> Vec<u8> {
    let length = text.len();
    match length.checked_sub(127) {
        None => [&[u8::try_from(length).expect("short")], text].concat(),
        Some(rest) => {
            let (low, high) = (rest as u8 | 0x80, u8::try_from(rest >> 7).expect("short"));
            assert!(high < 0x80);
            [&[127, low, high], text].concat()
        }
    }
}

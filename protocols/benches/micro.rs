//! Small things that are done for every header block, frame and record.
//!
//! `cargo bench -p ringway-protocols --bench micro`: wall time. `micro count NAME` does one thing
//! [`TIMES`] times inside a function called `counted_NAME`, for scripts/micro to count instructions.

use std::hint::black_box;
use std::sync::{Arc, Mutex};

use divan::Bencher;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use ringway_protocols::hbone::frame::{HEAD_BYTES, Head};
use ringway_protocols::hbone::hpack::{Decoder, Encoder, Remember};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{
    Credentials, Handshake, Material, Options, Progress, RECORD_HEADER_BYTES, RECORD_TRAILER_BYTES,
    Records,
};
use rustls_pki_types::PrivateKeyDer;

/// How often a counted thing is done.
const TIMES: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [verb, name] if verb == "count" => count(name),
        _ => divan::main(),
    }
}

fn count(name: &str) {
    let pair = || Session::new();
    match name {
        "hpack_encode" => counted_hpack_encode(&mut Encoder::new()),
        "hpack_decode" => counted_hpack_decode(&blocks()),
        "frame_head" => counted_frame_head(&head().encode()),
        "seal_1k" => counted_seal_1k(&mut pair().client, &mut record(1024)),
        "seal_16k" => counted_seal_16k(&mut pair().client, &mut record(16_384)),
        "open_1k" => {
            let mut session = pair();
            counted_open_1k(&mut session.server, &mut sealed(&mut session.client, 1024));
        }
        "open_16k" => {
            let mut session = pair();
            counted_open_16k(&mut session.server, &mut sealed(&mut session.client, 16_384));
        }
        "list" => {
            println!("hpack_encode hpack_decode frame_head seal_1k seal_16k open_1k open_16k");
        }
        other => panic!("nothing is called {other:?}; `count list` lists what is"),
    }
}

/// What a tunnel's CONNECT says.
const FIELDS: [(&[u8], &[u8], Remember); 4] = [
    (b":method", b"CONNECT", Remember::Yes),
    (b":authority", b"10.2.0.10:8080", Remember::Yes),
    (b"baggage", b"k8s.namespace.name=shop,k8s.deployment.name=web", Remember::Yes),
    (b"forwarded", b"for=10.1.0.10", Remember::Yes),
];

fn encode(encoder: &mut Encoder, block: &mut Vec<u8>) {
    encoder.begin(block);
    for (name, value, remember) in FIELDS {
        encoder.field(name, value, remember, block);
    }
}

/// The first block fills the table, the others use it.
fn blocks() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new();
    let block = |_| {
        let mut block = Vec::new();
        encode(&mut encoder, &mut block);
        block
    };
    (0..TIMES).map(block).collect()
}

fn head() -> Head {
    Head { length: 16_384, kind: 0, flags: 0, stream: 7 }
}

fn record(plaintext: usize) -> Vec<u8> {
    vec![7; RECORD_HEADER_BYTES + plaintext + RECORD_TRAILER_BYTES]
}

fn sealed(client: &mut Records, plaintext: usize) -> Vec<Vec<u8>> {
    let one = |_| {
        let mut record = record(plaintext);
        client.seal(&mut record).expect("a live session");
        record
    };
    (0..TIMES).map(one).collect()
}

#[inline(never)]
fn counted_hpack_encode(encoder: &mut Encoder) {
    let mut block = Vec::with_capacity(1024);
    for _ in 0..TIMES {
        block.clear();
        encode(encoder, black_box(&mut block));
    }
}

#[inline(never)]
fn counted_hpack_decode(blocks: &[Vec<u8>]) {
    let mut decoder = Decoder::new();
    for block in blocks {
        let decoded = decoder.decode(black_box(block), 16_384, |name, value| {
            black_box((name, value));
        });
        black_box(decoded.expect("a good block"));
    }
}

#[inline(never)]
fn counted_frame_head(bytes: &[u8; HEAD_BYTES]) {
    for _ in 0..TIMES {
        black_box(Head::parse(black_box(bytes)).encode());
    }
}

#[inline(never)]
fn counted_seal_1k(client: &mut Records, record: &mut [u8]) {
    (0..TIMES).for_each(|_| client.seal(black_box(record)).expect("a live session"));
}

#[inline(never)]
fn counted_seal_16k(client: &mut Records, record: &mut [u8]) {
    (0..TIMES).for_each(|_| client.seal(black_box(record)).expect("a live session"));
}

#[inline(never)]
fn counted_open_1k(server: &mut Records, records: &mut [Vec<u8>]) {
    for record in records {
        black_box(server.open(record).expect("a good record"));
    }
}

#[inline(never)]
fn counted_open_16k(server: &mut Records, records: &mut [Vec<u8>]) {
    for record in records {
        black_box(server.open(record).expect("a good record"));
    }
}

#[divan::bench]
fn hpack_encode(bencher: Bencher<'_, '_>) {
    let state = Mutex::new((Encoder::new(), Vec::with_capacity(1024)));
    bencher.bench(|| {
        let (encoder, block) = &mut *state.lock().expect("one thread");
        block.clear();
        encode(encoder, block);
    });
}

#[divan::bench]
fn hpack_decode_100_blocks(bencher: Bencher<'_, '_>) {
    let blocks = blocks();
    bencher.bench(|| counted_hpack_decode(&blocks));
}

#[divan::bench]
fn frame_head() -> [u8; HEAD_BYTES] {
    Head::parse(black_box(&head().encode())).encode()
}

#[divan::bench(args = [1024, 16_384])]
fn seal(bencher: Bencher<'_, '_>, plaintext: usize) {
    let state = Mutex::new((Session::new(), record(plaintext)));
    bencher.counter(divan::counter::BytesCount::new(plaintext)).bench(|| {
        let (session, record) = &mut *state.lock().expect("one thread");
        session.client.seal(record).expect("a live session");
    });
}

#[divan::bench(args = [1024, 16_384])]
fn seal_and_open(bencher: Bencher<'_, '_>, plaintext: usize) {
    let state = Mutex::new((Session::new(), record(plaintext)));
    bencher.counter(divan::counter::BytesCount::new(plaintext)).bench(|| {
        let (session, record) = &mut *state.lock().expect("one thread");
        session.client.seal(record).expect("a live session");
        black_box(session.server.open(record).expect("a good record"));
    });
}

/// Two ends after their handshake.
struct Session {
    client: Records,
    server: Records,
}

impl Session {
    fn new() -> Session {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a root");
        let [a, b] = ["a", "b"].map(|account| credentials(&authority, &identity(account)));
        let expected: Arc<[Identity]> = [identity("b")].into();
        let mut client = Handshake::client(&a, expected).expect("a client");
        let mut server = Handshake::server(&b).expect("a server");
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut done = (false, false);
        while done != (true, true) {
            if !done.0 {
                let progress = client.advance(&mut to_client, &mut to_server).expect("no error");
                done.0 = progress == Progress::Complete;
            }
            if !done.1 {
                let progress = server.advance(&mut to_server, &mut to_client).expect("no error");
                done.1 = progress == Progress::Complete;
            }
        }
        let finish = |end: Handshake| end.finish().expect("a complete handshake");
        Session { client: finish(client), server: finish(server) }
    }
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).expect("a good identity")
}

fn credentials(
    authority: &CertifiedIssuer<'static, KeyPair>,
    identity: &Identity,
) -> Arc<Credentials> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let uri = identity.to_string().try_into().expect("a URI");
    params.subject_alt_names = vec![SanType::URI(uri)];
    let leaf = params.signed_by(&key, authority).expect("a leaf");
    let material = Material {
        chain: vec![leaf.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        trust_anchors: vec![authority.der().clone()],
    };
    Arc::new(Credentials::new(material, &Options::default()).expect("good material"))
}

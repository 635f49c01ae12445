//! Any bytes to a machine of either role, cut in two ways: it must judge them alike, and hold and
//! answer no more than its bounds.
#![no_main]

use std::collections::BTreeMap;
use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_protocols::hbone::frame::{CLIENT_PREFACE, Head, kind};
use ringway_protocols::hbone::*;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    server: bool,
    slice_bytes: u8,
    /// Whether the engine resets every second stream instead of accepting it.
    resets: bool,
    frames: Vec<Frame<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Frame<'a> {
    Known { kind: u8, flags: u8, stream: u8, payload: &'a [u8] },
    Request { stream: u8, flags: u8 },
    Raw(&'a [u8]),
}

fuzz_target!(|input: Input<'_>| {
    let mut wire = Vec::new();
    for frame in &input.frames {
        match *frame {
            Frame::Known { kind, flags, stream, payload } => {
                let (kind, stream) = (kind % 12, u32::from(stream % 16));
                let length = payload.len() as u32;
                wire.extend_from_slice(&Head { length, kind, flags, stream }.encode());
                wire.extend_from_slice(payload);
            }
            Frame::Request { stream, flags } => {
                let block: &[u8] = b"\x02\x07CONNECT\x01\x0a10.0.0.1:1";
                let length = block.len() as u32;
                let flags = flags & 0x5;
                let head = Head { length, kind: kind::HEADERS, flags, stream: stream.into() };
                wire.extend_from_slice(&head.encode());
                wire.extend_from_slice(block);
            }
            Frame::Raw(bytes) => wire.extend_from_slice(bytes),
        }
    }
    let whole = tell(&input, &wire, usize::MAX);
    assert_eq!(whole, tell(&input, &wire, usize::from(input.slice_bytes).max(1)));
});

/// What a machine made of the bytes.
#[derive(Debug, Default, PartialEq)]
struct Told {
    events: Vec<String>,
    payload: BTreeMap<StreamId, Vec<u8>>,
    answers: Vec<u8>,
}

fn tell(input: &Input<'_>, wire: &[u8], slice_bytes: usize) -> Told {
    let now = Instant::now();
    let settings = Head { length: 0, kind: kind::SETTINGS, flags: 0, stream: 0 }.encode();
    let (mut machine, hello) = if input.server {
        let hello = [CLIENT_PREFACE.as_slice(), &settings].concat();
        (Connection::server(Settings::server(), now), hello)
    } else {
        let mut machine = Connection::client(Settings::client(), now);
        let request = ConnectRequest::to("10.0.0.1:1".parse().expect("an address"));
        for _ in 0..4 {
            machine.open(&request).expect("there is room for a hundred");
        }
        (machine, settings.to_vec())
    };
    let mut greeting = Vec::new();
    machine.take_output(&mut greeting);
    let mut told = Told::default();
    let mut slices = [&hello, wire].into_iter().flat_map(|part| part.chunks(slice_bytes));
    while let Some(slice) = slices.next()
        && hear(&mut machine, slice, input.resets, now, &mut told)
    {
        assert!(machine.retained_bytes() <= RETAINED_BYTES_MAX);
    }
    machine.take_output(&mut told.answers);
    assert!(told.answers.len() <= 10 * (hello.len() + wire.len()) + 100);
    told
}

/// Feeds one slice; `false` when the connection is lost.
fn hear(
    machine: &mut Connection,
    slice: &[u8],
    resets: bool,
    now: Instant,
    told: &mut Told,
) -> bool {
    let mut cursor = 0;
    loop {
        match machine.next_event(slice, &mut cursor, now) {
            Ok(None) => return true,
            Ok(Some(Event::Data { stream, payload, flow_controlled_bytes })) => {
                told.payload.entry(stream).or_default().extend_from_slice(&slice[payload]);
                machine.release(stream, flow_controlled_bytes, now);
            }
            Ok(Some(event)) => {
                if let Event::Request { stream, .. } = event {
                    if resets && stream.0 % 4 == 1 {
                        machine.reset(stream, ErrorCode::CONNECT_ERROR);
                    } else {
                        machine.accept(stream, &ConnectResponse::status(200));
                    }
                }
                told.events.push(format!("{event:?}"));
            }
            Err(error) => {
                told.events.push(error.to_string());
                return false;
            }
        }
    }
}

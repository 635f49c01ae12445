//! What holds whatever happens: two machines under random use, and one machine under random input.

use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_protocols::hbone::frame::{flag, kind};
use ringway_protocols::hbone::*;

use crate::conversation::{Step, play};
use crate::support::*;

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

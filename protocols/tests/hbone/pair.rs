//! Stories of a client machine and a server machine that talk to each other.

use std::time::Duration;

use ringway_protocols::hbone::frame::{U31_MAX, kind};
use ringway_protocols::hbone::*;

use crate::support::*;

/// Bytes that differ from place to place.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at * 31) >> 3) as u8).collect()
}

#[test]
fn a_tunnel_opens_carries_bytes_and_closes_however_it_is_cut() {
    for slice_bytes in [1, 2, 3, 8, 9, 10, 17, 100, 16_384, usize::MAX] {
        let mut pair = Pair::with(Settings::client(), Settings::server(), slice_bytes);
        let stream = pair.open();
        let bytes = pattern(3_000);
        pair.client_sends(stream, &bytes, false);
        pair.server_sends(stream, &bytes[..10], false);
        pair.server_sends(stream, &bytes[10..], false);
        assert_eq!((&pair.server.received, &pair.client.received), (&bytes, &bytes));

        pair.client_sends(stream, b"", true);
        assert_eq!(pair.server.next(), Event::EndOfStream { stream });
        pair.server_sends(stream, b"after half-close", false);
        assert!(pair.client.received.ends_with(b"after half-close"));
        pair.server_sends(stream, b"bye", true);
        assert_eq!(pair.client.next(), Event::EndOfStream { stream });
        pair.assert_idle();
    }
}

#[test]
fn every_single_cut_of_a_conversation_gives_the_same_events() {
    let mut pair = Pair::new();
    let mut wire = Vec::new();
    for n in 0..3 {
        let stream = pair.client.machine.open(&request()).unwrap();
        wire.extend(pair.client.data(stream, &pattern(40 + n), n == 1));
    }
    pair.client.machine.reset(StreamId(5), ErrorCode::CONNECT_ERROR);
    wire.extend(pair.client.output());

    let story = |cut: usize| {
        let mut pair = Pair::new();
        pair.server.feed(&wire[..cut], usize::MAX, pair.now).unwrap();
        pair.server.feed(&wire[cut..], usize::MAX, pair.now).unwrap();
        (pair.server.events, pair.server.received)
    };
    let whole = story(0);
    assert_eq!(whole.0.len(), 3 + 1 + 1);
    for cut in 1..wire.len() {
        assert_eq!(story(cut), whole, "cut at {cut}");
    }
}

#[test]
fn a_frame_longer_than_a_record_comes_in_slices_without_a_copy() {
    // Of one stream the window is large enough from the beginning.
    let server = Settings { streams_max: 1, ..Settings::server() };
    let mut pair = Pair::with(Settings::client(), server, usize::MAX);
    let stream = pair.open();
    let bytes = pattern(1024 * 1024);
    assert_eq!(pair.client.machine.peer_frame_bytes_max(), bytes.len());
    let wire = pair.client.data(stream, &bytes, true);
    let mut payload_bytes = 0;
    let mut events = 0;
    for slice in wire.chunks(16_384) {
        let mut cursor = 0;
        while let Some(event) =
            pair.server.machine.next_event(slice, &mut cursor, pair.now).unwrap()
        {
            let Event::Data { payload, flow_controlled_bytes, .. } = event else {
                assert_eq!(event, Event::EndOfStream { stream });
                continue;
            };
            assert_eq!(payload.len(), flow_controlled_bytes as usize);
            assert_eq!(slice[payload.clone()], bytes[payload_bytes..payload_bytes + payload.len()]);
            payload_bytes += payload.len();
            events += 1;
        }
        assert!(pair.server.machine.retained_bytes() < 10_000, "payload is not kept");
    }
    assert_eq!((payload_bytes, events), (bytes.len(), 65));
}

#[test]
fn windows_stop_the_sender_and_half_a_window_lets_it_go_on() {
    let mut pair = Pair::new();
    let stream = pair.open();
    pair.server.releases = false;
    let window = Settings::server().first_window_bytes();
    assert_eq!(pair.client.machine.send_capacity(stream), window as usize);
    pair.client_sends(stream, &vec![7; window as usize], false);
    assert_eq!(pair.client.machine.send_capacity(stream), 0);

    // Neither quick nor slow.
    let later = pair.now + Duration::from_secs(1);
    pair.server.machine.release(stream, window / 2 - 1, later);
    assert!(!pair.server.machine.has_output(), "below half a window nothing is announced");
    pair.server.machine.release(stream, 1, later);
    pair.drive();
    assert_eq!(pair.client.next(), Event::SendCapacity { stream: Some(stream) });
    assert_eq!(pair.client.machine.send_capacity(stream), window as usize / 2);
}

#[test]
fn a_window_grows_for_who_takes_quickly_and_shrinks_for_who_is_slow() {
    let mut pair = Pair::new();
    let stream = pair.open();
    let settings = Settings::server();
    // The peer sends all that it may, and that is taken in one piece so much later.
    let mut turn = |took: Duration| {
        pair.server.releases = false;
        let window = pair.client.machine.send_capacity(stream);
        for _ in 0..window.div_ceil(60_000) {
            let most = pair.client.machine.send_capacity(stream).min(60_000);
            pair.client_sends(stream, &vec![0; most], false);
        }
        pair.now += took;
        pair.server.machine.release(stream, window as u32, pair.now);
        pair.drive();
        pair.client.machine.send_capacity(stream)
    };
    let first = settings.first_window_bytes() as usize;
    let sizes = [(); 20].map(|()| turn(Duration::from_millis(250)));
    // Half of all that was taken, which the first two windows are not more than.
    assert_eq!(sizes[..3], [first, first, first + first / 2]);
    assert!(sizes[19] > 2 << 20, "{sizes:?}");
    assert!(sizes[19] <= settings.stream_window_bytes as usize, "{sizes:?}");
    assert_eq!(turn(Duration::from_secs(1)), sizes[19]);
    let sizes = [(); 40].map(|()| turn(Duration::from_secs(2)));
    assert!(sizes[39] <= first + 1, "{sizes:?}");
}

#[test]
fn streams_that_nobody_takes_cannot_stall_another() {
    // As many as may be open, of which some had grown before.
    let mut pair = Pair::new();
    let streams: Vec<_> = (0..Settings::client().streams_max).map(|_| pair.open()).collect();
    assert!(!pair.client.machine.can_open());
    let (last, stalled) = streams.split_last().unwrap();
    for &stream in stalled {
        pair.server.releases = stream.0 < 20;
        for _ in 0..200 {
            let most = pair.client.machine.send_capacity(stream).min(60_000);
            if most == 0 {
                break;
            }
            pair.client_sends(stream, &vec![0; most], false);
            pair.drive();
        }
        pair.server.releases = false;
        while pair.client.machine.send_capacity(stream) > 0 {
            let most = pair.client.machine.send_capacity(stream).min(60_000);
            pair.client_sends(stream, &vec![0; most], false);
        }
        assert_eq!(pair.client.machine.send_capacity(stream), 0);
    }
    pair.server.releases = true;
    for sent in 0..2000 {
        let most = pair.client.machine.send_capacity(*last).min(60_000);
        assert!(most > 0, "stalled after {sent} frames");
        pair.client_sends(*last, &vec![0; most], false);
        pair.drive();
    }
}

#[test]
fn the_connections_window_is_shared() {
    // Room for less than two streams.
    let settings = Settings { connection_window_bytes: 100_000, ..Settings::server() };
    let mut pair = Pair::with(Settings::client(), settings, usize::MAX);
    let (first, second) = (pair.open(), pair.open());
    pair.server.releases = false;
    pair.client_sends(first, &[0; 65_535], false);
    pair.client_sends(second, &[0; 34_465], false);
    assert_eq!(pair.client.machine.send_capacity(second), 0);
    // The first stream's bytes are dropped: its credit is the connection's again.
    pair.server.machine.reset(first, ErrorCode::CONNECT_ERROR);
    pair.drive();
    let told: Vec<_> = pair.client.events.drain(..).collect();
    assert!(told.contains(&Event::Reset { stream: first, code: ErrorCode::CONNECT_ERROR }));
    assert!(told.contains(&Event::SendCapacity { stream: None }));
    assert_eq!(pair.client.machine.send_capacity(second), 65_535 - 34_465);
}

#[test]
fn bytes_of_an_ended_stream_count_until_they_are_released() {
    let mut pair = Pair::new();
    let stream = pair.open();
    pair.server.releases = false;
    pair.client_sends(stream, &[1; 1000], true);
    assert_eq!(pair.server.next(), Event::EndOfStream { stream });
    pair.server_sends(stream, b"", true);
    assert_eq!(pair.server.machine.open_streams(), 0);
    assert!(!pair.server.machine.is_idle(), "its bytes are still somewhere");
    pair.server.machine.release(stream, 400, pair.now);
    assert!(!pair.server.machine.is_idle());
    pair.server.machine.release(stream, 600, pair.now);
    assert!(pair.server.machine.is_idle());
    assert_eq!(pair.server.output(), b"", "nobody needs credit on an ended stream");

    // The same by dropping them.
    pair.client.events.clear();
    let stream = pair.open();
    pair.client_sends(stream, &[1; 1000], true);
    pair.server_sends(stream, b"", true);
    pair.server.machine.reset(stream, ErrorCode::CANCEL);
    assert!(pair.server.machine.is_idle());
    assert_eq!(pair.server.output(), b"", "an ended stream is not reset again");
}

#[test]
fn streams_the_application_does_not_read_are_bounded_even_when_they_end() {
    let mut pair =
        Pair::with(Settings::client(), Settings { streams_max: 3, ..Settings::server() }, 99);
    pair.server.releases = false;
    for _ in 0..9 {
        let stream = pair.open();
        pair.client_sends(stream, b"x", true);
        pair.server_sends(stream, b"", true);
        pair.client.events.clear();
        pair.server.events.clear();
    }
    assert_eq!(pair.server.machine.open_streams(), 0);
    let stream = pair.client.machine.open(&request()).unwrap();
    pair.drive();
    assert_eq!(pair.client.next(), Event::Reset { stream, code: ErrorCode::REFUSED_STREAM });
    pair.server.machine.release(StreamId(1), 1, pair.now);
    pair.open();
}

#[test]
fn a_refusal_ends_the_stream_at_both_ends() {
    for status in [400, 401, 503] {
        let mut pair = Pair::new();
        let stream = pair.client.machine.open(&request()).unwrap();
        pair.client_sends(stream, b"too early", false);
        pair.server.releases = false;
        pair.server.events.clear();
        pair.server.machine.refuse(stream, status);
        pair.drive();
        let response = ConnectResponse::status(status);
        assert_eq!(pair.client.next(), Event::Response { stream, response, end_of_stream: true });
        assert_eq!(pair.client.next(), Event::Reset { stream, code: ErrorCode::NO_ERROR });
        pair.assert_idle();
        pair.open();
    }
}

#[test]
fn a_refusal_of_a_request_that_has_ended_needs_no_reset() {
    let mut pair = Pair::new();
    let stream = pair.client.machine.open(&request()).unwrap();
    pair.client_sends(stream, b"", true);
    pair.server.events.clear();
    pair.server.machine.refuse(stream, 503);
    let output = pair.server.output();
    assert!(last_of(&output, kind::RST_STREAM).is_none());
    pair.client.feed(&output, 9, pair.now).unwrap();
    let response = ConnectResponse::status(503);
    assert_eq!(pair.client.next(), Event::Response { stream, response, end_of_stream: true });
    pair.assert_idle();
}

#[test]
fn an_abort_arrives_as_an_abort() {
    for by_client in [true, false] {
        let mut pair = Pair::new();
        let stream = pair.open();
        let (from, to) = if by_client {
            (&mut pair.client, &mut pair.server)
        } else {
            (&mut pair.server, &mut pair.client)
        };
        from.machine.reset(stream, LocalEnd::Aborted.code());
        to.feed(&from.output(), 5, pair.now).unwrap();
        let Event::Reset { code, .. } = to.next() else { panic!("a reset was due") };
        assert_eq!(code.stream_end(), StreamEnd::Aborted);
        pair.assert_idle();
    }
}

#[test]
fn codes_and_ends_are_one_table() {
    #[rustfmt::skip]
    let rows = [
        ("ztunnel lets go of a stream",           ErrorCode::CANCEL,            StreamEnd::Clean),
        ("h2 drops a finished response",          ErrorCode::NO_ERROR,          StreamEnd::Clean),
        ("nothing was processed",                 ErrorCode::REFUSED_STREAM,    StreamEnd::Refused),
        ("the far TCP connection was reset",      ErrorCode::CONNECT_ERROR,     StreamEnd::Aborted),
        ("a violation",                           ErrorCode::PROTOCOL_ERROR,    StreamEnd::Aborted),
        ("the peer broke",                        ErrorCode::INTERNAL_ERROR,    StreamEnd::Aborted),
        ("we sent on a closed stream",            ErrorCode::STREAM_CLOSED,     StreamEnd::Aborted),
        ("the peer has had enough",               ErrorCode::ENHANCE_YOUR_CALM, StreamEnd::Aborted),
        ("a code of the future",                  ErrorCode(0x1234),            StreamEnd::Aborted),
        ("ours: the TCP connection was reset",    LocalEnd::Aborted.code(),     StreamEnd::Aborted),
        ("ours: the application gave up waiting", LocalEnd::GaveUp.code(),      StreamEnd::Clean),
        ("ours: not taken at all",                LocalEnd::Refused.code(),     StreamEnd::Refused),
    ];
    for (name, code, want) in rows {
        assert_eq!(code.stream_end(), want, "{name}");
    }
}

#[test]
fn a_server_leaves_in_two_steps_and_loses_no_stream() {
    let mut pair = Pair::new();
    let first = pair.open();
    // This request is under way when the server decides to leave.
    let crossing = pair.client.machine.open(&request()).unwrap();
    pair.server.machine.go_away(ErrorCode::NO_ERROR);
    pair.server.machine.go_away(ErrorCode::NO_ERROR);
    pair.drive();
    let last = |stream| Event::GoAway { last_stream: stream, code: ErrorCode::NO_ERROR };
    assert_eq!(pair.client.next(), last(StreamId(U31_MAX)));
    assert_eq!(pair.client.next(), last(crossing), "after the farewell was answered");
    assert!(matches!(pair.server.next(), Event::Request { stream, .. } if stream == crossing));
    assert!(pair.client.machine.is_going_away() && pair.server.machine.is_going_away());
    assert_eq!(pair.client.machine.open(&request()), Err(OpenError::GoingAway));

    pair.server.machine.accept(crossing, &ConnectResponse::status(200));
    for stream in [first, crossing] {
        pair.client_sends(stream, b"x", true);
        pair.server_sends(stream, b"y", true);
    }
    assert_eq!((&pair.server.received[..], &pair.client.received[..]), (&b"xx"[..], &b"yy"[..]));
    assert_eq!(pair.server.machine.open_streams(), 0);
}

#[test]
fn streams_that_an_abrupt_goaway_passes_over_are_safe_to_try_again() {
    let mut pair = Pair::new();
    let first = pair.open();
    pair.server.machine.go_away(ErrorCode::INTERNAL_ERROR);
    let late = [(); 3].map(|()| pair.client.machine.open(&request()).unwrap());
    pair.client.feed(&pair.server.output(), 9, pair.now).unwrap();
    let code = ErrorCode::INTERNAL_ERROR;
    assert_eq!(pair.client.next(), Event::GoAway { last_stream: first, code });
    for stream in late {
        let code = ErrorCode::REFUSED_STREAM;
        assert_eq!(pair.client.next(), Event::Reset { stream, code });
        assert_eq!(code.stream_end(), StreamEnd::Refused);
    }
    pair.drive();
    assert!(pair.server.events.is_empty(), "the server ignores them");
    pair.client_sends(first, b"goes on", true);
    assert_eq!(pair.server.received, b"goes on");
}

#[test]
fn a_stream_can_be_sent_on_until_its_end_was_told() {
    let mut pair = Pair::new();
    let streams = [(); 3].map(|()| pair.client.machine.open(&request()).unwrap());
    let goodbye = go_away(0, ErrorCode::NO_ERROR);
    let mut cursor = 0;
    let mut told = Vec::new();
    while let Some(event) = pair.client.machine.next_event(&goodbye, &mut cursor, pair.now).unwrap()
    {
        if let Event::Reset { stream, .. } = event {
            told.push(stream);
        }
        for &stream in &streams {
            let open = pair.client.machine.send_capacity(stream) > 0;
            assert_eq!(open, !told.contains(&stream));
            if open {
                pair.client.machine.data_header(stream, 1, false);
            }
        }
    }
    assert_eq!(told, streams);
}

#[test]
fn a_client_respects_both_limits_of_concurrency() {
    let ours = Settings { streams_max: 3, ..Settings::client() };
    let theirs = |streams_max| Settings { streams_max, ..Settings::server() };
    for (client, server, want) in
        [(ours, theirs(200), 3), (Settings::client(), theirs(2), 2), (ours, theirs(0), 0)]
    {
        let mut pair = Pair::with(client, server, 99);
        for _ in 0..want {
            assert!(pair.client.machine.can_open());
            pair.open();
        }
        assert!(!pair.client.machine.can_open());
        assert_eq!(pair.client.machine.open(&request()), Err(OpenError::TooManyStreams));
        if want > 0 {
            pair.client.machine.reset(StreamId(1), ErrorCode::CANCEL);
            pair.drive();
            pair.server.events.clear();
            pair.open();
        }
    }
}

#[test]
fn a_request_too_large_for_the_peer_is_not_sent() {
    let server = Settings { header_list_bytes_max: 100, ..Settings::server() };
    let mut pair = Pair::with(Settings::client(), server, 99);
    let bare = ConnectRequest::to("10.1.0.10:80".parse().unwrap());
    assert_eq!(pair.client.machine.open(&request()), Err(OpenError::RequestTooLarge));
    assert_eq!(pair.client.machine.open(&bare), Ok(StreamId(1)), "and no stream id is lost by it");
    pair.drive();
    assert!(matches!(pair.server.next(), Event::Request { .. }));
}

#[test]
fn headers_travel_whole_and_shrink_when_they_repeat() {
    let full = ConnectRequest {
        authority: Authority::hostname("reviews.default.svc.cluster.local", 9080).unwrap(),
        baggage: Some(Baggage {
            cluster: Some("Kubernetes".into()),
            namespace: Some("default".into()),
            workload_name: Some("productpage-v1".into()),
            service_name: Some("productpage".into()),
            service_version: Some("v1".into()),
            region: Some("r1".into()),
            zone: Some("z1".into()),
            ..Baggage::default()
        }),
        forwarded: Some(Forwarded {
            client: Some("[2001:db8::7]:40000".parse().unwrap()),
            host: Some("reviews.default.svc.cluster.local".into()),
        }),
        traceparent: Some(Traceparent::new([7; 16], [9; 8])),
        x_forwarded_network: Some("network-2".into()),
    };
    let empty = ConnectRequest {
        baggage: Some(Baggage::default()),
        forwarded: Some(Forwarded::default()),
        ..ConnectRequest::to("[2001:db8::1]:443".parse().unwrap())
    };
    let mut pair = Pair::new();
    let mut sizes = Vec::new();
    for request in [&full, &full, &empty, &full] {
        let stream = pair.client.machine.open(request).unwrap();
        let output = pair.client.output();
        sizes.push(output.len());
        pair.server.feed(&output, 9, pair.now).unwrap();
        let want =
            Event::Request { stream, request: Box::new(request.clone()), end_of_stream: false };
        assert_eq!(pair.server.next(), want);
    }
    assert!(sizes[1] + 150 < sizes[0], "{sizes:?}: the source's baggage is sent once");
    assert_eq!(sizes[1], sizes[3]);

    let response = ConnectResponse { status: 200, baggage: full.baggage };
    pair.server.machine.accept(StreamId(1), &response);
    pair.drive();
    let stream = StreamId(1);
    assert_eq!(pair.client.next(), Event::Response { stream, response, end_of_stream: false });
}

#[test]
fn a_header_block_larger_than_a_frame_goes_in_continuation() {
    let mut pair = Pair::new();
    let network = "n".repeat(20_000);
    let request = ConnectRequest { x_forwarded_network: Some(network.into()), ..request() };
    // Before SETTINGS the client may not send frames beyond 16,384 bytes.
    let now = pair.now;
    let mut client = End::client(Settings::client(), now);
    client.output();
    let stream = client.machine.open(&request).unwrap();
    let output = client.output();
    let kinds: Vec<_> = frames(&output).iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [kind::HEADERS, kind::CONTINUATION]);
    pair.server.feed(&output, 4_000, now).unwrap();
    let want = Event::Request { stream, request: Box::new(request), end_of_stream: false };
    assert_eq!(pair.server.next(), want);
    assert!(pair.server.machine.retained_bytes() < 10_000, "large buffers are given back");
}

#[test]
fn pings_keep_a_tunnel_alive_for_weeks() {
    let mut pair = Pair::new();
    let Settings { ping_interval, .. } = Settings::client();
    let start = pair.now;
    for _ in 0..14 * 24 * 360 {
        let deadline = pair.client.machine.next_deadline().unwrap();
        assert_eq!(pair.server.machine.next_deadline(), Some(deadline));
        assert_eq!(deadline, pair.now + ping_interval);
        pair.now = deadline;
        pair.client.machine.handle_timeout(deadline).unwrap();
        pair.server.machine.handle_timeout(deadline).unwrap();
        pair.drive();
    }
    assert_eq!(pair.now - start, Duration::from_secs(14 * 24 * 3600));
    pair.assert_idle();
}

#[test]
fn a_silent_peer_is_noticed_but_a_busy_one_is_not_taken_for_silent() {
    let mut pair = Pair::new();
    let stream = pair.open();
    let seconds = |seconds| pair.now + Duration::from_secs(seconds);
    let (ping, busy, limit) = (seconds(10), seconds(25), seconds(45));
    pair.server.machine.handle_timeout(ping - Duration::from_nanos(1)).unwrap();
    assert!(!pair.server.machine.has_output());
    pair.server.machine.handle_timeout(ping).unwrap();
    let (head, _) = last_of(&pair.server.output(), kind::PING).expect("a PING was due");
    assert_eq!(head.flags, 0);

    // The client's answer is stuck behind its data; that is a sign of life too.
    let wire = pair.client.data(stream, b"x", false);
    pair.server.feed(&wire, 9, busy).unwrap();
    pair.server.machine.handle_timeout(seconds(44)).unwrap();
    assert_eq!(pair.server.machine.next_deadline(), Some(limit));
    let error = Error::PeerSilent(Silence::NoPong);
    assert_eq!(pair.server.machine.handle_timeout(limit), Err(error));
    let (_, payload) = last_of(&pair.server.output(), kind::GOAWAY).expect("a farewell");
    assert_eq!(payload[4..], ErrorCode::NO_ERROR.0.to_be_bytes());
    assert_eq!(pair.server.machine.next_deadline(), None);
    assert_eq!(pair.server.feed(b"x", 1, limit), Err(error));
    assert_eq!(pair.server.machine.send_capacity(stream), 0);
}

#[test]
fn pings_can_be_off() {
    let off = |settings| Settings { ping_interval: Duration::ZERO, ..settings };
    let pair = Pair::with(off(Settings::client()), off(Settings::server()), 99);
    assert_eq!(pair.client.machine.next_deadline(), None);
    assert_eq!(pair.server.machine.next_deadline(), None);
}

#[test]
fn a_peer_that_never_says_hello_is_noticed() {
    let now = std::time::Instant::now();
    for mut end in [End::client(Settings::client(), now), End::server(Settings::server(), now)] {
        let deadline = end.machine.next_deadline().unwrap();
        assert_eq!(deadline, now + Duration::from_secs(10));
        end.machine.handle_timeout(deadline - Duration::from_nanos(1)).unwrap();
        let error = Error::PeerSilent(Silence::NoPreface);
        assert_eq!(end.machine.handle_timeout(deadline), Err(error));
    }
}

#[test]
fn a_header_block_that_is_never_finished_is_noticed() {
    let mut pair = Pair::new();
    let head = frame(kind::HEADERS, 0, 1, &block(CONNECT));
    pair.server.feed(&head, 9, pair.now).unwrap();
    let deadline = pair.now + Duration::from_secs(10);
    // Dripping the next frame's bytes does not help.
    pair.server.feed(&[0], 1, deadline - Duration::from_secs(1)).unwrap();
    let error = Error::PeerSilent(Silence::HeaderBlockUnfinished);
    assert_eq!(pair.server.machine.handle_timeout(deadline), Err(error));
}

#[test]
fn a_header_block_that_trickles_within_its_first_frame_is_noticed() {
    let mut pair = Pair::new();
    let whole = headers(1, CONNECT);
    pair.server.feed(&whole[..9], 9, pair.now).unwrap();
    let deadline = pair.now + Duration::from_secs(10);
    assert_eq!(pair.server.machine.next_deadline(), Some(deadline));
    pair.server.feed(&whole[9..10], 1, deadline - Duration::from_secs(1)).unwrap();
    let error = Error::PeerSilent(Silence::HeaderBlockUnfinished);
    assert_eq!(pair.server.machine.handle_timeout(deadline), Err(error));
    // One that comes in time is no more held against anybody.
    let mut pair = Pair::new();
    pair.server.feed(&whole[..12], 1, pair.now).unwrap();
    pair.server.feed(&whole[12..], 1, pair.now + Duration::from_secs(9)).unwrap();
    pair.server.machine.handle_timeout(pair.now + Duration::from_secs(10)).unwrap();
}

#[test]
fn an_idle_tunnel_holds_next_to_nothing() {
    let mut pair = Pair::new();
    for _ in 0..200 {
        let stream = pair.open();
        pair.client_sends(stream, b"ping", true);
        pair.server_sends(stream, b"pong", true);
        pair.client.events.clear();
        pair.server.events.clear();
    }
    let streams: Vec<_> = (0..100).map(|_| pair.open()).collect();
    for &stream in &streams {
        pair.client.machine.reset(stream, ErrorCode::CANCEL);
    }
    pair.drive();
    pair.server.events.clear();
    pair.assert_idle();
    for end in [&pair.client, &pair.server] {
        let retained = end.machine.retained_bytes() + size_of::<Connection>();
        assert!(retained < 3 * 1024, "{retained} bytes");
    }
}

#[test]
fn padding_gives_its_credit_back() {
    let settings = Settings {
        stream_window_bytes: 70_000,
        connection_window_bytes: 100_000,
        ..Settings::server()
    };
    let no_padding = vec![0, b'x'];
    let much_padding = [&[255_u8][..], &[b'x'; 10_000], &[0; 255]].concat();
    for payload in [no_padding, much_padding] {
        let mut pair = Pair::with(Settings::client(), settings, 4_096);
        let stream = pair.open();
        let padded = frame(kind::DATA, frame::flag::PADDED, stream.0, &payload);
        // What a peer that counts every byte believes it may send, on the stream and in all.
        let mut credit = [settings.stream_window_bytes, settings.connection_window_bytes];
        for _ in 0..10 * credit[1] as usize / payload.len() {
            for credit in &mut credit {
                *credit = credit.checked_sub(payload.len() as u32).expect("no credit gets lost");
            }
            pair.server.feed(&padded, 4_096, pair.now).unwrap();
            for (head, increment) in frames(&pair.server.output()) {
                assert_eq!(head.kind, kind::WINDOW_UPDATE);
                let increment = u32::from_be_bytes(increment.try_into().unwrap());
                credit[usize::from(head.stream == 0)] += increment;
            }
        }
        assert!(pair.server.events.is_empty());
    }
}

#[test]
fn a_peer_that_wants_no_table_gets_whole_headers() {
    let mut pair = Pair::new();
    pair.client.feed(&settings(&[(frame::setting::HEADER_TABLE_SIZE, 0)]), 99, pair.now).unwrap();
    pair.client.output();
    let mut blocks = [(); 3].map(|()| {
        pair.client.machine.open(&request()).unwrap();
        last_of(&pair.client.output(), kind::HEADERS).unwrap().1
    });
    assert_eq!(blocks[0].remove(0), 0x20, "RFC 7541 §4.2: the new size is acknowledged first");
    assert_eq!(blocks[0], blocks[1]);
    assert_eq!(blocks[1], blocks[2]);
}

#[test]
fn a_stream_the_peer_has_ended_gets_no_credit() {
    let mut pair = Pair::new();
    let stream = pair.open();
    pair.server.releases = false;
    let most = Settings::server().first_window_bytes() as usize / 4;
    for n in 0..4 {
        pair.client_sends(stream, &vec![0; most], n == 3);
    }
    pair.server.machine.release(stream, 4 * most as u32, pair.now);
    assert_eq!(pair.server.output(), b"", "and the connection's is not yet half used");
}

#[test]
fn a_reset_by_the_engine_silences_what_was_about_to_be_told() {
    let mut pair = Pair::new();
    let stream = pair.open();
    let wire = pair.client.data(stream, b"the last", true);
    let mut cursor = 0;
    let machine = &mut pair.server.machine;
    let event = machine.next_event(&wire, &mut cursor, pair.now).unwrap();
    assert!(matches!(event, Some(Event::Data { .. })));
    machine.reset(stream, ErrorCode::CONNECT_ERROR);
    assert_eq!(machine.next_event(&wire, &mut cursor, pair.now), Ok(None));
    assert!(machine.is_idle());
}

#[test]
fn late_frames_on_streams_of_long_ago_are_borne() {
    let mut pair = Pair::new();
    for _ in 0..100 {
        let stream = pair.open();
        pair.client_sends(stream, b"", true);
        pair.server_sends(stream, b"", true);
        pair.client.events.clear();
        pair.server.events.clear();
    }
    let recently = pair.server.feed(&data(199, b"x"), 99, pair.now);
    assert_eq!(recently, Err(Error::PeerMisbehaved(Misbehaviour::FrameOnClosedStream)));
    pair.client.feed(&data(1, b"x"), 99, pair.now).expect("who remembers how that one ended");
    assert!(pair.client.events.is_empty());
}

#[test]
fn data_for_dropped_streams_gives_its_credit_back() {
    let mut pair = Pair::new();
    let window = Settings::server().connection_window_bytes as usize;
    let mut sent = 0;
    let payload = vec![0; 20 * 1024];
    while sent < 5 * window {
        let stream = pair.open();
        // The server resets the stream while its bytes are under way, and in the middle of a frame.
        let wire = pair.client.data(stream, &payload, false);
        let (first, second) = wire.split_at(5_000);
        pair.server.releases = false;
        pair.server.feed(first, 999, pair.now).unwrap();
        pair.server.machine.reset(stream, ErrorCode::CONNECT_ERROR);
        pair.server.feed(second, 16_384, pair.now).unwrap();
        for _ in 0..2 {
            let wire = pair.client.data(stream, &payload, false);
            pair.server.feed(&wire, 16_384, pair.now).unwrap();
        }
        sent += 3 * payload.len();
        pair.drive();
        assert!(pair.server.machine.is_idle());
        pair.client.events.clear();
    }
}

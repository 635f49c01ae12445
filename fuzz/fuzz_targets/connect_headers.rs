//! The values of CONNECT headers, on their own and in a request to a server.
#![no_main]

use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_protocols::hbone::frame::{CLIENT_PREFACE, Head, flag, kind};
use ringway_protocols::hbone::hpack::{Encoder, Remember};
use ringway_protocols::hbone::*;

#[derive(Arbitrary, Debug)]
enum Field<'a> {
    Connect,
    Authority(&'a str),
    Baggage(&'a [u8]),
    Forwarded(&'a [u8]),
    Traceparent(&'a [u8]),
    Network(&'a [u8]),
    Other(&'a [u8], &'a [u8]),
}

impl<'a> Field<'a> {
    fn parts(&self) -> (&'a [u8], &'a [u8]) {
        match self {
            Self::Connect => (b":method", b"CONNECT"),
            Self::Authority(value) => (b":authority", value.as_bytes()),
            Self::Baggage(value) => (b"baggage", value),
            Self::Forwarded(value) => (b"forwarded", value),
            Self::Traceparent(value) => (b"traceparent", value),
            Self::Network(value) => (b"x-forwarded-network", value),
            Self::Other(name, value) => (name, value),
        }
    }
}

fuzz_target!(|fields: Vec<Field<'_>>| {
    let mut block = Vec::new();
    let mut encoder = Encoder::new();
    for field in &fields {
        let (name, value) = field.parts();
        encoder.field(name, value, Remember::Yes, &mut block);
        check_value(field);
    }
    if block.len() > 64 * 1024 {
        return;
    }
    let now = Instant::now();
    let mut server = Connection::server(Settings::server(), now);
    let length = block.len() as u32;
    let head = Head { length, kind: kind::HEADERS, flags: flag::END_HEADERS, stream: 1 };
    let hello = Head { length: 0, kind: kind::SETTINGS, flags: 0, stream: 0 };
    let wire = [CLIENT_PREFACE.as_slice(), &hello.encode(), &head.encode(), &block].concat();
    let mut cursor = 0;
    while let Ok(Some(event)) = server.next_event(&wire, &mut cursor, now) {
        if let Event::Request { request, .. } = event {
            send_again(&request, now);
        }
    }
});

/// What one of us has read, the next one reads in the same way.
fn send_again(request: &ConnectRequest, now: Instant) {
    let mut client = Connection::client(Settings::client(), now);
    let mut server = Connection::server(Settings::server(), now);
    client.open(request).expect("a request that was received can be sent");
    let mut wire = Vec::new();
    client.take_output(&mut wire);
    let mut cursor = 0;
    let mut received = None;
    while let Some(event) = server.next_event(&wire, &mut cursor, now).expect("we keep to the rules") {
        if let Event::Request { request, .. } = event {
            received = Some(request);
        }
    }
    let received = received.expect("the request arrives");
    assert_eq!(received.authority, request.authority);
    assert_eq!(received.traceparent, request.traceparent);
    // The only thing that does not travel is a host name that is none.
    let client = |request: &ConnectRequest| request.forwarded.as_ref().and_then(|f| f.client);
    assert_eq!(client(&received).map(|c| c.ip()), client(request).map(|c| c.ip()));
    assert_eq!(received.baggage, request.baggage);
}

fn check_value(field: &Field<'_>) {
    match field {
        Field::Authority(text) => {
            if let Ok(authority) = Authority::parse(text) {
                assert_eq!(authority.to_string(), *text);
                assert_ne!(authority.port(), 0);
            }
        }
        Field::Baggage(line) => {
            let mut baggage = Baggage::default();
            if baggage.add_line(line) {
                let mut again = Baggage::default();
                assert!(again.add_line(baggage.to_string().as_bytes()));
                if baggage.workload_name.is_none() {
                    again.workload_type = baggage.workload_type;
                }
                assert_eq!(again, baggage);
            }
        }
        Field::Forwarded(line) => {
            let _ = Forwarded::parse(line).to_string();
        }
        Field::Traceparent(value) => {
            if let Some(position) = Traceparent::parse(value) {
                assert_eq!(Traceparent::parse(position.to_string().as_bytes()), Some(position));
            }
        }
        Field::Connect | Field::Network(_) | Field::Other(..) => {}
    }
}

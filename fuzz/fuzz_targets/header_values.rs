//! Baggage, Forwarded and traceparent, as peers send them: several lines, in pieces, of any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_protocols::hbone::{Baggage, Forwarded, Traceparent};

fuzz_target!(|input: (Vec<&[u8]>, &[u8], &[u8])| {
    let (lines, forwarded, traceparent) = input;
    let mut baggage = Baggage::default();
    for line in &lines {
        let before = baggage.clone();
        if !baggage.add_line(line) {
            assert_eq!(baggage, before, "a line that is refused changes nothing");
        }
    }
    // What is written is one line that can be sent, and is read again as the same.
    let written = baggage.to_string();
    assert!(written.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{written:?}");
    let mut again = Baggage::default();
    assert!(again.add_line(written.as_bytes()));
    assert_eq!(again.to_string(), written);

    let written = Forwarded::parse(forwarded).to_string();
    assert!(!written.chars().any(char::is_control), "{written:?}");
    assert_eq!(Forwarded::parse(written.as_bytes()).to_string(), written);

    if let Some(position) = Traceparent::parse(traceparent) {
        assert_eq!(Traceparent::parse(position.to_string().as_bytes()), Some(position));
    }
});

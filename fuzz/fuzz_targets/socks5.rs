//! SOCKS5: any bytes, read as the engine reads them, never more than was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_protocols::socks5::{Error, MESSAGE_BYTES_MAX, Parsed, greeting, request};

fuzz_target!(|bytes: &[u8]| {
    let Ok(rest) = read(bytes, greeting) else { return };
    let _ = read(rest, request);
});

fn read<T>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<Parsed<T>, Error>,
) -> Result<&[u8], Option<Error>> {
    let mut taken = 0;
    while let Parsed::Needs(more) = parse(&bytes[..taken]).map_err(Some)? {
        assert!(more > 0, "no progress");
        taken += more;
        assert!(taken <= MESSAGE_BYTES_MAX, "a message has no end");
        if taken > bytes.len() {
            return Err(None);
        }
    }
    Ok(&bytes[taken..])
}

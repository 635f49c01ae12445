//! Header blocks in sequence through one decoder; what it accepts is encoded again and must come back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_protocols::hbone::hpack::{Decoder, Encoder, Error, Remember, TABLE_BYTES_MAX};

const LIST_BYTES_MAX: usize = 64 * 1024;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<(usize, Fields), Error> {
    let mut fields = Fields::new();
    let deliver = |name: &[u8], value: &[u8]| fields.push((name.to_vec(), value.to_vec()));
    let list_bytes = decoder.decode(block, LIST_BYTES_MAX, deliver)?;
    Ok((list_bytes, fields))
}

fuzz_target!(|blocks: Vec<(&[u8], bool, u16)>| {
    let mut decoder = Decoder::new();
    let (mut encoder, mut mirror) = (Encoder::new(), Decoder::new());
    for (block, remember, table_bytes) in blocks {
        let Ok((list_bytes, fields)) = decode(&mut decoder, block) else { return };
        assert!(decoder.retained_bytes() <= 6 * TABLE_BYTES_MAX);
        let counted: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        assert!(counted <= LIST_BYTES_MAX && counted <= list_bytes);

        encoder.set_table_bytes_max(table_bytes.into());
        let mut again = Vec::new();
        encoder.begin(&mut again);
        let remember = if remember { Remember::Yes } else { Remember::No };
        for (name, value) in &fields {
            encoder.field(name, value, remember, &mut again);
        }
        assert_eq!(decode(&mut mirror, &again), Ok((counted, fields)));
    }
});

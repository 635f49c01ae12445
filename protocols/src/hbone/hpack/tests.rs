//! The examples of RFC 7541 Appendix C, what must be refused, and the properties that tie both ends
//! together.

use proptest::prelude::*;

use super::table::DynamicTable;
use super::{Decoder, Encoder, Error, Remember, TABLE_BYTES_MAX, huffman};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;
/// A block, its fields, and the size of the dynamic table after it.
type Step<'a> = (&'a str, &'a [(&'a str, &'a str)], usize);

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: String = hexadecimal.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Error> {
    let mut fields = Fields::new();
    decoder
        .decode(block, usize::MAX, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// One sequence of blocks through one decoder.
fn run_example(name: &str, table_bytes: usize, blocks: &[Step<'_>]) {
    let mut decoder = Decoder::new();
    decoder.table = DynamicTable::new(table_bytes);
    for (nth, (block, fields, table_size)) in blocks.iter().enumerate() {
        assert_eq!(decode(&mut decoder, &bytes(block)), Ok(owned(fields)), "{name}, block {nth}");
        assert_eq!(decoder.table.size(), *table_size, "{name}, block {nth}");
    }
}

#[test]
fn rfc_7541_appendix_c() {
    let custom = [("custom-key", "custom-header")];
    run_example(
        "C.2.1 literal with indexing",
        4096,
        &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &custom, 55)],
    );
    run_example(
        "C.2.2 literal without indexing",
        4096,
        &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0)],
    );
    run_example(
        "C.2.3 literal never indexed",
        4096,
        &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0)],
    );
    run_example("C.2.4 indexed", 4096, &[("82", &[(":method", "GET")], 0)]);

    let get = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    let mut get_no_cache = get.to_vec();
    get_no_cache.push(("cache-control", "no-cache"));
    let get_custom = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    run_example(
        "C.3 requests",
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &get, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", &get_no_cache, 110),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                &get_custom,
                164,
            ),
        ],
    );
    run_example(
        "C.4 requests in Huffman code",
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &get, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", &get_no_cache, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", &get_custom, 164),
        ],
    );

    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    let found = [(":status", "302"), ("cache-control", "private"), date, location];
    let temporary = [(":status", "307"), ("cache-control", "private"), date, location];
    let ok = [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        location,
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ];
    run_example("C.5 responses, evicting", 256, &[
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
             3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            &found,
            222,
        ),
        ("4803 3330 37c1 c0bf", &temporary, 222),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
             7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
             6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            &ok,
            215,
        ),
    ]);
    run_example("C.6 responses in Huffman code, evicting", 256, &[
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
             1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            &found,
            222,
        ),
        ("4883 640e ffc1 c0bf", &temporary, 222),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            &ok,
            215,
        ),
    ]);
}

#[test]
fn refuses_what_no_encoder_writes() {
    use Error::*;
    #[rustfmt::skip]
    let rows: &[(&str, &str, Result<usize, Error>)] = &[
        ("nothing",                                   "",                        Ok(0)),
        ("index 0",                                   "80",                      Err(IndexUnknown)),
        ("the last static index",                     "bd",                      Ok(1)),
        ("the first dynamic index, table empty",      "be",                      Err(IndexUnknown)),
        ("a name index beyond the table",             "7e 00",                   Err(IndexUnknown)),
        ("an unfinished index",                       "ff",                      Err(Truncated)),
        ("an index in many zero bytes",               "ff 80 80 80 80 00",       Err(IntegerTooLarge)),
        ("an integer of 2^32",                        "ff ff ff ff ff 0f",       Err(IntegerTooLarge)),
        ("an endless integer",                        "ff ff ff ff ff ff ff ff", Err(IntegerTooLarge)),
        ("an index in one zero byte more",            "ff 80 00",                Err(IndexUnknown)),
        ("a literal without a name",                  "00",                      Err(Truncated)),
        ("a literal without a value",                 "00 01 61",                Err(Truncated)),
        ("a literal cut in its name",                 "00 02 61",                Err(Truncated)),
        ("a literal cut in its value",                "00 01 61 02 62",          Err(Truncated)),
        ("an empty name and value",                   "00 00 00",                Ok(1)),
        ("a string longer than any block",            "00 7f ff ff ff 07",       Err(IntegerTooLarge)),
        ("Huffman: 'a', padded by ones",              "00 81 1f 00",             Ok(1)),
        ("Huffman: 'a', padded by zeros",             "00 81 18 00",             Err(HuffmanInvalid)),
        ("Huffman: a whole byte of padding",          "00 82 1f ff 00",          Err(HuffmanInvalid)),
        ("Huffman: only padding",                     "00 81 ff 00",             Err(HuffmanInvalid)),
        ("Huffman: EOS",                              "00 84 ff ff ff ff 00",    Err(HuffmanInvalid)),
        ("Huffman: 'a' and EOS",                      "00 85 1f ff ff ff ff 00", Err(HuffmanInvalid)),
        ("Huffman: nothing",                          "00 80 00",                Ok(1)),
        ("a size update",                             "20",                      Ok(0)),
        ("two size updates",                          "20 3f e1 1f",             Ok(0)),
        ("a size update to the announced size",       "3f e1 1f",                Ok(0)),
        ("a size update above it",                    "3f e2 1f",                Err(TableSizeTooLarge)),
        ("a size update after a field",               "82 20",                   Err(TableSizeMisplaced)),
        ("a size update in no field's place",         "20 82",                   Ok(1)),
    ];
    for (name, block, want) in rows {
        let got = decode(&mut Decoder::new(), &bytes(block)).map(|fields| fields.len());
        assert_eq!(got, *want, "{name}");
    }
}

#[test]
fn the_list_is_counted_whole_but_delivered_within_its_bound() {
    let block = bytes("82 86 84");
    let mut delivered = 0;
    let sizes = [10 + 32, 11 + 32, 6 + 32];
    let list_bytes = Decoder::new().decode(&block, sizes[0] + sizes[1], |_, _| delivered += 1);
    assert_eq!((list_bytes, delivered), (Ok(sizes.iter().sum()), 2));
}

#[test]
fn a_name_outlives_its_own_eviction() {
    // The table holds one entry; the next takes its name from it and pushes it out (RFC 7541 §4.4).
    let mut decoder = Decoder::new();
    decoder.table = DynamicTable::new(64);
    let first = bytes("40 04 6e616d65 05 76616c7565");
    let second = bytes("7e 06 6c6f6e676572");
    assert_eq!(decode(&mut decoder, &first), Ok(owned(&[("name", "value")])));
    assert_eq!(decode(&mut decoder, &second), Ok(owned(&[("name", "longer")])));
    assert_eq!(decode(&mut decoder, &bytes("be")), Ok(owned(&[("name", "longer")])));
    assert_eq!(decode(&mut decoder, &bytes("bf")), Err(Error::IndexUnknown));
    // And one that does not fit at all leaves the table empty.
    let third = [bytes("7e 28"), vec![b'x'; 40]].concat();
    assert_eq!(decode(&mut decoder, &third), Ok(vec![(b"name".to_vec(), vec![b'x'; 40])]));
    assert_eq!(decode(&mut decoder, &bytes("be")), Err(Error::IndexUnknown));
    assert_eq!(decoder.table.size(), 0);
}

#[test]
fn the_table_holds_little_however_it_is_filled() {
    let long = vec![b'v'; 1000];
    for value in [&b""[..], b"v", &long] {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for n in 0..5_000 {
            let mut block = Vec::new();
            encoder.field(format!("{n}").as_bytes(), value, Remember::Yes, &mut block);
            assert_eq!(decode(&mut decoder, &block).map(|fields| fields.len()), Ok(1));
            assert!(decoder.retained_bytes() <= 5 * TABLE_BYTES_MAX);
            assert!(encoder.retained_bytes() <= 5 * TABLE_BYTES_MAX);
        }
    }
}

#[test]
fn constant_fields_shrink_to_one_byte() {
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    let mut encode = |remember| {
        block.clear();
        encoder.field(b"baggage", b"k8s.cluster.name=c1", remember, &mut block);
        block.len()
    };
    assert_eq!(encode(Remember::No), 1 + 8 + 20);
    assert_eq!(encode(Remember::Yes), 1 + 8 + 20);
    assert_eq!(encode(Remember::Yes), 1);
    assert_eq!(encode(Remember::No), 1, "an indexed field is indexed, whoever asks");
}

#[test]
fn a_peer_can_take_the_table_away_and_give_it_back() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    let mut send = |encoder: &mut Encoder| {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.field(b"name", b"value", Remember::Yes, &mut block);
        assert_eq!(decode(&mut decoder, &block), Ok(owned(&[("name", "value")])));
        block
    };
    send(&mut encoder);
    encoder.set_table_bytes_max(0);
    encoder.set_table_bytes_max(u32::MAX);
    assert_eq!(
        send(&mut encoder)[..4],
        bytes("20 3f e1 1f"),
        "the least size in between, then the last"
    );
    assert_eq!(send(&mut encoder), bytes("be"));
    encoder.set_table_bytes_max(0);
    assert_eq!(send(&mut encoder)[..2], bytes("20 00"), "without a table there is no indexing");
    assert_eq!(send(&mut encoder)[0], 0);
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        Just(b":authority".to_vec()),
        Just(b":method".to_vec()),
        Just(b"baggage".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let value = prop_oneof![
        Just(b"CONNECT".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::collection::vec(any::<u8>(), 1000..5000),
    ];
    (name, value)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        blocks in proptest::collection::vec(
            (proptest::option::of(0_u32..6000), proptest::collection::vec((field(), any::<bool>()), 0..6)), 1..20)
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (table_bytes, fields) in blocks {
            if let Some(table_bytes) = table_bytes {
                encoder.set_table_bytes_max(table_bytes);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            for ((name, value), remember) in &fields {
                let remember = if *remember { Remember::Yes } else { Remember::No };
                encoder.field(name, value, remember, &mut block);
            }
            let want: Fields = fields.into_iter().map(|(field, _)| field).collect();
            prop_assert_eq!(decode(&mut decoder, &block), Ok(want));
            prop_assert!(decoder.table.size() <= TABLE_BYTES_MAX);
            prop_assert!(decoder.retained_bytes() <= 6 * TABLE_BYTES_MAX, "{}", decoder.retained_bytes());
        }
    }

    #[test]
    fn any_block_is_decoded_or_refused(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decode(&mut decoder, &block).is_err() {
                break;
            }
            prop_assert!(decoder.table.size() <= TABLE_BYTES_MAX);
        }
    }

    #[test]
    fn huffman_code_comes_back(text in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut out = Vec::new();
        prop_assert_eq!(huffman::decode(&huffman::encode(&text), &mut out), Ok(()));
        prop_assert_eq!(out, text);
    }

    #[test]
    fn huffman_code_has_one_form(code in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut out = Vec::new();
        if huffman::decode(&code, &mut out).is_ok() {
            prop_assert_eq!(huffman::encode(&out), code);
        }
    }
}

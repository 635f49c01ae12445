//! Bytes as they arrive: cut anywhere, too large, or none of ours.

use proptest::prelude::*;

use super::mesh::{Told, framed, pod, response};
use crate::grpc::MESSAGE_BYTES_MAX;
use crate::xds::reader::{Piece, RESOURCE_BYTES_MAX, Reader, Unreadable};
use crate::xds::state::Kind;

/// What a reader says of bytes that arrive in these portions.
fn read<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, Unreadable> {
    let mut reader = Reader::default();
    let mut told = Vec::new();
    for portion in portions {
        reader.feed(portion);
        while let Some(piece) = reader.next()? {
            told.push(match piece {
                Piece::Resource(bytes) => format!("resource of {}", bytes.len()),
                other => format!("{other:?}"),
            });
        }
    }
    Ok(told)
}

fn two_responses() -> Vec<u8> {
    let told = vec![pod("a", "10.0.0.1").told("1"), pod("b", "10.0.0.2").told("1")];
    let mut bytes = framed(&response(Kind::Address, "n1", told, &["x", "y"]));
    bytes.extend(framed(&response(Kind::Authorization, "n2", Vec::new(), &[])));
    bytes
}

/// A field of a response: its number, and its content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut bytes).unwrap();
    bytes.extend_from_slice(content);
    bytes
}

/// gRPC's head before a message.
fn head(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

#[test]
fn the_type_of_a_small_response_is_told_first() {
    let told = read([&two_responses()[..]]).unwrap();
    assert_eq!(told.len(), 8);
    assert_eq!(told[0], r#"Begin(Some("type.googleapis.com/istio.workload.Address"))"#);
    assert!(told[3].contains(r#"name: "x""#), "{}", told[3]);
    assert!(told[5].contains(r#"nonce: "n1""#), "{}", told[5]);
    assert_eq!(told[6], r#"Begin(Some("type.googleapis.com/istio.security.Authorization"))"#);
}

#[test]
fn a_large_response_is_told_as_it_arrives() {
    let resource = vec![7; 100_000];
    let url = Kind::Address.type_url().as_bytes();
    let message: Vec<u8> = [
        (0..20).flat_map(|_| field(2, &resource)).collect(),
        field(4, url),
        field(5, b"n"),
        field(6, b"gone"),
    ]
    .concat();
    let bytes = head(&message);
    let mut reader = Reader::default();
    reader.feed(&bytes[..150_000]);
    assert_eq!(reader.next(), Ok(Some(Piece::Begin(None))));
    assert_eq!(reader.next(), Ok(Some(Piece::Resource(&resource))));
    assert_eq!(reader.next(), Ok(None), "the second is not there yet");
    reader.feed(&bytes[150_000..]);
    for _ in 1..20 {
        assert_eq!(reader.next(), Ok(Some(Piece::Resource(&resource))));
    }
    let type_url = Kind::Address.type_url();
    assert_eq!(reader.next(), Ok(Some(Piece::Removed { type_url, name: "gone" })));
    assert!(matches!(reader.next(), Ok(Some(Piece::End(_)))));
    assert_eq!(reader.next(), Ok(None));
}

#[test]
fn a_resource_that_is_too_large_is_skipped() {
    let large = vec![7; RESOURCE_BYTES_MAX + 1];
    let message = [field(2, &large), field(2, b"x"), field(5, b"n")].concat();
    let bytes = head(&message);
    let told = read(bytes.chunks(10_000)).unwrap();
    assert_eq!(told[1..3], [format!("TooLarge({})", large.len()), "resource of 1".to_owned()]);
    assert!(told[3].starts_with("End"), "{}", told[3]);
}

#[test]
fn what_is_no_response_ends_the_stream() {
    let length = |length: usize| [&[0][..], &(length as u32).to_be_bytes()].concat();
    //  name                     bytes                                                 why
    let rows = [
        ("compressed", vec![1, 0, 0, 0, 0], Unreadable::Compressed),
        ("a flag nobody knows", vec![9, 0, 0, 0, 0], Unreadable::Compressed),
        (
            "too large",
            length(MESSAGE_BYTES_MAX + 1),
            Unreadable::MessageTooLarge(MESSAGE_BYTES_MAX + 1),
        ),
        ("a group", head(&[2 << 3 | 3]), Unreadable::Field),
        ("a length over the end", head(&[2 << 3 | 2, 9, 1]), Unreadable::Field),
        ("cut within a tag", head(&[0x80]), Unreadable::Field),
        ("cut within a length", head(&[2 << 3 | 2, 0x80]), Unreadable::Field),
        ("a number without end", head(&[0xff; 20]), Unreadable::Field),
        ("no text", head(&field(4, &[0xff, 0xfe])), Unreadable::Field),
        ("a long name", head(&field(6, &[b'x'; 70_000])), Unreadable::TextTooLong(70_000)),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n".to_vec(), Unreadable::Compressed),
    ];
    for (name, bytes, why) in rows {
        assert_eq!(read([&bytes[..]]), Err(why), "{name}");
        assert!(!why.to_string().is_empty());
    }
}

#[test]
fn fields_that_nobody_knows_are_skipped() {
    let number = [9 << 3, 0xff, 1];
    let eight = [&[10 << 3 | 1][..], &[0; 8]].concat();
    let four = [&[11 << 3 | 5][..], &[0; 4]].concat();
    let message =
        [&number[..], &eight, &four, &field(12, b"new"), &field(1, b"7"), &field(2, b"x")].concat();
    let told = read([&head(&message)[..]]).unwrap();
    assert_eq!(told[1], "resource of 1");
    assert_eq!(told.len(), 3);
}

proptest! {
    #[test]
    fn cuts_make_no_difference(cuts in prop::collection::vec(0..600usize, 0..8)) {
        let bytes = two_responses();
        let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let portions = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(read(portions), read([&bytes[..]]));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let whole = head(&bytes);
        let one_by_one = read(whole.chunks(1));
        prop_assert_eq!(one_by_one.is_ok(), read([&whole[..]]).is_ok());
    }
}

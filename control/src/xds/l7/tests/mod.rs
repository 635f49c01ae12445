//! What becomes of each field, what resources come to together, and what the control plane is answered.

mod conversation;
mod fields;
mod together;
mod words;

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;

use self::words::policy;
use super::protocol::{Fate, ROWS};
use super::{L7Resource, read};
use crate::proto::agent as told;

/// The fields of a message's alternatives: name, number, and whether what is in it has a length.
fn alternatives(message: &str) -> Vec<(String, u32)> {
    let compiled = include_bytes!(concat!(env!("OUT_DIR"), "/messages.bin"));
    let files = FileDescriptorSet::decode(&compiled[..]).unwrap();
    let file = files.file.iter().find(|file| file.package() == "agentgateway.dev.resource");
    let messages = &file.unwrap().message_type;
    let message = messages.iter().find(|one| one.name() == message).unwrap();
    let fields = message.field.iter().filter(|field| field.oneof_index.is_some());
    fields.map(|field| (field.name().to_owned(), field.number() as u32)).collect()
}

#[test]
fn the_table_has_every_alternative_of_the_protocol_and_nothing_else() {
    for message in ["Resource", "TrafficPolicySpec", "BackendPolicySpec", "FrontendPolicySpec"] {
        let there: BTreeSet<String> =
            alternatives(message).into_iter().map(|(name, _)| name).collect();
        let rows = ROWS.iter().filter(|row| row.message == message);
        let rows: Vec<String> = rows.map(|row| row.field.to_owned()).collect();
        assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), there, "{message}");
        assert_eq!(rows.len(), there.len(), "{message}: twice");
    }
}

/// A policy of each kind, with nothing in it, for a service: refused ones close it where the table says so.
#[test]
fn policies_of_each_kind_have_the_fate_that_the_table_says() {
    for (message, outer) in
        [("TrafficPolicySpec", 4), ("BackendPolicySpec", 5), ("FrontendPolicySpec", 6)]
    {
        for (name, number) in alternatives(message) {
            let row = ROWS.iter().find(|row| row.message == message && row.field == name).unwrap();
            if row.fate == Fate::Obeyed || name == "authorization" && message == "TrafficPolicySpec"
            {
                // What must be in it is in the tests of fields.
                continue;
            }
            let inner = words::field(number, b"");
            let mut bytes = policy(told::Policy { kind: None, ..words::for_service() });
            bytes.extend(words::field(outer, &inner));
            let resource = words::field(5, &bytes);
            let refused = read(&resource).expect_err(&name);
            let text = refused.why.to_string();
            assert!(text.contains(&name), "{name}: {text}");
            let closes = matches!(refused.instead, Some(L7Resource::Closed(_)));
            assert_eq!(closes, row.fate == Fate::Closes, "{name}: {text}");
        }
    }
}

#[test]
fn other_resources_have_the_fate_that_the_table_says() {
    for (name, number) in alternatives("Resource") {
        let fate =
            ROWS.iter().find(|row| row.message == "Resource" && row.field == name).unwrap().fate;
        let read = read(&words::field(number, b""));
        match fate {
            Fate::Ignored => assert!(read.unwrap().resource.is_none(), "{name}"),
            // Empty ones lack what they need.
            Fate::Obeyed => {
                assert!(read.unwrap_err().why.to_string().contains("missing"), "{name}")
            }
            Fate::Refused | Fate::Closes => {
                let why = read.unwrap_err().why.to_string();
                assert!(why.contains("not supported"), "{name}: {why}");
            }
        }
    }
    assert!(read(b"").is_err() && read(&words::field(99, b"x")).is_err() && read(b"\xff").is_err());
}

/// `docs/waypoint.md` has the table; `UPDATE=1` writes it there.
#[test]
fn the_documentation_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/waypoint.md");
    let (begin, end) = ("<!-- protocol -->\n", "<!-- /protocol -->");
    let page = std::fs::read_to_string(path).unwrap();
    let start = page.find(begin).expect("the table's beginning is marked") + begin.len();
    let stop = page.find(end).expect("the table's end is marked");
    let table = super::documentation();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{}{table}{}", &page[..start], &page[stop..])).unwrap();
        return;
    }
    assert_eq!(&page[start..stop], table, "UPDATE=1 cargo test writes it");
}

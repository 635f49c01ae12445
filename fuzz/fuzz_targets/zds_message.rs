//! Packets of a CNI agent, and the answers to them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_control::cni::message::{PACKET_BYTES_MAX, Request, answer, read};

fuzz_target!(|packet: (&[u8], u8)| {
    let (bytes, descriptors) = packet;
    match read(bytes, descriptors.into()) {
        Ok(Request::Add(uid, info)) => {
            assert_eq!(descriptors, 1);
            assert!(!uid.is_empty() && !info.name.is_empty() && !info.namespace.is_empty());
        }
        Ok(Request::Keep(uid) | Request::Del(uid)) => {
            assert_eq!(descriptors, 0);
            assert!(!uid.is_empty());
        }
        Ok(Request::SnapshotSent) => assert_eq!(descriptors, 0),
        // Whatever it is called, the agent can read that something went wrong.
        Err(malformed) => {
            let answer = answer(Some(&malformed.to_string()));
            assert!(answer.len() > 2 && answer.len() < PACKET_BYTES_MAX);
        }
    }
});

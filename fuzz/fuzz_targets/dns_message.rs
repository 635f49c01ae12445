//! DNS messages: any bytes as a client's query and as a server's reply.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use ringway_protocols::dns::bounds::{MESSAGE_BYTES_MAX, QUERY_BYTES_MAX};
use ringway_protocols::dns::{Answer, Name, Query, names_to_try, record_type};

fuzz_target!(|input: (u16, &[u8], &[u8])| {
    let (count, first, second) = input;
    let own = Query::new(&Name::new("www.example.net").expect("a name"), record_type::AAAA);
    for query in [Query::parse(first), Ok(own)] {
        let query = match query {
            Ok(query) => query,
            Err(refused) => {
                assert!(refused.reply.is_none_or(|reply| reply[2] & 0x80 != 0));
                continue;
            }
        };
        let again = Query::parse(&query.forward(query.id())).expect("what was read is read again");
        assert_eq!(again, query);
        if let Some(name) = query.name() {
            assert_eq!(Name::new(name.as_str()).as_ref(), Ok(name));
            let tried = names_to_try(name, "shop", "cluster.local", ["svc.cluster.local", "local"]);
            assert!(tried.len() <= 12);
        }
        let addresses = (0..count % 5000).map(|n| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]));
        let alias = Name::new("www.example.net").ok();
        let answer = Answer::known(alias, addresses.collect());
        for bytes_max in [query.udp_bytes_max(), MESSAGE_BYTES_MAX] {
            let message = query.answer(&answer, bytes_max.max(QUERY_BYTES_MAX));
            assert!(message.len() <= bytes_max.max(QUERY_BYTES_MAX));
            query.accept(query.id(), message).expect("our answer answers the query");
        }
        // With the right number and question before it, more of the bytes are read.
        let mut likely = query.forward(7);
        likely[2] |= 0x80;
        likely.splice(6..8, second.first_chunk::<2>().copied().unwrap_or_default());
        likely.extend_from_slice(second);
        for message in [second.to_vec(), likely] {
            let Ok(reply) = query.accept(7, message) else { continue };
            if let Ok(found) = reply.addresses(&query) {
                assert!(found.addresses.len() <= MESSAGE_BYTES_MAX);
            }
            let passed = reply.for_client(&query, QUERY_BYTES_MAX);
            assert!(passed.len() <= QUERY_BYTES_MAX);
            assert_eq!(passed[..2], query.id().to_be_bytes());
        }
    }
});

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Edns as OracleEdns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name as OracleName, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;

fn asked(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new();
    message.set_id(0x1234).set_recursion_desired(true);
    message.add_query(Question::query(OracleName::from_str(name).unwrap(), kind));
    message
}

fn query(name: &str, kind: RecordType) -> Query {
    Query::parse(&asked(name, kind).to_vec().unwrap()).unwrap()
}

fn with_edns(name: &str, payload: u16) -> Message {
    let mut message = asked(name, RecordType::A);
    let mut edns = OracleEdns::new();
    edns.set_max_payload(payload).set_version(0).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

fn ips(count: u16) -> Vec<IpAddr> {
    (0..count).map(|n| IpAddr::from([10, 9, (n >> 8) as u8, n as u8])).collect()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn a_query_is_what_was_asked() {
    let query = query("Web.Shop.svc.cluster.local.", RecordType::AAAA);
    assert_eq!(query.id(), 0x1234);
    assert_eq!(query.name().unwrap().as_str(), "web.shop.svc.cluster.local");
    assert_eq!(query.record_type(), record_type::AAAA);
    assert!(query.is_for_addresses());
    assert_eq!((query.edns(), query.udp_bytes_max()), (None, 512));
    let forwarded = query.forward(7);
    assert_eq!(forwarded[..2], [0, 7]);
    assert_eq!(
        forwarded[2..],
        asked("Web.Shop.svc.cluster.local.", RecordType::AAAA).to_vec().unwrap()[2..]
    );
}

#[test]
fn a_query_of_our_own_is_read_by_others() {
    let query = Query::new(&name("db.example.com"), record_type::A);
    let read = Message::from_vec(&query.forward(9)).unwrap();
    assert_eq!(read.id(), 9);
    assert!(read.recursion_desired());
    assert_eq!(read.queries()[0].name().to_ascii(), "db.example.com.");
    assert_eq!(Query::parse(&query.forward(0)).unwrap(), query);
}

#[test]
fn an_answer_is_read_by_others() {
    let mut message = asked("web.example.com.", RecordType::A).to_vec().unwrap();
    message[13..16].copy_from_slice(b"WEB");
    let query = Query::parse(&message).unwrap();
    assert_eq!(query.name().unwrap().as_str(), "web.example.com");
    let answer = Answer::known(None, ips(2));
    let read = Message::from_vec(&query.answer(&answer, 512)).unwrap();
    assert_eq!((read.id(), read.message_type()), (0x1234, MessageType::Response));
    assert!(read.authoritative() && read.recursion_available() && read.recursion_desired());
    assert!(!read.truncated() && read.extensions().is_none());
    assert_eq!(
        read.queries()[0].name().to_ascii(),
        "WEB.example.com.",
        "in the case it was asked in"
    );
    let records: Vec<_> =
        read.answers().iter().map(|one| (one.name().to_ascii(), one.ttl())).collect();
    assert_eq!(records, [("WEB.example.com.".into(), 30), ("WEB.example.com.".into(), 30)]);
    assert_eq!(read.answers()[1].data(), &RData::A(A::new(10, 9, 0, 1)));
}

#[test]
fn an_alias_goes_before_its_addresses() {
    let query = query("example.com.shop.svc.cluster.local.", RecordType::A);
    let answer = Answer::known(Some(name("example.com")), ips(1));
    let read = Message::from_vec(&query.answer(&answer, 512)).unwrap();
    let [alias, address] = read.answers() else { panic!("{read:?}") };
    assert_eq!(alias.data(), &RData::CNAME(CNAME(OracleName::from_str("example.com.").unwrap())));
    assert_eq!(alias.name().to_ascii(), "example.com.shop.svc.cluster.local.");
    assert_eq!(address.name().to_ascii(), "example.com.");
}

#[test]
fn who_speaks_edns_is_answered_in_it() {
    let query = Query::parse(&with_edns("a.b.", 200).to_vec().unwrap()).unwrap();
    assert_eq!(query.udp_bytes_max(), 512, "less is never meant");
    let read = Message::from_vec(&query.answer(&Answer::empty(), 512)).unwrap();
    let edns = read.extensions().as_ref().unwrap();
    assert_eq!((edns.version(), edns.max_payload()), (0, 512));
    assert!(edns.flags().dnssec_ok);
    assert!(read.name_servers().is_empty() && read.answers().is_empty());
}

#[test]
fn an_unknown_version_of_edns_is_told_so() {
    let mut message = with_edns("a.b.", 1232);
    message.extensions_mut().as_mut().unwrap().set_version(3);
    let refused = Query::parse(&message.to_vec().unwrap()).unwrap_err();
    assert_eq!(refused.error, Error::Version(3));
    let reply = Message::from_vec(&refused.reply.unwrap()).unwrap();
    assert_eq!(u16::from(reply.response_code()), 16);
    assert_eq!(reply.extensions().as_ref().unwrap().version(), 0);
}

#[test]
fn what_does_not_fit_is_left_out_and_said() {
    let answer = Answer::known(None, ips(256));
    let query = query("many.example.", RecordType::A);
    let over_tcp = Message::from_vec(&query.answer(&answer, bounds::MESSAGE_BYTES_MAX)).unwrap();
    assert_eq!((over_tcp.answers().len(), over_tcp.truncated()), (256, false));
    for (payload, most) in [(0, 512), (1232, 1232)] {
        let query = match payload {
            0 => query.clone(),
            payload => {
                Query::parse(&with_edns("many.example.", payload).to_vec().unwrap()).unwrap()
            }
        };
        let bytes = query.answer(&answer, query.udp_bytes_max());
        assert!(bytes.len() <= most && bytes.len() > most - 16, "{} of {most}", bytes.len());
        let over_udp = Message::from_vec(&bytes).unwrap();
        assert!(over_udp.truncated());
        assert_eq!(
            over_udp.extensions().is_some(),
            payload > 0,
            "the options are not what is left out"
        );
    }
}

#[test]
fn what_is_no_query_is_told_so_or_not_answered_at_all() {
    let good = asked("a.b.", RecordType::A).to_vec().unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let refused = Query::parse(&bytes).unwrap_err();
        let code = refused.reply.map(|reply| {
            assert_eq!(reply[..2], bytes[..2]);
            assert!(reply[2] & 0x80 != 0, "a reply is a response");
            reply[3] & 0xf
        });
        (refused.error, code)
    };
    assert_eq!(with(&|bytes| bytes.truncate(11)), (Error::Short, None));
    assert_eq!(with(&|bytes| bytes[2] |= 0x80), (Error::Direction, None));
    assert_eq!(with(&|bytes| bytes[2] |= 4 << 3), (Error::Operation(4), Some(4)));
    assert_eq!(with(&|bytes| bytes[5] = 0), (Error::Questions(0), Some(1)));
    assert_eq!(with(&|bytes| bytes[5] = 2), (Error::Questions(2), Some(1)));
    assert_eq!(with(&|bytes| bytes.truncate(14)), (Error::Short, Some(1)));
    assert_eq!(
        with(&|bytes| bytes[12] = 0x40),
        (Error::Name, Some(1)),
        "a label of an unknown kind"
    );
    assert_eq!(
        with(&|bytes| bytes[12..14].copy_from_slice(&[0xc0, 12])),
        (Error::Name, Some(1)),
        "a name in itself"
    );
    assert_eq!(with(&|bytes| bytes[11] = 1), (Error::Short, Some(1)), "a record that is not there");
    assert_eq!(with(&|bytes| bytes.resize(5000, 0)), (Error::Long, Some(1)));
    let mut twice = with_edns("a.b.", 1232).to_vec().unwrap();
    let option = twice[twice.len() - 11..].to_vec();
    twice.extend(option);
    twice[11] = 2;
    assert_eq!(Query::parse(&twice).unwrap_err().error, Error::Options);
}

#[test]
fn a_long_name_is_no_name() {
    let label = "a".repeat(63);
    let long = [label.as_str(); 4].join(".");
    assert!(Name::new(&long[..253]).is_ok());
    assert_eq!(Name::new(&long[..254]), Err(Error::Name));
    assert_eq!(Name::new("a..b"), Err(Error::Name));
    assert_eq!(Name::new(""), Err(Error::Name));
    assert_eq!(Name::new("a b"), Err(Error::Name));
    assert_eq!(Name::new(&"a".repeat(64)), Err(Error::Name));
    assert_eq!(name("Web.Example.").as_str(), "web.example");
    // Two labels of 63 and one of 126 in pieces pass; what the walk counts is the sum.
    let mut message = vec![0; 12];
    message[5] = 1;
    for _ in 0..4 {
        message.push(63);
        message.extend([b'a'; 63]);
    }
    message.extend([0, 0, 1, 0, 1]);
    assert_eq!(Query::parse(&message).unwrap_err().error, Error::Name);
}

#[test]
fn names_no_host_has_are_forwarded_as_they_came() {
    let mut message = asked("a.b.", RecordType::A).to_vec().unwrap();
    message[13] = b'\0';
    let query = Query::parse(&message).unwrap();
    assert_eq!(query.name(), None);
    assert_eq!(query.forward(0x1234), message);
    let root = asked(".", RecordType::NS).to_vec().unwrap();
    assert_eq!(Query::parse(&root).unwrap().name(), None);
}

fn answered(to: &Query, id: u16, records: Vec<Record>) -> Message {
    let mut message = Message::from_vec(&to.forward(id)).unwrap();
    message.set_message_type(MessageType::Response).set_authoritative(true);
    message.add_answers(records);
    message
}

fn record(owner: &str, data: RData, ttl: u32) -> Record {
    Record::from_rdata(OracleName::from_str(owner).unwrap(), ttl, data)
}

#[test]
fn a_reply_is_taken_only_for_its_question() {
    let asked = query("db.example.com.", RecordType::A);
    let reply =
        answered(&asked, 77, vec![record("db.example.com.", RData::A(A::new(1, 2, 3, 4)), 60)]);
    let bytes = reply.to_vec().unwrap();
    let refused = |id: u16, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        asked.accept(id, bytes).unwrap_err()
    };
    assert_eq!(refused(78, &|_| {}), Error::NotOurs, "another number");
    assert_eq!(refused(77, &|bytes| bytes[2] &= 0x7f), Error::Direction);
    assert_eq!(refused(77, &|bytes| bytes[13] = b'x'), Error::NotOurs, "another name");
    let type_at = 12 + "db.example.com".len() + 2;
    assert_eq!(refused(77, &|bytes| bytes[type_at + 1] = 28), Error::NotOurs, "another type");
    assert_eq!(refused(77, &|bytes| bytes[5] = 0), Error::NotOurs, "an answer to no question");
    assert_eq!(refused(77, &|bytes| bytes.truncate(20)), Error::NotOurs);
    assert_eq!(refused(77, &|bytes| bytes.truncate(5)), Error::Short);
    // The case of the name is not what tells names apart, and a failure may have lost its question.
    let mut shouted = bytes.clone();
    shouted[13] = b'D';
    assert!(asked.accept(77, shouted).is_ok());
    let mut failed = bytes[..12].to_vec();
    failed[3] = 1;
    failed[4..].fill(0);
    assert!(asked.accept(77, failed).unwrap().is_refusal());
}

#[test]
fn a_reply_passes_as_it_came() {
    let asked = query("db.example.com.", RecordType::TXT);
    let mut reply = answered(&asked, 77, Vec::new());
    reply.add_answer(record("db.example.com.", RData::A(A::new(1, 2, 3, 4)), 60));
    let bytes = reply.to_vec().unwrap();
    let passed = asked.accept(77, bytes.clone()).unwrap().for_client(&asked, 512);
    let read = Message::from_vec(&passed).unwrap();
    assert_eq!(read.id(), 0x1234);
    assert!(read.recursion_available() && !read.authoritative());
    assert_eq!(passed[4..], bytes[4..]);
}

#[test]
fn a_reply_that_does_not_fit_says_so() {
    let asked = query("db.example.com.", RecordType::A);
    let address = |ip| record("db.example.com.", RData::A(A(ip)), 60);
    let records = (0..90).map(|n| address([10, 0, 0, n].into())).collect();
    let mut reply = answered(&asked, 77, records);
    reply.set_response_code(hickory_proto::op::ResponseCode::NXDomain);
    let passed = asked.accept(77, reply.to_vec().unwrap()).unwrap().for_client(&asked, 512);
    let read = Message::from_vec(&passed).unwrap();
    assert!(read.truncated() && read.answers().is_empty());
    assert_eq!(u16::from(read.response_code()), 3);
}

#[test]
fn addresses_are_found_over_aliases() {
    let asked = query("www.example.com.", RecordType::AAAA);
    let to = |target: &str| RData::CNAME(CNAME(OracleName::from_str(target).unwrap()));
    let six = |text: &str| RData::AAAA(AAAA(text.parse().unwrap()));
    let reply = answered(
        &asked,
        5,
        vec![
            record("stranger.example.com.", six("fd00::bad"), 1),
            record("web.example.com.", to("host.example.com."), 20),
            record("www.example.com.", to("web.example.com."), 300),
            record("host.example.com.", six("fd00::1"), 60),
            record("host.example.com.", RData::A(A::new(1, 2, 3, 4)), 2),
        ],
    );
    let reply = asked.accept(5, reply.to_vec().unwrap()).unwrap();
    let found = reply.addresses(&asked).unwrap();
    assert_eq!(found.addresses, ["fd00::1".parse::<IpAddr>().unwrap()]);
    assert_eq!(found.ttl, Duration::from_secs(20), "the shortest on the way");
    let circle = answered(&asked, 5, vec![record("www.example.com.", to("www.example.com."), 9)]);
    let circle = asked.accept(5, circle.to_vec().unwrap()).unwrap();
    assert!(circle.addresses(&asked).unwrap().addresses.is_empty());
}

#[test]
fn names_are_completed_in_order() {
    let try_for = |text: &str| -> Vec<String> {
        let search = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"];
        let candidates = names_to_try(&name(text), "shop", "cluster.local", search);
        let show = |one: Candidate| match one.stripped {
            Some(stripped) => format!("{} (from {stripped})", one.name),
            None => one.name,
        };
        candidates.into_iter().map(show).collect()
    };
    //       requested                            tried, in this order
    let table: [(&str, &[&str]); 8] = [
        ("web", &["web", "web.shop.svc.cluster.local"]),
        (
            "web.other",
            &["web.other", "web.other.svc.cluster.local", "web.other.shop.svc.cluster.local"],
        ),
        (
            "web.other.svc",
            &["web.other.svc", "web.other.svc.cluster.local", "web.other.svc.svc.cluster.local"],
        ),
        ("pod.web.other", &["pod.web.other", "pod.web.other.svc.cluster.local"]),
        ("pod.web.other.svc", &["pod.web.other.svc", "pod.web.other.svc.cluster.local"]),
        ("a.b.c.example", &["a.b.c.example"]),
        (
            "example.com.cluster.local",
            &[
                "example.com.cluster.local",
                "example.com (from example.com)",
                "example.com.svc.cluster.local (from example.com)",
                "example.com.shop.svc.cluster.local (from example.com)",
            ],
        ),
        (
            "web.shop.svc.cluster.local",
            &[
                "web.shop.svc.cluster.local",
                "web (from web)",
                "web.shop (from web.shop)",
                "web.shop.svc.cluster.local.svc.cluster.local",
            ],
        ),
    ];
    for (requested, want) in &table[..7] {
        assert_eq!(try_for(requested), *want, "{requested}");
    }
    // Each name once, at the first place where it comes up.
    let full = try_for(table[7].0);
    assert_eq!(full[..2], ["web.shop.svc.cluster.local", "web (from web)"]);
    assert!(full.contains(&"web.shop (from web.shop)".to_owned()));
    assert!(full.iter().all(|one| !one.starts_with("web.shop.svc.cluster.local (")), "{full:?}");
    let mut once = full.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), full.len());
}

#[test]
fn only_whole_labels_are_stripped() {
    let search = ["ample.com", "example.com", "."];
    let candidates = names_to_try(&name("www.example.com"), "ns", "cluster.local", search);
    let stripped: Vec<_> = candidates.iter().filter(|one| one.stripped.is_some()).collect();
    assert_eq!(stripped[0].name, "www");
    assert!(stripped.iter().all(|one| one.stripped == Some(name("www"))));
    let itself = names_to_try(&name("example.com"), "ns", "cluster.local", search);
    assert!(itself.iter().all(|one| one.stripped.is_none()), "a proper suffix only");
}

#[test]
fn wildcards_go_from_the_most_specific_on() {
    let all: Vec<_> = wildcards_of("a.b.c").collect();
    assert_eq!(all, ["*.b.c", "*.c"]);
    assert_eq!(wildcards_of("a").count(), 0);
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_read_alike(bytes in proptest::collection::vec(any::<u8>(), 0..80), header in any::<bool>()) {
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let bytes = if header { [&head[..], &bytes].concat() } else { bytes };
        if let Ok(query) = Query::parse(&bytes) {
            prop_assert_eq!(&query.forward(query.id()), &bytes);
            let answer = query.answer(&Answer::known(None, ips(40)), query.udp_bytes_max());
            prop_assert!(answer.len() <= query.udp_bytes_max());
            let reply = query.accept(query.id(), answer).unwrap();
            let _ = reply.addresses(&query);
        }
        let asked = Query::new(&name("a.b"), record_type::A);
        if let Ok(reply) = asked.accept(0x1234, bytes) {
            let _ = reply.addresses(&asked);
            prop_assert!(reply.for_client(&asked, 512).len() <= 512);
        }
    }

    #[test]
    fn what_others_write_is_read(
        labels in proptest::collection::vec("[a-z][a-z0-9]{0,11}", 1..6), kind in 1_u16..70, payload in any::<u16>(), dnssec in any::<bool>(),
    ) {
        let text = labels.join(".") + ".";
        let mut message = Message::new();
        message.set_op_code(OpCode::Query);
        message.add_query(Question::query(OracleName::from_ascii(&text).unwrap(), RecordType::from(kind)));
        let mut edns = OracleEdns::new();
        edns.set_max_payload(payload).set_dnssec_ok(dnssec);
        message.set_edns(edns);
        let query = Query::parse(&message.to_vec().unwrap()).unwrap();
        prop_assert_eq!(query.name().unwrap().as_str(), text.trim_end_matches('.'));
        prop_assert_eq!(query.record_type(), kind);
        // The oracle never says less than 512.
        let said = message.extensions().as_ref().unwrap().max_payload();
        prop_assert_eq!(query.edns().unwrap(), Edns { version: 0, wants_dnssec: dnssec, payload_bytes: said });
    }

    #[test]
    fn an_answer_is_taken_back(count in 0_u16..300) {
        let asked = query("many.example.", RecordType::A);
        let bytes = asked.answer(&Answer::known(Some(name("other.example")), ips(count)), 65_535);
        let found = asked.accept(0x1234, bytes).unwrap().addresses(&asked).unwrap();
        prop_assert_eq!(found.addresses, ips(count));
    }
}

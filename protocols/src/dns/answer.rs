//! An answer of our own.

use std::net::IpAddr;

use super::bounds::{MESSAGE_BYTES_MAX, TTL, UDP_PAYLOAD_BYTES_MIN};
use super::name::Name;
use super::query::Query;
use super::wire::{
    AUTHORITATIVE, CHECKING_DISABLED, HEADER_BYTES, Header, RECURSION_AVAILABLE, RECURSION_DESIRED,
    RESPONSE, TRUNCATED,
};
use super::{CLASS_IN, ResponseCode, record_type};

/// An OPT record without options.
const OPT_BYTES: usize = 11;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// Whether we know it ourselves.
    pub authoritative: bool,
    /// The name that the requested one stands for, when it is another.
    pub alias: Option<Name>,
    /// The addresses, of the family that was asked for, in this order.
    pub addresses: Vec<IpAddr>,
}

impl Answer {
    /// What is known here.
    pub fn known(alias: Option<Name>, addresses: Vec<IpAddr>) -> Answer {
        Answer { code: ResponseCode::NoError, authoritative: true, alias, addresses }
    }

    /// That there is an answer, and nothing in it.
    pub fn empty() -> Answer {
        Answer::known(None, Vec::new())
    }

    /// That there is no answer.
    pub fn refusal(code: ResponseCode) -> Answer {
        Answer { code, authoritative: false, alias: None, addresses: Vec::new() }
    }
}

impl Query {
    /// The message that answers this query in at most `bytes_max`; with as many records as fit, and if these are not
    /// all, it says so.
    pub fn answer(&self, answer: &Answer, bytes_max: usize) -> Vec<u8> {
        debug_assert!(bytes_max >= UDP_PAYLOAD_BYTES_MIN, "a header and a question always fit");
        let bytes_max = bytes_max.min(MESSAGE_BYTES_MAX);
        let reserved = if self.edns().is_some() { OPT_BYTES } else { 0 };
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(self.question());
        let mut records = 0;
        let mut truncated = false;
        // The requested name stands in the question.
        let mut owner = HEADER_BYTES;
        if let Some(alias) = &answer.alias {
            let mut data = Vec::new();
            alias.encode(&mut data);
            if out.len() + RECORD_BYTES + data.len() + reserved <= bytes_max {
                let at = out.len() + RECORD_BYTES;
                push_record(&mut out, owner, record_type::CNAME, &data);
                (owner, records) = (at, 1);
            } else {
                truncated = true;
            }
        }
        for address in &answer.addresses {
            let (ipv4, ipv6);
            let (kind, data): (u16, &[u8]) = match address {
                IpAddr::V4(ip) => {
                    ipv4 = ip.octets();
                    (record_type::A, &ipv4)
                }
                IpAddr::V6(ip) => {
                    ipv6 = ip.octets();
                    (record_type::AAAA, &ipv6)
                }
            };
            if truncated || out.len() + RECORD_BYTES + data.len() + reserved > bytes_max {
                truncated = true;
                break;
            }
            push_record(&mut out, owner, kind, data);
            records += 1;
        }
        self.push_options(&mut out, answer.code);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        self.header(answer, truncated, records).write(&mut header);
        out[..HEADER_BYTES].copy_from_slice(&header);
        out
    }

    fn header(&self, answer: &Answer, truncated: bool, answers: u16) -> Header {
        let flag = |is: bool, bit: u16| if is { bit } else { 0 };
        let echoed = self.flags & (RECURSION_DESIRED | CHECKING_DISABLED);
        Header {
            id: self.id(),
            flags: RESPONSE
                | RECURSION_AVAILABLE
                | echoed
                | flag(answer.authoritative, AUTHORITATIVE)
                | flag(truncated, TRUNCATED)
                | answer.code.number() & 0xf,
            questions: 1,
            answers,
            authorities: 0,
            additional: u16::from(self.edns().is_some()),
        }
    }

    /// Who speaks EDNS is answered in EDNS (RFC 6891 §6.1.1), and told version 0, the highest there is.
    fn push_options(&self, out: &mut Vec<u8>, code: ResponseCode) {
        let Some(edns) = self.edns() else { return };
        let payload = edns.payload_bytes.max(UDP_PAYLOAD_BYTES_MIN as u16);
        let code = u32::from(code.number() >> 4) << 24;
        let dnssec = if edns.wants_dnssec { 1 << 15 } else { 0 };
        out.push(0);
        out.extend_from_slice(&record_type::OPT.to_be_bytes());
        out.extend_from_slice(&payload.to_be_bytes());
        out.extend_from_slice(&(code | dnssec).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }
}

/// A record whose owner is a pointer, without its data.
const RECORD_BYTES: usize = 12;

fn push_record(out: &mut Vec<u8>, owner: usize, kind: u16, data: &[u8]) {
    let owner = u16::try_from(owner).expect("an owner stands in the first few hundred bytes");
    out.extend_from_slice(&(0xc000 | owner).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&(TTL.as_secs() as u32).to_be_bytes());
    let length = u16::try_from(data.len()).expect("a name or an address is short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
}

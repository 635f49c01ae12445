//! What a server says to a question that was forwarded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::bounds::{CNAMES_MAX, MESSAGE_BYTES_MAX};
use super::error::Error;
use super::name::{self, Name};
use super::query::Query;
use super::wire::{
    AUTHORITATIVE, HEADER_BYTES, Header, RECURSION_AVAILABLE, RESPONSE, Record, TRUNCATED,
    operation, record,
};
use super::{Answer, CLASS_IN, ResponseCode, record_type};

/// A server's message that answers the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    message: Vec<u8>,
    code: u8,
    truncated: bool,
}

/// The addresses that a reply tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// How long all of them hold.
    pub ttl: Duration,
}

impl Query {
    /// Takes what a server sent, if it answers this query as it was sent under `id`.
    ///
    /// # Errors
    /// When it does not: it is somebody else's, or a guess of somebody who would like to answer instead.
    pub fn accept(&self, id: u16, message: Vec<u8>) -> Result<Reply, Error> {
        let header = Header::read(&message)?;
        if header.flags & RESPONSE == 0 {
            return Err(Error::Direction);
        }
        if header.id != id || operation(header.flags) != 0 {
            return Err(Error::NotOurs);
        }
        let code = (header.flags & 0xf) as u8;
        match header.questions {
            1 if self.is_asked_in(&message) => {}
            // Who could not read the question may not be able to repeat it.
            0 if code != 0 && header.answers == 0 => {}
            _ => return Err(Error::NotOurs),
        }
        Ok(Reply { code, truncated: header.flags & TRUNCATED != 0, message })
    }

    /// Servers may change the case of a name on the way (RFC 4343), and nothing else.
    fn is_asked_in(&self, message: &[u8]) -> bool {
        let question = message.get(HEADER_BYTES..self.question_end);
        let (name, rest) = self.question().split_at(self.question().len() - 4);
        question.is_some_and(|other| {
            let (other_name, other_rest) = other.split_at(name.len());
            other_name.eq_ignore_ascii_case(name) && other_rest == rest
        })
    }
}

impl Reply {
    /// Whether another server might know better: this one failed, or does not want to.
    pub fn is_refusal(&self) -> bool {
        !matches!(self.code, 0 | 3)
    }

    /// Whether records were left out because they did not fit.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// How it went, as a number.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The message for the client in at most `bytes_max`: as it came, under the client's number, not authoritative, and
    /// from somebody who recurses. What does not fit is left out, all of it.
    pub fn for_client(self, query: &Query, bytes_max: usize) -> Vec<u8> {
        let mut message = self.message;
        if message.len() > bytes_max.min(MESSAGE_BYTES_MAX) {
            let mut empty = query.answer(&Answer::refusal(ResponseCode::NoError), bytes_max);
            empty[2] |= (TRUNCATED >> 8) as u8;
            empty[3] = empty[3] & 0xf0 | self.code;
            return empty;
        }
        message[..2].copy_from_slice(&query.id().to_be_bytes());
        message[2] &= !((AUTHORITATIVE >> 8) as u8);
        message[3] |= RECURSION_AVAILABLE as u8;
        message
    }

    /// The addresses of the name that was asked for, over its aliases.
    ///
    /// # Errors
    /// When the message is malformed.
    pub fn addresses(&self, query: &Query) -> Result<Addresses, Error> {
        let header = Header::read(&self.message)?;
        let mut records = Vec::new();
        let mut at = query.question_end;
        for _ in 0..header.answers {
            let record = record(&self.message, at)?;
            at = record.data.1;
            if record.class == CLASS_IN {
                records.push((name::read(&self.message, record.owner)?.0, record));
            }
        }
        let mut found = Addresses { addresses: Vec::new(), ttl: Duration::MAX };
        let mut owner = query.name().cloned();
        for _ in 0..=CNAMES_MAX {
            let of_owner = || records.iter().filter(|(name, _)| name.is_some() && *name == owner);
            for (_, record) in of_owner().filter(|(_, one)| one.record_type == query.record_type())
            {
                let address = self.address(record).ok_or(Error::Short)?;
                found.add(address, record.ttl);
            }
            let alias = of_owner().find(|(_, one)| one.record_type == record_type::CNAME);
            let Some((_, alias)) = alias.filter(|_| found.addresses.is_empty()) else { break };
            found.hold_for(alias.ttl);
            owner = self.target(alias)?;
        }
        Ok(found)
    }

    fn address(&self, record: &Record) -> Option<IpAddr> {
        let data = &self.message[record.data.0..record.data.1];
        match record.record_type {
            record_type::A => <[u8; 4]>::try_from(data).ok().map(|ip| Ipv4Addr::from(ip).into()),
            _ => <[u8; 16]>::try_from(data).ok().map(|ip| Ipv6Addr::from(ip).into()),
        }
    }

    fn target(&self, alias: &Record) -> Result<Option<Name>, Error> {
        Ok(name::read(&self.message, alias.data.0)?.0)
    }
}

impl Addresses {
    fn add(&mut self, address: IpAddr, ttl: u32) {
        self.addresses.push(address);
        self.hold_for(ttl);
    }

    fn hold_for(&mut self, ttl: u32) {
        self.ttl = self.ttl.min(Duration::from_secs(ttl.into()));
    }
}

//! A client's question.

use super::bounds::{QUERY_BYTES_MAX, UDP_PAYLOAD_BYTES_MAX, UDP_PAYLOAD_BYTES_MIN};
use super::error::{Error, Malformed};
use super::name::{self, Name};
use super::wire::{self, HEADER_BYTES, Header, RESPONSE, record, word};
use super::{Answer, CLASS_IN, ResponseCode, record_type};

/// A question that can be answered or forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// As it came, for whoever it is forwarded to.
    pub(super) message: Box<[u8]>,
    pub(super) flags: u16,
    /// Where the question ends; it begins behind the header.
    pub(super) question_end: usize,
    name: Option<Name>,
    record_type: u16,
    class: u16,
    edns: Option<Edns>,
}

/// What a client says about itself in an OPT record (RFC 6891 §6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The version.
    pub version: u8,
    /// Whether it wants signatures.
    pub wants_dnssec: bool,
    /// What it takes over UDP, in bytes, as it says.
    pub payload_bytes: u16,
}

impl Query {
    /// Reads what a client sent.
    ///
    /// # Errors
    /// [`Malformed`], with what to tell the client, if anything.
    pub fn parse(message: &[u8]) -> Result<Query, Malformed> {
        let Ok(header) = Header::read(message) else {
            return Err(Malformed { error: Error::Short, reply: None });
        };
        let query = match read(message, header) {
            Err(Error::Direction) => {
                return Err(Malformed { error: Error::Direction, reply: None });
            }
            Err(error) => {
                let mut reply = Vec::with_capacity(HEADER_BYTES);
                let flags =
                    RESPONSE | header.flags & (0xf << 11) | header.flags & wire::RECURSION_DESIRED;
                let id = header.id;
                let (questions, answers, authorities, additional) = (0, 0, 0, 0);
                let flags = flags | error.code().number();
                Header { id, flags, questions, answers, authorities, additional }.write(&mut reply);
                return Err(Malformed { error, reply: Some(reply) });
            }
            Ok(query) => query,
        };
        match query.edns {
            Some(Edns { version, .. }) if version > 0 => {
                let reply =
                    query.answer(&Answer::refusal(ResponseCode::BadVersion), query.udp_bytes_max());
                Err(Malformed { error: Error::Version(version), reply: Some(reply) })
            }
            _ => Ok(query),
        }
    }

    /// The question of this name and type, as a resolver of our own asks it.
    pub fn new(name: &Name, record_type: u16) -> Query {
        let mut message = Vec::with_capacity(HEADER_BYTES + name.as_str().len() + 6);
        let flags = wire::RECURSION_DESIRED;
        let (id, questions, answers, authorities, additional) = (0, 1, 0, 0, 0);
        Header { id, flags, questions, answers, authorities, additional }.write(&mut message);
        name.encode(&mut message);
        message.extend_from_slice(&record_type.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        Query {
            question_end: message.len(),
            message: message.into_boxed_slice(),
            flags,
            name: Some(name.clone()),
            record_type,
            class: CLASS_IN,
            edns: None,
        }
    }

    /// The number by which the client knows the answer.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    /// Whose records are asked for; `None` when no host can have this name.
    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Which records are asked for.
    pub fn record_type(&self) -> u16 {
        self.record_type
    }

    /// Whether it asks for addresses of the internet.
    pub fn is_for_addresses(&self) -> bool {
        self.class == CLASS_IN && matches!(self.record_type, record_type::A | record_type::AAAA)
    }

    /// What the client says about itself.
    pub fn edns(&self) -> Option<Edns> {
        self.edns
    }

    /// The longest answer the client takes over UDP.
    pub fn udp_bytes_max(&self) -> usize {
        let said = self.edns.map_or(0, |edns| usize::from(edns.payload_bytes));
        said.clamp(UDP_PAYLOAD_BYTES_MIN, UDP_PAYLOAD_BYTES_MAX)
    }

    /// The message for a server, under a number of our own.
    pub fn forward(&self, id: u16) -> Vec<u8> {
        let mut message = self.message.to_vec();
        message[..2].copy_from_slice(&id.to_be_bytes());
        message
    }

    /// The question as it stands in the message: name, type, class.
    pub(super) fn question(&self) -> &[u8] {
        &self.message[HEADER_BYTES..self.question_end]
    }
}

fn read(message: &[u8], header: Header) -> Result<Query, Error> {
    if header.flags & RESPONSE != 0 {
        return Err(Error::Direction);
    }
    if message.len() > QUERY_BYTES_MAX {
        return Err(Error::Long);
    }
    match wire::operation(header.flags) {
        0 => {}
        other => return Err(Error::Operation(other)),
    }
    if header.questions != 1 {
        return Err(Error::Questions(header.questions));
    }
    let (name, at) = name::read(message, HEADER_BYTES)?;
    let (record_type, class) = (word(message, at)?, word(message, at + 2)?);
    let question_end = at + 4;
    let mut edns = None;
    let mut at = question_end;
    let before = u32::from(header.answers) + u32::from(header.authorities);
    for index in 0..before + u32::from(header.additional) {
        let record = record(message, at)?;
        if record.record_type == record_type::OPT {
            let at_root = message[record.owner] == 0;
            if index < before || !at_root || edns.is_some() {
                return Err(Error::Options);
            }
            edns = Some(Edns {
                version: (record.ttl >> 16) as u8,
                wants_dnssec: record.ttl & 1 << 15 != 0,
                payload_bytes: record.class,
            });
        }
        at = record.data.1;
    }
    let (message, flags) = (message.into(), header.flags);
    Ok(Query { message, flags, question_end, name, record_type, class, edns })
}

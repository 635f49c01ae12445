//! The CONNECT request that opens a tunnel stream, and its answer.

use super::baggage::ascii;
use super::fields::{self, FieldError, MalformedRequest};
use super::{Authority, AuthorityError, Baggage, Forwarded, Traceparent};
use crate::hbone::hpack::{Encoder, FIELD_OVERHEAD_BYTES, Remember};

/// A request for a tunnel.
///
/// Only the authority decides anything. The other headers are optional, are for telemetry, and are
/// `None` where the peer sent nothing of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// `:authority`: where the tunnel leads.
    pub authority: Authority,
    /// `baggage`: who the client says it is. Written even when empty, as ztunnel does.
    pub baggage: Option<Baggage>,
    /// `forwarded`: whose connection this is.
    pub forwarded: Option<Forwarded>,
    /// `traceparent`: the trace it belongs to.
    pub traceparent: Option<Traceparent>,
    /// `x-forwarded-network`: the client's network, when it comes through a gateway.
    pub x_forwarded_network: Option<Box<str>>,
}

impl ConnectRequest {
    /// A request with the authority alone, which is a valid one.
    pub fn to(authority: Authority) -> Self {
        Self {
            authority,
            baggage: None,
            forwarded: None,
            traceparent: None,
            x_forwarded_network: None,
        }
    }

    /// What the request counts against a peer's SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
    pub(crate) fn header_list_bytes(&self) -> usize {
        let mut bytes = 0;
        self.each_field(|name, value, _| bytes += name.len() + value.len() + FIELD_OVERHEAD_BYTES);
        bytes
    }

    /// Appends the header block.
    pub(crate) fn encode(&self, encoder: &mut Encoder, block: &mut Vec<u8>) {
        encoder.begin(block);
        self.each_field(|name, value, remember| {
            encoder.field(name.as_bytes(), value.as_bytes(), remember, block)
        });
    }

    fn each_field(&self, mut field: impl FnMut(&str, &str, Remember)) {
        field(":method", "CONNECT", Remember::Yes);
        field(":authority", &self.authority.to_string(), Remember::No);
        if let Some(baggage) = &self.baggage {
            // The source of a tunnel is one workload, so this is the same on all its streams.
            field("baggage", &baggage.to_string(), Remember::Yes);
        }
        if let Some(forwarded) = &self.forwarded {
            field("forwarded", &forwarded.to_string(), Remember::No);
        }
        if let Some(traceparent) = &self.traceparent {
            field("traceparent", &traceparent.to_string(), Remember::No);
        }
        if let Some(network) =
            self.x_forwarded_network.as_deref().filter(|network| travels(network))
        {
            field("x-forwarded-network", network, Remember::Yes);
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// `:status`: the tunnel is open if this is 200.
    pub status: u16,
    /// `baggage`: who the server says it is.
    pub baggage: Option<Baggage>,
}

impl ConnectResponse {
    /// An answer with the status alone.
    pub fn status(status: u16) -> Self {
        Self { status, baggage: None }
    }

    /// Whether the tunnel is open: any 2xx answer to CONNECT means that (RFC 9110 §9.3.6).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Appends the header block.
    pub(crate) fn encode(&self, encoder: &mut Encoder, block: &mut Vec<u8>) {
        encoder.begin(block);
        let status = self.status.clamp(100, 599);
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        encoder.field(b":status", &digits, Remember::Yes, block);
        if let Some(baggage) = &self.baggage {
            encoder.field(b"baggage", baggage.to_string().as_bytes(), Remember::Yes, block);
        }
    }
}

/// Text that a header can carry as it is.
fn travels(text: &str) -> bool {
    !text.is_empty()
        && ascii(text.as_bytes()).is_some_and(|text| super::baggage::trim(text).len() == text.len())
}

/// Takes the fields of a request one by one.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    method: Option<Method>,
    authority: Option<Result<Authority, AuthorityError>>,
    scheme: bool,
    path: bool,
    fields_seen: bool,
    baggage: Option<Baggage>,
    baggage_ignored: bool,
    forwarded: Option<Forwarded>,
    traceparent: Option<Traceparent>,
    traceparent_seen: bool,
    x_forwarded_network: Option<Box<str>>,
    malformed: Option<FieldError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Connect,
    Other,
}

impl RequestReader {
    /// Takes one field.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.malformed.is_none() {
            self.malformed = self.take(name, value).err();
        }
    }

    /// The request, when the block has ended.
    pub(crate) fn finish(self) -> Result<ConnectRequest, MalformedRequest> {
        if let Some(error) = self.malformed {
            return Err(MalformedRequest::Field(error));
        }
        match self.method {
            None => return Err(MalformedRequest::Field(FieldError::PseudoMissing)),
            Some(Method::Connect) if self.scheme || self.path => {
                return Err(MalformedRequest::Field(FieldError::ConnectWithPath));
            }
            Some(Method::Other) if !self.scheme || !self.path => {
                return Err(MalformedRequest::Field(FieldError::PseudoMissing));
            }
            Some(Method::Other) => return Err(MalformedRequest::MethodNotConnect),
            Some(Method::Connect) => {}
        }
        Ok(ConnectRequest {
            authority: self
                .authority
                .ok_or(MalformedRequest::AuthorityMissing)?
                .map_err(MalformedRequest::AuthorityInvalid)?,
            baggage: self.baggage.filter(|_| !self.baggage_ignored),
            forwarded: self.forwarded,
            traceparent: self.traceparent,
            x_forwarded_network: self.x_forwarded_network,
        })
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        fields::check(name, value)?;
        if name.starts_with(b":") {
            return self.take_pseudo(name, value);
        }
        self.fields_seen = true;
        match name {
            b"baggage" => {
                self.baggage_ignored |= !self.baggage.get_or_insert_default().add_line(value);
            }
            b"forwarded" if self.forwarded.is_none() => {
                self.forwarded = Some(Forwarded::parse(value))
            }
            b"traceparent" if !self.traceparent_seen => {
                self.traceparent_seen = true;
                self.traceparent = Traceparent::parse(value);
            }
            b"x-forwarded-network" if self.x_forwarded_network.is_none() => {
                self.x_forwarded_network = ascii(value).map(Into::into);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        if self.fields_seen {
            return Err(FieldError::PseudoAfterField);
        }
        let repeated = match name {
            b":method" => {
                let method = if value == b"CONNECT" { Method::Connect } else { Method::Other };
                self.method.replace(method).is_some()
            }
            b":authority" => self.authority.replace(read_authority(value)).is_some(),
            b":scheme" => std::mem::replace(&mut self.scheme, true),
            b":path" if value.is_empty() => return Err(FieldError::PseudoInvalid),
            b":path" => std::mem::replace(&mut self.path, true),
            // `:protocol` is among them: we do not announce extended CONNECT (RFC 8441 §4).
            _ => return Err(FieldError::PseudoUnknown),
        };
        if repeated { Err(FieldError::PseudoRepeated) } else { Ok(()) }
    }
}

fn read_authority(value: &[u8]) -> Result<Authority, AuthorityError> {
    Authority::parse(std::str::from_utf8(value).map_err(|_| AuthorityError::HostInvalid)?)
}

/// Takes the fields of a response one by one.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    status: Option<u16>,
    fields_seen: bool,
    baggage: Option<Baggage>,
    baggage_ignored: bool,
    malformed: Option<FieldError>,
}

impl ResponseReader {
    /// Takes one field.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.malformed.is_none() {
            self.malformed = self.take(name, value).err();
        }
    }

    /// The response, when the block has ended. A status below 200 is an informational one.
    pub(crate) fn finish(self) -> Result<ConnectResponse, FieldError> {
        match (self.malformed, self.status) {
            (Some(error), _) => Err(error),
            (None, None) => Err(FieldError::PseudoMissing),
            (None, Some(status)) => Ok(ConnectResponse {
                status,
                baggage: self.baggage.filter(|_| !self.baggage_ignored),
            }),
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        fields::check(name, value)?;
        match name {
            b":status" if self.fields_seen => Err(FieldError::PseudoAfterField),
            b":status" => {
                // 101 does not exist in HTTP/2 (RFC 9113 §8.6).
                let status = read_status(value)
                    .filter(|&status| status != 101)
                    .ok_or(FieldError::PseudoInvalid)?;
                if self.status.replace(status).is_some() {
                    Err(FieldError::PseudoRepeated)
                } else {
                    Ok(())
                }
            }
            name if name.starts_with(b":") => Err(FieldError::PseudoUnknown),
            name => {
                self.fields_seen = true;
                if name == b"baggage" {
                    self.baggage_ignored |= !self.baggage.get_or_insert_default().add_line(value);
                }
                Ok(())
            }
        }
    }
}

fn read_status(value: &[u8]) -> Option<u16> {
    let &[a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else { return None };
    Some([a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

/// Checks the fields of trailers, of which nothing is kept.
pub(crate) fn check_trailer(name: &[u8], value: &[u8]) -> Result<(), FieldError> {
    fields::check(name, value)?;
    if name.starts_with(b":") { Err(FieldError::PseudoUnknown) } else { Ok(()) }
}

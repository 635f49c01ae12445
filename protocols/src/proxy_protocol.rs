//! The PROXY protocol, version 2: one header before the first byte that tells an application whose
//! connection it is.
//!
//! Written to applications that ask for it, with the client's SPIFFE identity as TLV 0xD0 and the hostname
//! of the service that it called as TLV 0xD1. The reader is for tests: nothing we receive begins with such
//! a header.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// Version 2, command LOCAL: the proxy's own connection, without addresses.
const LOCAL: u8 = 0x20;
const STREAM_IPV4: u8 = 0x11;
const STREAM_IPV6: u8 = 0x21;
/// A stream between addresses that no family describes.
const STREAM_UNSPECIFIED: u8 = 0x01;
/// The type of the TLV that holds the source's SPIFFE identity, as a URI.
pub const TLV_IDENTITY: u8 = 0xd0;
/// The type of the TLV that holds the hostname of the service that was called.
pub const TLV_SERVICE: u8 = 0xd1;
/// No header of ours is near this, and no reader should wait for more.
pub const HEADER_BYTES_MAX: usize = 4096;
/// A SPIFFE id has at most 2048 bytes; what is longer is none and is left out.
const IDENTITY_BYTES_MAX: usize = 2048;
/// A hostname has at most 253; what is longer is none and is left out.
const SERVICE_BYTES_MAX: usize = 253;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The connection's two ends, if they are of one family.
    pub addresses: Option<Addresses>,
    /// The identity of the source, as a URI.
    pub identity: Option<Box<str>>,
    /// The hostname of the service that was called.
    pub service: Option<Box<str>>,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who connected.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
}

/// Appends a header. Ends of two families are written as "unspecified", as the protocol asks.
pub fn encode(
    source: SocketAddr,
    destination: SocketAddr,
    identity: Option<&str>,
    service: Option<&str>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(SIGNATURE);
    out.push(PROXY);
    let family_at = out.len();
    out.extend_from_slice(&[STREAM_UNSPECIFIED, 0, 0]);
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out[family_at] = STREAM_IPV4;
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            out[family_at] = STREAM_IPV6;
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        _ => {}
    }
    if out[family_at] != STREAM_UNSPECIFIED {
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
    }
    let tlvs =
        [(TLV_IDENTITY, identity, IDENTITY_BYTES_MAX), (TLV_SERVICE, service, SERVICE_BYTES_MAX)];
    for (kind, value, bytes_max) in tlvs {
        if let Some(value) = value.filter(|value| value.len() <= bytes_max) {
            out.push(kind);
            out.extend_from_slice(&(value.len() as u16).to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    }
    let length = (out.len() - family_at - 3) as u16;
    out[family_at + 1..family_at + 3].copy_from_slice(&length.to_be_bytes());
}

/// Reads a header from the front of `bytes`. `None` means that more bytes are needed; otherwise the
/// header comes with its length.
///
/// # Errors
/// [`Error`] as soon as the bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(Error::SignatureMissing);
    }
    let Some((&[.., command, family, length_high, length_low], rest)) =
        bytes.split_first_chunk::<FIXED_BYTES>()
    else {
        return Ok(None);
    };
    if command != PROXY && command != LOCAL {
        return Err(Error::CommandUnknown);
    }
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let (addresses, tlvs) = parse_addresses(family, body)?;
    let (identity, service) = parse_tlvs(tlvs)?;
    let header = Header { addresses: addresses.filter(|_| command == PROXY), identity, service };
    Ok(Some((header, FIXED_BYTES + length)))
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// They do not begin as every header does.
    SignatureMissing,
    /// Another version, or a command that does not exist.
    CommandUnknown,
    /// A family or transport that does not exist, or is not a stream of bytes.
    FamilyUnknown,
    /// The length is beyond reason.
    TooLong,
    /// The addresses or a TLV do not fit the length.
    LengthMismatch,
    /// The identity is given twice, or is not ASCII.
    IdentityInvalid,
    /// The service is given twice, or is not ASCII.
    ServiceInvalid,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SignatureMissing => "the connection does not begin with a PROXY v2 header",
            Self::CommandUnknown => "the PROXY header has an unknown version or command",
            Self::FamilyUnknown => "the PROXY header has an unknown address family",
            Self::TooLong => "the PROXY header is too long",
            Self::LengthMismatch => "the PROXY header's parts do not fit its length",
            Self::IdentityInvalid => "the PROXY header's identity is invalid",
            Self::ServiceInvalid => "the PROXY header's service is invalid",
        })
    }
}

impl std::error::Error for Error {}

fn parse_addresses(family: u8, body: &[u8]) -> Result<(Option<Addresses>, &[u8]), Error> {
    let (source, destination, rest) = match family {
        // "The receiver MUST ignore" what stands there for other families.
        0x00 | STREAM_UNSPECIFIED => return Ok((None, body)),
        STREAM_IPV4 => {
            let (ends, rest) = body.split_first_chunk::<8>().ok_or(Error::LengthMismatch)?;
            let [a, b, c, d, e, f, g, h] = *ends;
            (Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), rest)
        }
        STREAM_IPV6 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(Error::LengthMismatch)?;
            let (destination, rest) = rest.split_first_chunk().ok_or(Error::LengthMismatch)?;
            (Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), rest)
        }
        _ => return Err(Error::FamilyUnknown),
    };
    let (&[a, b, c, d], rest) = rest.split_first_chunk().ok_or(Error::LengthMismatch)?;
    let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let (source, destination): (IpAddr, IpAddr) = (source, destination);
    let source = SocketAddr::new(source, source_port);
    let destination = SocketAddr::new(destination, destination_port);
    Ok((Some(Addresses { source, destination }), rest))
}

/// The identity and the service.
type Tlvs = (Option<Box<str>>, Option<Box<str>>);

fn parse_tlvs(mut tlvs: &[u8]) -> Result<Tlvs, Error> {
    let (mut identity, mut service) = (None, None);
    while !tlvs.is_empty() {
        let (&[kind, high, low], rest) = tlvs.split_first_chunk().ok_or(Error::LengthMismatch)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Error::LengthMismatch)?;
        tlvs = rest;
        let (kept, invalid) = match kind {
            TLV_IDENTITY => (&mut identity, Error::IdentityInvalid),
            TLV_SERVICE => (&mut service, Error::ServiceInvalid),
            _ => continue,
        };
        let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or(invalid)?;
        if kept.replace(text.into()).is_some() {
            return Err(invalid);
        }
    }
    Ok((identity, service))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(source: &str, destination: &str, identity: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(source.parse().unwrap(), destination.parse().unwrap(), identity, None, &mut out);
        out
    }

    #[test]
    fn writes_the_bytes_of_the_specification() {
        let identity = "spiffe://td/ns/a/sa/b";
        let got = header("10.0.0.1:4660", "10.0.0.2:80", Some(identity));
        let mut want = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        want.extend_from_slice(&[0, 12 + 3 + 21]);
        want.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80, 0xd0, 0, 21]);
        want.extend_from_slice(identity.as_bytes());
        assert_eq!(got, want);

        let mut got = Vec::new();
        let ends = ("10.0.0.1:4660".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        encode(ends.0, ends.1, None, Some("web.example"), &mut got);
        assert_eq!(got[14..16], [0, 12 + 3 + 11]);
        assert_eq!(got[28..], *b"\xd1\0\x0bweb.example");

        let got = header("[2001:db8::1]:1", "[2001:db8::2]:2", None);
        assert_eq!(got[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(got.len(), 16 + 36);

        let got = header("10.0.0.1:1", "[2001:db8::2]:2", None);
        assert_eq!(got[12..], [0x21, 0x01, 0, 0], "two families have no common form");

        let got = header("[::ffff:10.0.0.1]:1", "10.0.0.2:2", None);
        assert_eq!(got[13], 0x11, "an IPv4 address in IPv6 clothes is an IPv4 address");
    }

    #[test]
    fn refuses_what_is_no_header() {
        let good = header("10.0.0.1:1", "10.0.0.2:2", Some("spiffe://x"));
        let changed = |at: usize, to: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            bytes
        };
        let doubled = {
            let mut bytes = good.clone();
            bytes.extend_from_slice(&[0xd0, 0, 0]);
            bytes[15] += 3;
            bytes
        };
        #[rustfmt::skip]
        let rows: Vec<(&str, Vec<u8>, Error)> = vec![
            ("HTTP",                     b"GET / HTTP/1.1\r\n".to_vec(), Error::SignatureMissing),
            ("version 1",                b"PROXY TCP4 ".to_vec(),        Error::SignatureMissing),
            ("another version",          changed(12, &[0x31]),           Error::CommandUnknown),
            ("another command",          changed(12, &[0x22]),           Error::CommandUnknown),
            ("datagrams",                changed(13, &[0x12]),           Error::FamilyUnknown),
            ("a Unix socket",            changed(13, &[0x31]),           Error::FamilyUnknown),
            ("too long",                 changed(14, &[0x10]),           Error::TooLong),
            ("addresses cut",            changed(14, &[0, 11]),          Error::LengthMismatch),
            ("a TLV head cut",           changed(14, &[0, 14]),          Error::LengthMismatch),
            ("a TLV cut",                changed(14, &[0, 24]),          Error::LengthMismatch),
            ("a TLV beyond the header",  changed(29, &[0, 11]),          Error::LengthMismatch),
            ("an identity not in ASCII", changed(31, &[0xff]),           Error::IdentityInvalid),
            ("two identities",           doubled,                        Error::IdentityInvalid),
        ];
        for (name, bytes, want) in rows {
            assert_eq!(parse(&bytes), Err(want), "{name}");
        }
    }

    #[test]
    fn a_local_header_has_no_addresses() {
        let mut bytes = header("10.0.0.1:1", "10.0.0.2:2", None);
        bytes[12] = LOCAL;
        let header = Header { addresses: None, identity: None, service: None };
        assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            source in any::<(IpAddr, u16)>(), destination in any::<(IpAddr, u16)>(),
            identity in proptest::option::of("spiffe://[ -~]{0,40}"),
            service in proptest::option::of("[a-z.]{0,60}"), rest in any::<Vec<u8>>(),
        ) {
            let (source, destination) = (SocketAddr::from(source), SocketAddr::from(destination));
            let mut bytes = Vec::new();
            encode(source, destination, identity.as_deref(), service.as_deref(), &mut bytes);
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Ok(None), "a part is not a header yet");
            }
            let length = bytes.len();
            bytes.extend(rest);
            let canonical =
                |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let (source, destination) = (canonical(source), canonical(destination));
            let one_family = source.is_ipv4() == destination.is_ipv4();
            let addresses = one_family.then_some(Addresses { source, destination });
            let (identity, service) = (identity.map(Into::into), service.map(Into::into));
            let header = Header { addresses, identity, service };
            prop_assert_eq!(parse(&bytes), Ok(Some((header, length))));
        }

        #[test]
        fn any_bytes_are_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), signed: bool) {
            if signed {
                bytes.splice(0..0, SIGNATURE.iter().copied().chain([PROXY]));
            }
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}

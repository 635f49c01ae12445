//! SOCKS5 (RFC 1928), the side that is asked: CONNECT without authentication, and nothing else.
//!
//! ```text
//! client  05 n methods…                             05 01 00 type address port
//! we                     05 00 (or 05 FF, and close)                            05 reply 00 01 0.0.0.0 0
//! ```
//!
//! Every function says exactly how many bytes are needed next, so that nobody reads a byte of what follows.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// The longest request: a name of 255 bytes. A greeting is shorter.
pub const MESSAGE_BYTES_MAX: usize = 4 + 1 + 255 + 2;

/// What a client wants to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name, to be resolved here.
    Name {
        /// In lower case, without a trailing dot.
        host: Box<str>,
        /// The port.
        port: u16,
    },
}

/// What a message's bytes come to so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// So many more are needed, and are this message's.
    Needs(usize),
    /// All of them are the message.
    Whole(T),
}

/// What a client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// It is connected.
    Succeeded = 0,
    /// It is not, for any other reason.
    GeneralFailure = 1,
    /// It is not allowed to be.
    NotAllowed = 2,
    /// The network cannot be reached.
    NetworkUnreachable = 3,
    /// The host cannot be reached, or is not known.
    HostUnreachable = 4,
    /// The host refused.
    ConnectionRefused = 5,
    /// Only CONNECT is understood.
    CommandNotSupported = 7,
    /// Not an address, nor a name.
    AddressTypeNotSupported = 8,
}

/// Why a message cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Another version of SOCKS, or another protocol.
    NotSocks5,
    /// The client wants to be authenticated.
    NoMethod,
    /// BIND or UDP ASSOCIATE, or nothing that exists.
    CommandUnknown,
    /// An address of a type that does not exist.
    AddressTypeUnknown,
    /// A name that none can be: empty, or not of printable ASCII.
    NameInvalid,
}

impl Error {
    /// What to send before closing; nothing where the client does not speak the protocol.
    pub fn answer(self) -> Vec<u8> {
        match self {
            Self::NotSocks5 => Vec::new(),
            Self::NoMethod => vec![VERSION, NONE_ACCEPTABLE],
            Self::CommandUnknown => Reply::CommandNotSupported.encode().to_vec(),
            Self::AddressTypeUnknown => Reply::AddressTypeNotSupported.encode().to_vec(),
            Self::NameInvalid => Reply::GeneralFailure.encode().to_vec(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSocks5 => "the client does not speak SOCKS5",
            Self::NoMethod => "the client does not offer to go without authentication",
            Self::CommandUnknown => "the client asks for something else than CONNECT",
            Self::AddressTypeUnknown => "the client asks for an address of an unknown type",
            Self::NameInvalid => "the client asks for a name that none can be",
        })
    }
}

impl std::error::Error for Error {}

/// What a greeting is answered, once it is whole and can be served.
pub const GREETING_ANSWER: [u8; 2] = [VERSION, NO_AUTHENTICATION];

/// Reads a greeting.
///
/// # Errors
/// [`Error`] as soon as it cannot become one that is served.
pub fn greeting(bytes: &[u8]) -> Result<Parsed<()>, Error> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(Error::NotSocks5);
    }
    let &[_, count, ref methods @ ..] = bytes else { return Ok(Parsed::Needs(2 - bytes.len())) };
    match usize::from(count).checked_sub(methods.len()) {
        Some(0) if methods.contains(&NO_AUTHENTICATION) => Ok(Parsed::Whole(())),
        Some(0) | None => Err(Error::NoMethod),
        Some(missing) => Ok(Parsed::Needs(missing)),
    }
}

/// Reads a request.
///
/// # Errors
/// [`Error`] as soon as it cannot become one that is served.
pub fn request(bytes: &[u8]) -> Result<Parsed<Target>, Error> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(Error::NotSocks5);
    }
    let &[_, command, _reserved, kind, ref rest @ ..] = bytes else {
        return Ok(Parsed::Needs(4 - bytes.len()));
    };
    if command != CONNECT {
        return Err(Error::CommandUnknown);
    }
    let body_bytes = match (kind, rest.first()) {
        (IPV4, _) => 4,
        (IPV6, _) => 16,
        (DOMAIN, Some(length)) => 1 + usize::from(*length),
        (DOMAIN, None) => return Ok(Parsed::Needs(1)),
        _ => return Err(Error::AddressTypeUnknown),
    };
    let Some((body, &[high, low])) = rest
        .split_at_checked(body_bytes)
        .and_then(|(body, port)| Some((body, port.first_chunk::<2>()?)))
    else {
        return Ok(Parsed::Needs(body_bytes + 2 - rest.len()));
    };
    let port = u16::from_be_bytes([high, low]);
    const OF_ITS_LENGTH: &str = "the body is as long as an address of its type";
    let ip: IpAddr = match kind {
        DOMAIN => return name(&body[1..], port).map(Parsed::Whole),
        IPV4 => <[u8; 4]>::try_from(body).expect(OF_ITS_LENGTH).into(),
        _ => <[u8; 16]>::try_from(body).expect(OF_ITS_LENGTH).into(),
    };
    Ok(Parsed::Whole(Target::Address(SocketAddr::new(ip.to_canonical(), port))))
}

/// A name; or an address that came as text.
fn name(text: &[u8], port: u16) -> Result<Target, Error> {
    let is_printable = text.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(text).ok().filter(|_| is_printable).ok_or(Error::NameInvalid)?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Target::Address(SocketAddr::new(ip.to_canonical(), port)));
    }
    match text.strip_suffix('.').unwrap_or(text) {
        "" => Err(Error::NameInvalid),
        host => Ok(Target::Name { host: host.to_ascii_lowercase().into(), port }),
    }
}

impl Reply {
    /// The message. The address bound to is never told: it is inside a tunnel.
    pub fn encode(self) -> [u8; 10] {
        [VERSION, self as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn connect(kind: u8, address: &[u8]) -> Vec<u8> {
        [&[5, 1, 0, kind], address, &[0x1f, 0x90]].concat()
    }

    fn named(host: &str) -> Vec<u8> {
        connect(DOMAIN, &[&[host.len() as u8], host.as_bytes()].concat())
    }

    #[test]
    fn requests() {
        let address = |text: &str| Target::Address(text.parse().unwrap());
        let name = |host: &str| Target::Name { host: host.into(), port: 8080 };
        let mapped = "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets();
        #[rustfmt::skip]
        let rows: Vec<(&str, Vec<u8>, Result<Target, Error>)> = vec![
            ("IPv4",                 connect(IPV4, &[10, 0, 0, 1]),   Ok(address("10.0.0.1:8080"))),
            ("IPv6",                 connect(IPV6, &[0xfd; 16]),
                Ok(Target::Address(SocketAddr::new(Ipv6Addr::from([0xfd; 16]).into(), 8080)))),
            ("mapped",               connect(IPV6, &mapped),          Ok(address("10.0.0.1:8080"))),
            ("a name",               named("web.shop"),               Ok(name("web.shop"))),
            ("of three bytes",       named("web"),                    Ok(name("web"))),
            ("of fifteen bytes",     named("web.shop.exampl"),        Ok(name("web.shop.exampl"))),
            ("in capitals",          named("WEB.Shop."),              Ok(name("web.shop"))),
            ("an address as text",   named("10.0.0.1"),               Ok(address("10.0.0.1:8080"))),
            ("no name",              named(""),                       Err(Error::NameInvalid)),
            ("a dot",                named("."),                      Err(Error::NameInvalid)),
            ("a space",              named("web shop"),               Err(Error::NameInvalid)),
            ("not ASCII",            named("wéb"),                    Err(Error::NameInvalid)),
            ("BIND",                 vec![5, 2, 0, 1],                Err(Error::CommandUnknown)),
            ("UDP ASSOCIATE",        vec![5, 3, 0, 1],                Err(Error::CommandUnknown)),
            ("another type",         vec![5, 1, 0, 2],                Err(Error::AddressTypeUnknown)),
            ("version 4",            vec![4],                         Err(Error::NotSocks5)),
            ("HTTP",                 b"GET / HTTP/1.1\r\n".to_vec(),  Err(Error::NotSocks5)),
        ];
        for (name, bytes, want) in rows {
            assert_eq!(read_exactly(&bytes, request).map(|(target, _)| target), want, "{name}");
        }
    }

    #[test]
    fn greetings() {
        let rows: [(&str, &[u8], Result<(), Error>); 6] = [
            ("no authentication", &[5, 1, 0], Ok(())),
            ("among others", &[5, 3, 2, 0, 1], Ok(())),
            ("only a password", &[5, 1, 2], Err(Error::NoMethod)),
            ("nothing", &[5, 0], Err(Error::NoMethod)),
            ("version 4", &[4], Err(Error::NotSocks5)),
            ("TLS", &[22, 3, 1], Err(Error::NotSocks5)),
        ];
        for (name, bytes, want) in rows {
            assert_eq!(read_exactly(bytes, greeting).map(|_| ()), want, "{name}");
        }
    }

    #[test]
    fn answers() {
        assert_eq!(GREETING_ANSWER, [5, 0]);
        assert_eq!(Reply::Succeeded.encode(), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Error::NoMethod.answer(), [5, 0xff]);
        assert_eq!(Error::CommandUnknown.answer()[1], 7);
        assert_eq!(Error::AddressTypeUnknown.answer()[1], 8);
        assert!(Error::NotSocks5.answer().is_empty(), "it would not be understood");
    }

    /// Reads as the engine does, never more than is asked for; tells how much that was.
    fn read_exactly<T>(
        bytes: &[u8],
        parse: impl Fn(&[u8]) -> Result<Parsed<T>, Error>,
    ) -> Result<(T, usize), Error> {
        let mut read = 0;
        loop {
            match parse(&bytes[..read.min(bytes.len())])? {
                Parsed::Whole(message) => return Ok((message, read)),
                Parsed::Needs(more) => {
                    assert!(more > 0);
                    read += more;
                }
            }
            assert!(read <= MESSAGE_BYTES_MAX);
        }
    }

    proptest! {
        #[test]
        fn nothing_behind_a_request_is_read(host in "[a-z.]{0,100}[a-z]", rest in any::<Vec<u8>>()) {
            let message = named(&host);
            let bytes = [&*message, &rest].concat();
            let (target, read) = read_exactly(&bytes, request).unwrap();
            prop_assert_eq!(read, message.len());
            prop_assert_eq!(target, Target::Name { host: host.into(), port: 8080 });
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), ours: bool) {
            let bytes = if ours { [&[5, 1, 0], &*bytes].concat() } else { bytes };
            let _ = (greeting(&bytes), request(&bytes));
        }
    }
}

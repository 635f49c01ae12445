//! The target of a CONNECT: `address:port` or `hostname:port`.
//!
//! Which connection reaches which application hangs on this text, so there is one parser and it is
//! strict: what it accepts, [`fmt::Display`] prints again byte for byte. Whatever two readers could
//! read differently (leading zeros, zones, user information, IPv4 inside IPv6, capital letters, a
//! trailing dot, …) is refused instead of repaired.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The longest host name in its text form (RFC 1035 §2.3.4, without the trailing dot).
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// A socket address, which must be one of the destination's own.
    Address(SocketAddr),
    /// A service's host name and port, for the destination to resolve. Made by
    /// [`Authority::hostname`].
    Hostname {
        /// Lower case, without a trailing dot.
        host: Box<str>,
        /// Never zero.
        port: u16,
    },
}

impl Authority {
    /// Reads the value of `:authority`.
    ///
    /// # Errors
    /// [`AuthorityError`] for everything that is not in canonical form.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.is_empty() {
            return Err(AuthorityError::Empty);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::address(address, text);
        }
        if text.starts_with('[') {
            return Err(AuthorityError::AddressInvalid);
        }
        let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::PortMissing)?;
        Self::hostname(host, parse_port(port)?)
    }

    /// A host name and port.
    ///
    /// # Errors
    /// [`AuthorityError`] when the name is not canonical, or could be taken for an address.
    pub fn hostname(host: &str, port: u16) -> Result<Self, AuthorityError> {
        if port == 0 {
            return Err(AuthorityError::PortInvalid);
        }
        check_host(host)?;
        Ok(Self::Hostname { host: host.into(), port })
    }

    /// The port, in either form.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Hostname { port, .. } => *port,
        }
    }

    fn address(address: SocketAddr, text: &str) -> Result<Self, AuthorityError> {
        if address.port() == 0 {
            return Err(AuthorityError::PortInvalid);
        }
        // An IPv4 address in IPv6 clothes is the same destination under another name, and a zone
        // means something on the sender's host only.
        if let SocketAddr::V6(v6) = address
            && (v6.ip().to_ipv4_mapped().is_some() || v6.scope_id() != 0)
        {
            return Err(AuthorityError::AddressInvalid);
        }
        // Catches leading zeros, capital letters and every other spelling of the same address.
        if !displays_as(&address, text) {
            return Err(AuthorityError::NotCanonical);
        }
        Ok(Self::Address(address))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why an `:authority` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityError {
    /// There is nothing.
    Empty,
    /// There is no port.
    PortMissing,
    /// The port is not a number from 1 to 65535 without leading zeros.
    PortInvalid,
    /// It looks like an address and is none, or is an IPv4 address written as IPv6.
    AddressInvalid,
    /// An address in another spelling than its own.
    NotCanonical,
    /// The host is not a lower-case ASCII host name.
    HostInvalid,
    /// The host ends like a number, so some would read it as an address.
    HostLooksLikeAddress,
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the authority is empty",
            Self::PortMissing => "the authority has no port",
            Self::PortInvalid => "the authority's port is not a number from 1 to 65535",
            Self::AddressInvalid => "the authority's address is not valid",
            Self::NotCanonical => "the authority's address is not in canonical form",
            Self::HostInvalid => "the authority's host is not a canonical host name",
            Self::HostLooksLikeAddress => "the authority's host could be mistaken for an address",
        })
    }
}

impl std::error::Error for AuthorityError {}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && !text.starts_with('0') => Ok(port),
        _ => Err(AuthorityError::PortInvalid),
    }
}

/// Lower-case letters, digits, hyphens and underscores in labels of 1 to 63, as Kubernetes and DNS
/// names are. Internationalised names travel in their ASCII form (`xn--…`) and need no case here.
fn check_host(host: &str) -> Result<(), AuthorityError> {
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(AuthorityError::HostInvalid);
    }
    let mut last = "";
    for label in host.split('.') {
        let sound = (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !sound {
            return Err(AuthorityError::HostInvalid);
        }
        last = label;
    }
    // `inet_aton` and browsers read names that end in a number as IPv4: "1", "10.1", "0x7f.1",
    // "127.0.0.08".
    let hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::HostLooksLikeAddress);
    }
    Ok(())
}

/// Whether `value` prints as exactly `text`, without allocating the print.
fn displays_as(value: &impl fmt::Display, text: &str) -> bool {
    struct Remaining<'a>(&'a str);
    impl fmt::Write for Remaining<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut remaining = Remaining(text);
    fmt::write(&mut remaining, format_args!("{value}")).is_ok() && remaining.0.is_empty()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_only_what_it_prints_again() {
        use AuthorityError::*;
        let longest = format!("{0}.{0}.{0}.{1}:1", "a".repeat(63), "b".repeat(61));
        let too_long = format!("{0}.{0}.{0}.{1}:1", "a".repeat(63), "b".repeat(62));
        let long_label = format!("{}.example:1", "a".repeat(64));
        #[rustfmt::skip]
        let rows: &[(&str, &str, Result<(), AuthorityError>)] = &[
            ("IPv4",                          "10.1.0.10:8080",                   Ok(())),
            ("IPv6",                          "[2001:db8::1]:8080",               Ok(())),
            ("IPv6 loopback",                 "[::1]:1",                          Ok(())),
            ("IPv6 unspecified",              "[::]:1",                           Ok(())),
            ("service host name",             "reviews.default.svc.cluster.local:9080", Ok(())),
            ("one label",                     "reviews:9080",                     Ok(())),
            ("underscore",                    "_x.example:80",                    Ok(())),
            ("label beginning with a digit",  "1password.example:80",             Ok(())),
            ("digits before the last label",  "10.0.0.1.example:80",              Ok(())),
            ("punycode",                      "xn--bcher-kva.example:80",         Ok(())),
            ("highest port",                  "10.1.0.10:65535",                  Ok(())),
            ("lowest port",                   "reviews:1",                        Ok(())),
            ("longest host",                  &longest,                           Ok(())),
            ("empty",                         "",                                 Err(Empty)),
            ("only a colon",                  ":",                                Err(PortInvalid)),
            ("only a port",                   ":80",                              Err(HostInvalid)),
            ("no port",                       "reviews",                          Err(PortMissing)),
            ("no port, IPv4",                 "10.1.0.10",                        Err(PortMissing)),
            ("no port, IPv6",                 "[::1]",                            Err(AddressInvalid)),
            ("empty port",                    "10.1.0.10:",                       Err(PortInvalid)),
            ("port 0",                        "10.1.0.10:0",                      Err(PortInvalid)),
            ("port 0 of a host name",         "reviews:0",                        Err(PortInvalid)),
            ("port 65536",                    "10.1.0.10:65536",                  Err(PortInvalid)),
            ("port with a sign",              "reviews:+80",                      Err(PortInvalid)),
            ("port with a zero before it",    "reviews:080",                      Err(PortInvalid)),
            ("port with a space",             "reviews: 80",                      Err(PortInvalid)),
            ("IPv4 port with a zero",         "10.1.0.10:080",                    Err(NotCanonical)),
            ("IPv6 port with a zero",         "[::1]:080",                        Err(NotCanonical)),
            ("IPv4 with a zero before it",    "10.1.0.010:80",                    Err(HostLooksLikeAddress)),
            ("IPv4 too large",                "10.1.0.256:80",                    Err(HostLooksLikeAddress)),
            ("IPv4 of three parts",           "10.1.10:80",                       Err(HostLooksLikeAddress)),
            ("IPv4 as one number",            "2130706433:80",                    Err(HostLooksLikeAddress)),
            ("IPv4 in hexadecimal",           "0x7f000001:80",                    Err(HostLooksLikeAddress)),
            ("IPv4 ending in hexadecimal",    "127.0.0.0x1:80",                   Err(HostLooksLikeAddress)),
            ("bare 0x",                       "a.0x:80",                          Err(HostLooksLikeAddress)),
            ("mapped IPv4",                   "[::ffff:10.1.0.10]:80",            Err(AddressInvalid)),
            ("mapped IPv4 in hexadecimal",    "[::ffff:a01:a]:80",                Err(AddressInvalid)),
            ("zone",                          "[fe80::1%2]:80",                   Err(AddressInvalid)),
            ("named zone",                    "[fe80::1%eth0]:80",                Err(AddressInvalid)),
            ("IPv6 in capitals",              "[2001:DB8::1]:80",                 Err(NotCanonical)),
            ("IPv6 uncompressed",             "[0:0:0:0:0:0:0:1]:80",             Err(NotCanonical)),
            ("IPv6 with zeros",               "[2001:0db8::1]:80",                Err(NotCanonical)),
            ("IPv6 without brackets",         "2001:db8::1:80",                   Err(HostInvalid)),
            ("user information",              "root@10.1.0.10:80",                Err(HostInvalid)),
            ("scheme",                        "http://reviews:80",                Err(HostInvalid)),
            ("path",                          "reviews:80/",                      Err(PortInvalid)),
            ("capital letters",               "Reviews.default:80",               Err(HostInvalid)),
            ("trailing dot",                  "reviews.default.:80",              Err(HostInvalid)),
            ("trailing dot of an address",    "10.1.0.10.:80",                    Err(HostInvalid)),
            ("leading dot",                   ".reviews:80",                      Err(HostInvalid)),
            ("two dots",                      "reviews..default:80",              Err(HostInvalid)),
            ("hyphen first",                  "-reviews:80",                      Err(HostInvalid)),
            ("hyphen last",                   "reviews-.default:80",              Err(HostInvalid)),
            ("not ASCII",                     "bücher.example:80",                Err(HostInvalid)),
            ("ideographic full stop",         "reviews。default:80",               Err(HostInvalid)),
            ("full-width digits",             "10.1.0.１:80",                      Err(HostInvalid)),
            ("wildcard",                      "*.example:80",                     Err(HostInvalid)),
            ("percent encoding",              "reviews%2edefault:80",             Err(HostInvalid)),
            ("space",                         " reviews:80",                      Err(HostInvalid)),
            ("NUL",                           "reviews\0:80",                     Err(HostInvalid)),
            ("host too long",                 &too_long,                          Err(HostInvalid)),
            ("label too long",                &long_label,                        Err(HostInvalid)),
        ];
        for (name, text, want) in rows {
            let got = Authority::parse(text);
            assert_eq!(got.as_ref().map(drop), want.as_ref().map(drop), "{name}: {text:?}");
            if let Ok(authority) = got {
                assert_eq!(authority.to_string(), *text, "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_round_trips(text in "\\PC{0,40}") {
            if let Ok(authority) = Authority::parse(&text) {
                prop_assert_eq!(authority.to_string(), text);
            }
        }

        #[test]
        fn near_misses_round_trip_or_are_refused(text in "[\\[\\]0-9a-fx.:%@]{1,24}:[0-9]{1,6}") {
            if let Ok(authority) = Authority::parse(&text) {
                prop_assert_eq!(authority.to_string(), text);
            }
        }

        #[test]
        fn addresses_come_back(ip in any::<IpAddr>(), port in 1_u16..) {
            let address = SocketAddr::new(ip.to_canonical(), port);
            prop_assert_eq!(Authority::parse(&address.to_string()), Ok(Authority::Address(address)));
        }
    }
}

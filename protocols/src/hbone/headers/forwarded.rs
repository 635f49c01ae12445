//! The `forwarded` header (RFC 7239): whose connection the tunnel carries, and to which service.
//! For telemetry only.

use std::fmt;
use std::net::SocketAddr;

use super::baggage::{ascii, trim};

/// What the header says. It is a claim of the peer; nothing may be authorized by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Forwarded {
    /// `for`: the address of the application's socket.
    pub client: Option<SocketAddr>,
    /// `host`: the host name of the destination service.
    pub host: Option<Box<str>>,
}

impl Forwarded {
    /// Reads the value of the first `forwarded` line. Text that is not ASCII says nothing.
    pub fn parse(line: &[u8]) -> Self {
        let Some(line) = ascii(line) else { return Self::default() };
        let parameter = |prefix: &str| {
            line.split(';').find_map(|part| trim(part).strip_prefix(prefix)).map(unquote)
        };
        Self {
            client: parameter("for=").and_then(|client| client.parse().ok()),
            host: parameter("host=").filter(|host| !host.is_empty()).map(Into::into),
        }
    }
}

/// The header's value. A host that could not be told from the syntax around it is left out.
impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(client) = &self.client {
            write!(f, "for=\"{client}\"")?;
            separator = ";";
        }
        if let Some(host) = self.host.as_deref().filter(|host| travels(host)) {
            write!(f, "{separator}host={host}")?;
        }
        Ok(())
    }
}

/// A token (RFC 9110 §5.6.2), as every host name is.
fn travels(host: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !host.is_empty() && host.bytes().all(token)
}

/// Drops one quotation mark at either end.
fn unquote(text: &str) -> &str {
    let text = text.strip_prefix('"').unwrap_or(text);
    text.strip_suffix('"').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_peers_write() {
        let host = |text: &str| Some(text.to_owned());
        #[rustfmt::skip]
        let rows: &[(&str, &str, Option<&str>, Option<String>)] = &[
            ("nothing",              "",                                      None,                    None),
            ("as ztunnel writes",    "for=\"10.0.0.1:1234\";host=reviews.ns", Some("10.0.0.1:1234"),   host("reviews.ns")),
            ("IPv6",                 "for=\"[2001:db8::1]:1234\"",            Some("[2001:db8::1]:1234"), None),
            ("client unquoted",      "for=10.0.0.1:1234",                     Some("10.0.0.1:1234"),   None),
            ("client without port",  "for=10.0.0.1",                          None,                    None),
            ("quoted host",          "host=\"reviews\"",                      None,                    host("reviews")),
            ("empty host",           "host=",                                 None,                    None),
            ("empty quoted host",    "host=\"\"",                             None,                    None),
            ("one quotation mark",   "host=\"",                               None,                    None),
            ("quotation mark first", "host=\"a",                              None,                    host("a")),
            ("white space",          " for=\"10.0.0.1:1\" ;\t host=a ",       Some("10.0.0.1:1"),      host("a")),
            ("first host wins",      "host=a;host=b",                         None,                    host("a")),
            ("other case",           "Host=a",                                None,                    None),
            ("unknown parameters",   "by=x;proto=y;host=a",                   None,                    host("a")),
            ("not ASCII",            "host=ä",                                None,                    None),
        ];
        for (name, line, client, host) in rows {
            let got = Forwarded::parse(line.as_bytes());
            assert_eq!(got.client, client.map(|client| client.parse().unwrap()), "{name}");
            assert_eq!(got.host.as_deref(), host.as_deref(), "{name}");
        }
    }

    #[test]
    fn writes_as_ztunnel_writes() {
        let client = Some("[2001:db8::1]:7".parse().unwrap());
        let host = Some("reviews.ns.svc".into());
        let both = Forwarded { client, host: host.clone() };
        assert_eq!(both.to_string(), "for=\"[2001:db8::1]:7\";host=reviews.ns.svc");
        assert_eq!(Forwarded { client: None, host }.to_string(), "host=reviews.ns.svc");
        assert_eq!(
            Forwarded { client, host: Some("a;b".into()) }.to_string(),
            "for=\"[2001:db8::1]:7\""
        );
    }

    proptest! {
        #[test]
        fn what_travels_comes_back(client in any::<Option<SocketAddr>>(), host in "[ -~]{0,12}") {
            let sent = Forwarded { client, host: (!host.is_empty()).then(|| host.as_str().into()) };
            let got = Forwarded::parse(sent.to_string().as_bytes());
            // A flow label has no text form, and a scope is of no use to anybody else.
            prop_assert_eq!(got.client.map(|c| (c.ip(), c.port())), client.map(|c| (c.ip(), c.port())));
            prop_assert_eq!(got.host, sent.host.filter(|host| travels(host)));
        }

        #[test]
        fn any_bytes_are_read(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let forwarded = Forwarded::parse(&line);
            prop_assert!(forwarded.host.is_none_or(|host| !host.is_empty()));
        }
    }
}

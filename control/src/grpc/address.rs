//! Where a server is: `https://istiod.istio-system.svc:15012`, or the same without its scheme.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

use super::error::GrpcError;

/// Host, port, and whether the way there is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    encrypted: bool,
    /// An IPv6 address stands without its brackets.
    host: String,
    port: u16,
}

impl Address {
    /// Whether it is reached over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `https` or `http`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }

    /// Host and port, as a request names them.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

impl FromStr for Address {
    type Err = GrpcError;

    /// Reads an address; without a scheme it is an encrypted one.
    fn from_str(text: &str) -> Result<Self, GrpcError> {
        let refused = |why| GrpcError::Address { text: text.to_owned(), why };
        let text = text.trim();
        if text.is_empty() {
            return Err(refused("it is empty"));
        }
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("https://{text}"),
        };
        let uri: Uri = whole.parse().map_err(|_| refused("it is no URI"))?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused("its scheme is neither `https` nor `http`")),
        };
        let authority = uri.authority().ok_or_else(|| refused("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("it names a user; a token is given on its own"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refused("it has a path; only host and port are expected"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(refused("it names no host"));
        }
        let port = match authority.as_str().rsplit_once(':') {
            // The last colon of a bare IPv6 host stands inside the brackets.
            Some((_, port)) if !port.ends_with(']') => {
                port.parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| refused("its port is none"))?
            }
            _ if encrypted => 443,
            _ => 80,
        };
        Ok(Self { encrypted, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_told_again() {
        //  name                   text                                   want
        let rows = [
            (
                "whole",
                "https://istiod.istio-system.svc:15012",
                "https://istiod.istio-system.svc:15012",
            ),
            ("no scheme", "istiod.istio-system.svc:15012", "https://istiod.istio-system.svc:15012"),
            ("no scheme, a slash", "localhost:15012/", "https://localhost:15012"),
            ("no port", "istiod", "https://istiod:443"),
            ("plain", "http://127.0.0.1:15010", "http://127.0.0.1:15010"),
            ("plain, no port", "http://istiod", "http://istiod:80"),
            ("IPv6", "https://[::1]:15012", "https://[::1]:15012"),
            ("IPv6, no port", "[fd00::5]", "https://[fd00::5]:443"),
            ("spaces around it", " istiod:15012\n", "https://istiod:15012"),
        ];
        for (name, text, want) in rows {
            let address: Address = text.parse().expect(name);
            assert_eq!(address.to_string(), want, "{name}");
        }
        let address: Address = "[fd00::5]:1".parse().unwrap();
        assert_eq!((address.host(), address.port()), ("fd00::5", 1));
    }

    #[test]
    fn what_is_none_is_refused_with_a_reason() {
        //  name              text                        want in the message
        let rows = [
            ("nothing", "", "empty"),
            ("another scheme", "unix://run/x", "neither"),
            ("a path", "https://istiod:15012/xds", "a path"),
            ("a query", "https://istiod:15012?x=y", "a path"),
            ("port 0", "istiod:0", "port"),
            ("a large port", "istiod:70000", "port"),
            ("no host", "https://:15012", "no host"),
            ("a user", "https://token@istiod:15012", "a user"),
            ("spaces", "https://isti od", "no URI"),
        ];
        for (name, text, want) in rows {
            let error = text.parse::<Address>().expect_err(name).to_string();
            assert!(error.contains(want), "{name}: {error}");
        }
    }
}

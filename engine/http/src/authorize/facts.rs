//! What policies may ask of a request, and of the connection it came by.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, Method};
use ringway_protocols::identity::Identity;

use crate::head::{joined, normal};
use crate::token::Token;

/// What policies may ask. Addresses are canonical: an IPv4 address mapped into IPv6 is the IPv4 address.
#[derive(Debug)]
pub struct Facts<'a> {
    source: Option<&'a Identity>,
    source_ip: IpAddr,
    remote_ip: IpAddr,
    destination: SocketAddr,
    server_name: Option<&'a str>,
    request: Option<RequestFacts<'a>>,
    /// The identity as text, made when a policy first asks for it.
    principal: OnceCell<String>,
    /// The authority's forms, made when a policy first asks for them.
    hosts: OnceCell<Hosts>,
}

/// What policies may ask of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// As it is.
    pub method: &'a Method,
    /// In canonical form, without query.
    pub path: &'a str,
    /// With its port, if it has one.
    pub authority: Option<&'a str>,
    /// All of them.
    pub headers: &'a HeaderMap,
    /// Verified.
    pub token: Option<&'a Token>,
}

/// The forms of an authority that are compared, in lower case: as it is, and as routes have it, without port and without a
/// dot at its end.
#[derive(Debug)]
struct Hosts {
    whole: String,
    normal: String,
}

impl<'a> Facts<'a> {
    /// A connection from `source_ip` to `destination`, a service's address and port, by a client that proved to be
    /// `source`.
    pub fn new(
        source: Option<&'a Identity>,
        source_ip: IpAddr,
        destination: SocketAddr,
    ) -> Facts<'a> {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let source_ip = source_ip.to_canonical();
        Facts {
            source,
            source_ip,
            remote_ip: source_ip,
            destination,
            server_name: None,
            request: None,
            principal: OnceCell::new(),
            hosts: OnceCell::new(),
        }
    }

    /// The client's address as proxies before us tell it, where they are believed.
    #[must_use]
    pub fn with_remote_ip(self, remote_ip: IpAddr) -> Facts<'a> {
        Facts { remote_ip: remote_ip.to_canonical(), ..self }
    }

    /// The name that the client gave in its TLS handshake.
    #[must_use]
    pub fn with_server_name(self, server_name: Option<&'a str>) -> Facts<'a> {
        Facts { server_name, ..self }
    }

    /// A request on that connection.
    #[must_use]
    pub fn with_request(self, request: RequestFacts<'a>) -> Facts<'a> {
        Facts { request: Some(request), hosts: OnceCell::new(), ..self }
    }

    /// The request, if there is one.
    pub fn request(&self) -> Option<&RequestFacts<'a>> {
        self.request.as_ref()
    }

    /// The client's address.
    pub fn source_ip(&self) -> IpAddr {
        self.source_ip
    }

    /// The client's identity.
    pub fn source(&self) -> Option<&'a Identity> {
        self.source
    }

    /// The identity without `spiffe://`.
    pub fn principal(&self) -> Option<&str> {
        let identity = self.source?;
        Some(self.principal.get_or_init(|| {
            let (domain, namespace) = (identity.trust_domain(), identity.namespace());
            format!("{domain}/ns/{namespace}/sa/{}", identity.service_account())
        }))
    }

    pub(super) fn remote_ip(&self) -> IpAddr {
        self.remote_ip
    }

    pub(crate) fn destination(&self) -> SocketAddr {
        self.destination
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name
    }

    /// The authority as routes have it: without port, in lower case.
    pub(crate) fn host(&self) -> Option<&str> {
        self.hosts().map(|[_, normal]| normal)
    }

    /// The authority's forms; none without an authority.
    pub(super) fn hosts(&self) -> Option<[&str; 2]> {
        let authority = self.request?.authority?;
        let hosts = self.hosts.get_or_init(|| Hosts {
            whole: authority.to_ascii_lowercase(),
            normal: normal(authority).into_owned(),
        });
        Some([&hosts.whole, &hosts.normal])
    }
}

/// The value of a header, those of one name as one. What is no text in it is no text that a policy could name.
pub(crate) fn header_text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, str>> {
    Some(match joined(headers, name)? {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

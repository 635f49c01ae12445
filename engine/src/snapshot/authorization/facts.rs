//! What policies may ask of a connection.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use ringway_protocols::identity::Identity;

/// What policies may ask of a connection. Addresses are canonical: an IPv4 address mapped into IPv6 is
/// the IPv4 address.
#[derive(Debug)]
pub struct Facts<'a> {
    source_ip: IpAddr,
    destination: SocketAddr,
    identity: Option<&'a Identity>,
    /// The identity as text, made when a policy first asks for it.
    principal: OnceCell<String>,
}

impl<'a> Facts<'a> {
    /// A connection from `source_ip` to `destination` by a client that proved `identity`, or nothing.
    ///
    /// The source is the peer of the TCP connection; the destination is the workload's own address and the
    /// port that is dialled, as [`InboundTarget::destination`](crate::decide::InboundTarget) has it.
    pub fn new(
        source_ip: IpAddr,
        destination: SocketAddr,
        identity: Option<&'a Identity>,
    ) -> Facts<'a> {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        Facts {
            source_ip: source_ip.to_canonical(),
            destination,
            identity,
            principal: OnceCell::new(),
        }
    }

    pub(super) fn source_ip(&self) -> IpAddr {
        self.source_ip
    }

    pub(super) fn destination_ip(&self) -> IpAddr {
        self.destination.ip()
    }

    pub(super) fn destination_port(&self) -> u16 {
        self.destination.port()
    }

    /// Empty without an identity.
    pub(super) fn namespace(&self) -> &str {
        self.identity.map_or("", Identity::namespace)
    }

    /// The identity without `spiffe://`.
    pub(super) fn principal(&self) -> Option<&str> {
        let identity = self.identity?;
        let principal = self.principal.get_or_init(|| {
            let (domain, namespace) = (identity.trust_domain(), identity.namespace());
            format!("{domain}/ns/{namespace}/sa/{}", identity.service_account())
        });
        Some(principal)
    }

    /// Namespace and name.
    pub(super) fn service_account(&self) -> Option<(&str, &str)> {
        self.identity.map(|identity| (identity.namespace(), identity.service_account()))
    }
}

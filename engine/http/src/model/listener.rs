//! Where requests come in.

use std::fmt;
use std::sync::Arc;

/// The name of a listener: of a Gateway, and within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerKey {
    /// Of the Gateway.
    pub namespace: Arc<str>,
    /// Of the Gateway.
    pub gateway: Arc<str>,
    /// Within it.
    pub listener: Arc<str>,
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.namespace, self.gateway, self.listener)
    }
}

impl ListenerKey {
    /// The Gateway it belongs to.
    pub fn gateway(&self) -> GatewayName {
        GatewayName { namespace: self.namespace.clone(), name: self.gateway.clone() }
    }
}

/// The name of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayName {
    /// Where it is.
    pub namespace: Arc<str>,
    /// How it is called there.
    pub name: Arc<str>,
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A listener of a Gateway.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name.
    pub key: ListenerKey,
    /// Several listeners may share one.
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// For which hosts; none: for all that no other listener of the port is for.
    pub hostname: Option<HostPattern>,
    /// For HTTPS, and for TLS that ends here.
    pub tls: Option<ListenerTls>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 without TLS.
    Http,
    /// The same inside TLS.
    Https,
    /// TLS, ended here or passed through by server name.
    Tls,
    /// TCP.
    Tcp,
    /// Tunnels of the mesh: this process is a waypoint.
    Hbone,
}

/// How TLS ends at a listener.
#[derive(Clone)]
pub enum ListenerTls {
    /// The bytes go on as they are; the server name says where.
    Passthrough,
    /// It ends here.
    Terminate {
        /// PEM, leaf first.
        certificate_chain: Arc<[u8]>,
        /// PEM.
        private_key: Arc<[u8]>,
        /// What clients show of themselves; none: they are not asked.
        clients: Option<ClientCertificates>,
    },
    /// Its certificate cannot be had: every handshake fails. Says why.
    Broken(Arc<str>),
}

impl fmt::Debug for ListenerTls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerTls::Passthrough => f.write_str("Passthrough"),
            ListenerTls::Terminate { .. } => f.write_str("Terminate"),
            ListenerTls::Broken(why) => write!(f, "Broken({why})"),
        }
    }
}

/// The certificates that clients show at a listener.
#[derive(Clone)]
pub struct ClientCertificates {
    /// Who must have signed them, in PEM.
    pub authorities: Arc<[u8]>,
    /// Who gets in.
    pub demand: ClientDemand,
}

/// Which clients get in by their certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientDemand {
    /// Who shows one that holds, and nobody else.
    Valid,
    /// Who shows none, too.
    ValidOrNone,
    /// Everybody. What does not hold is as though it had not been shown.
    Anything,
}

/// `example.com`, or `*.example.com`: any number of labels in front, at least one. Lower-case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one.
    Exact(Arc<str>),
    /// All that end with a dot and this.
    Suffix(Arc<str>),
}

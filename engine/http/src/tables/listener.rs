//! By listener: a request belongs to the most specific listener of its port, and no other one's routes are tried.

use std::fmt;
use std::sync::Arc;

use super::RouteTable;
use super::hosts::HostMap;
use super::rule::RouteRule;
use super::service::StreamTable;
use crate::head::normal;
use crate::model::Listener;

/// Everything that listens on a port of a Gateway.
#[derive(Debug, Default)]
pub struct PortTable {
    pub(super) listeners: HostMap<Option<ListenerTable>>,
}

/// A listener and what is attached to it.
#[derive(Debug)]
pub struct ListenerTable {
    /// What it is.
    pub listener: Listener,
    pub(super) routes: RouteTable,
    pub(super) streams: StreamTable,
}

impl ListenerTable {
    pub(super) fn new(listener: Listener) -> ListenerTable {
        ListenerTable { listener, routes: RouteTable::default(), streams: StreamTable::default() }
    }

    /// Its HTTP routes.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// The rule for a connection that is not HTTP to us. None: it is closed.
    pub fn stream(&self, server_name: Option<&str>) -> Option<&Arc<RouteRule>> {
        self.streams.find(server_name)
    }
}

/// Why a request on a connection for one host may not be answered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdirected {
    /// The host is another listener's, whose certificates and policies the client has not met: 421 (RFC 9110 §7.4).
    OtherListener,
    /// The host is nobody's: 404.
    Unknown,
}

impl fmt::Display for Misdirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Misdirected::OtherListener => {
                "the host belongs to another listener than the server name"
            }
            Misdirected::Unknown => "no listener is for this host",
        })
    }
}

impl PortTable {
    /// The listener of a host.
    pub fn by_host(&self, host: &str) -> Option<&ListenerTable> {
        self.listeners.most_specific(&normal(host))?.as_ref()
    }

    /// The listener of a TLS connection; without a server name it is the one for all hosts.
    pub fn by_server_name(&self, server_name: Option<&str>) -> Option<&ListenerTable> {
        self.by_host(server_name.unwrap_or(""))
    }

    /// Whether a request for `host` may be answered on a connection that `listener` has accepted by its server name.
    ///
    /// # Errors
    /// It may not; [`Misdirected`] says how that is answered.
    pub fn check(&self, listener: &ListenerTable, host: &str) -> Result<(), Misdirected> {
        match self.by_host(host) {
            Some(owner) if owner.listener.key == listener.listener.key => Ok(()),
            Some(_) => Err(Misdirected::OtherListener),
            None => Err(Misdirected::Unknown),
        }
    }

    /// All listeners of the port.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerTable> {
        self.listeners.values().flatten()
    }
}

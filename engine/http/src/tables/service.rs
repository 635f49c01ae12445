//! By service: its own routes, and those of its clients' namespaces.

use std::collections::HashMap;
use std::sync::Arc;

use super::hosts::HostMap;
use super::rule::RouteRule;
use super::{AttachedStream, RouteTable};
use crate::head::normal;

/// What is attached to a service.
#[derive(Debug, Default)]
pub(super) struct ServiceTable {
    http: Scoped<RouteTable>,
    stream: Scoped<StreamTable>,
}

/// For whole connections.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    /// TLSRoutes, by server name.
    pub(super) names: HostMap<StreamCell>,
    /// TCPRoutes: the oldest.
    pub(super) tcp: Option<Arc<RouteRule>>,
}

/// The oldest rule for a server name.
#[derive(Debug, Default)]
pub(super) struct StreamCell(pub(super) Option<Arc<RouteRule>>);

impl StreamCell {
    /// Rules come in order of age; the first stays.
    pub(super) fn offer(&mut self, rule: &Arc<RouteRule>) {
        self.0.get_or_insert_with(|| rule.clone());
    }
}

impl StreamTable {
    /// TLS routes know more of a connection than TCP routes do, so they go first.
    pub(super) fn find(&self, server_name: Option<&str>) -> Option<&Arc<RouteRule>> {
        self.names
            .find(&normal(server_name.unwrap_or("")), |cell| cell.0.as_ref())
            .or(self.tcp.as_ref())
    }
}

impl ServiceTable {
    pub(super) fn http(&self, port: u16, client_namespace: Option<&str>) -> Option<&RouteTable> {
        self.http.get(port, client_namespace)
    }

    pub(super) fn stream(
        &self,
        port: u16,
        client_namespace: Option<&str>,
        server_name: Option<&str>,
    ) -> AttachedStream<'_> {
        let Some(table) = self.stream.get(port, client_namespace) else {
            return AttachedStream::None;
        };
        table.find(server_name).map_or(AttachedStream::NoMatch, AttachedStream::Rule)
    }

    pub(super) fn http_mut(&mut self) -> &mut Scoped<RouteTable> {
        &mut self.http
    }

    pub(super) fn stream_mut(&mut self) -> &mut Scoped<StreamTable> {
        &mut self.stream
    }
}

/// One for each scope: clients' namespace (none: everybody) and port (none: the ports that nobody names).
#[derive(Debug)]
pub(super) struct Scoped<T> {
    everybody: Ports<T>,
    clients: HashMap<Arc<str>, Ports<T>>,
}

#[derive(Debug)]
struct Ports<T> {
    named: HashMap<u16, T>,
    others: Option<T>,
}

impl<T> Default for Scoped<T> {
    fn default() -> Self {
        Scoped { everybody: Ports::default(), clients: HashMap::new() }
    }
}

impl<T> Default for Ports<T> {
    fn default() -> Self {
        Ports { named: HashMap::new(), others: None }
    }
}

impl<T: Default> Scoped<T> {
    fn get(&self, port: u16, client_namespace: Option<&str>) -> Option<&T> {
        client_namespace
            .and_then(|namespace| self.clients.get(namespace)?.get(port))
            .or_else(|| self.everybody.get(port))
    }

    /// Makes room for a port of its own. All ports that are named anywhere must be, before anything is added.
    pub(super) fn name_port(&mut self, clients_of: Option<&Arc<str>>, port: Option<u16>) {
        let ports = self.ports(clients_of);
        match port {
            Some(port) => drop(ports.named.entry(port).or_default()),
            None => drop(ports.others.get_or_insert_default()),
        }
    }

    /// Adds to the scope, and to all that lie within it.
    pub(super) fn add(
        &mut self,
        clients_of: Option<&Arc<str>>,
        port: Option<u16>,
        mut add: impl FnMut(&mut T),
    ) {
        let ports = self.ports(clients_of);
        match port {
            Some(port) => ports.named.get_mut(&port).into_iter().for_each(add),
            None => ports.named.values_mut().chain(&mut ports.others).for_each(&mut add),
        }
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let all = std::iter::once(&mut self.everybody).chain(self.clients.values_mut());
        all.flat_map(|ports| ports.named.values_mut().chain(&mut ports.others))
    }

    fn ports(&mut self, clients_of: Option<&Arc<str>>) -> &mut Ports<T> {
        match clients_of {
            None => &mut self.everybody,
            Some(namespace) => self.clients.entry(namespace.clone()).or_default(),
        }
    }
}

impl<T> Ports<T> {
    fn get(&self, port: u16) -> Option<&T> {
        self.named.get(&port).or(self.others.as_ref())
    }
}

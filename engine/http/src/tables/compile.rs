//! From what is configured to what is asked. Everything that is wrong is told at once.

mod check;

use std::collections::HashMap;
use std::sync::Arc;

use self::check::{check_host, check_rule};
use super::hosts::intersect;
use super::rule::Candidate;
use super::service::StreamTable;
use super::{
    CompileError, CompileErrors, ListenerTable, Mistake, PortTable, RouteRule, RouteTable, Tables,
};
use crate::model::{
    HostPattern, HttpConfig, Listener, ListenerKey, ListenerProtocol, Match, NamedMatch, Parent,
    PathMatch, Route, RouteKind,
};
use crate::path::{self, PathMode};
use crate::policies::PolicyTables;

impl Tables {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// All that is wrong with it. Then none of it can be used: half of a configuration may let in whom the whole keeps out.
    pub fn compile(config: HttpConfig) -> Result<Tables, CompileErrors> {
        let mut compiler = Compiler::new(config.paths);
        compiler.listeners(config.listeners);
        compiler.routes(config.routes);
        compiler.tables.waypoints = config.waypoints.into_iter().collect();
        compiler.tables.tells_client = config.tells_client.into_iter().collect();
        match PolicyTables::compile(&config.policies, config.paths) {
            Ok(policies) => compiler.tables.policies = policies,
            Err(errors) => compiler.errors.extend(errors.into_iter().map(CompileError::Policy)),
        }
        compiler.finish()
    }
}

/// All that is wrong with one route by itself: for a loader that would rather leave out a route, and say so, than
/// refuse everything.
pub fn check_route(route: Route, paths: PathMode) -> Vec<CompileError> {
    let mut compiler = Compiler::new(paths);
    compiler.routes(vec![route]);
    compiler.errors
}

struct Compiler {
    tables: Tables,
    /// Where each listener has come to.
    places: HashMap<ListenerKey, Place>,
    errors: Vec<CompileError>,
}

struct Place {
    port: u16,
    hostname: Option<HostPattern>,
}

impl Compiler {
    fn new(paths: PathMode) -> Compiler {
        let tables = Tables { paths, ..Tables::default() };
        Compiler { tables, places: HashMap::new(), errors: Vec::new() }
    }

    fn finish(mut self) -> Result<Tables, CompileErrors> {
        if !self.errors.is_empty() {
            return Err(CompileErrors(self.errors));
        }
        self.route_tables().for_each(RouteTable::sort);
        Ok(self.tables)
    }

    fn route_tables(&mut self) -> impl Iterator<Item = &mut RouteTable> {
        let services = self.tables.services.values_mut();
        let ports = self.tables.gateways.values_mut().flat_map(HashMap::values_mut);
        let listeners = ports.flat_map(|port| port.listeners.values_mut()).flatten();
        services
            .flat_map(|service| service.http_mut().values_mut())
            .chain(listeners.map(|listener| &mut listener.routes))
    }

    /// Tunnels of the mesh are not listened for here.
    fn listeners(&mut self, listeners: Vec<Listener>) {
        for listener in listeners {
            if listener.protocol != ListenerProtocol::Hbone {
                self.listener(listener);
            }
        }
    }

    fn listener(&mut self, listener: Listener) {
        if let Err(host) = listener.hostname.as_ref().map_or(Ok(()), check_host) {
            self.errors.push(CompileError::ListenerHost { listener: listener.key, host });
            return;
        }
        let Listener { port, hostname, .. } = listener.clone();
        let ports = self.tables.gateways.entry(listener.key.gateway()).or_default();
        let table = ports.entry(port).or_default();
        if let Some(error) = conflict(table, &listener) {
            self.errors.push(error);
            return;
        }
        self.places.insert(listener.key.clone(), Place { port, hostname: hostname.clone() });
        table.listeners.insert(hostname.as_ref(), Some(ListenerTable::new(listener)));
    }

    /// Ports of services are named before anything is attached to all of them.
    fn routes(&mut self, routes: Vec<Route>) {
        for route in &routes {
            self.name_ports(route);
        }
        for route in routes {
            self.route(route);
        }
    }

    fn name_ports(&mut self, route: &Route) {
        for parent in &route.parents {
            if let Parent::Service { service, port, clients_of } = parent {
                let table = self.tables.services.entry(service.clone()).or_default();
                if is_http(route.name.kind) {
                    table.http_mut().name_port(clients_of.as_ref(), *port);
                } else {
                    table.stream_mut().name_port(clients_of.as_ref(), *port);
                }
            }
        }
    }

    fn route(&mut self, route: Route) {
        for host in &route.hostnames {
            if let Err(host) = check_host(host) {
                self.errors.push(CompileError::RouteHost { route: route.name.clone(), host });
            }
        }
        let Route { name, parents, hostnames, rules } = route;
        for (index, mut rule) in rules.into_iter().enumerate() {
            let before = self.errors.len();
            for mistake in self.put_in_order(&mut rule.matches).chain(check_rule(&rule, name.kind))
            {
                self.errors.push(CompileError::Rule { route: name.clone(), rule: index, mistake });
            }
            if self.errors.len() > before {
                // What is wrong is attached to nothing: tables take it for granted that paths are paths.
                continue;
            }
            let id = u32::try_from(self.tables.rules.len()).expect("rules fit in memory");
            let rule = Arc::new(RouteRule { id, route: name.clone(), index, rule });
            self.tables.rules.push(rule.clone());
            for parent in &parents {
                self.attach(&rule, parent, &hostnames);
            }
        }
    }

    /// Paths become canonical, as those of requests do; of two headers or parameters with one name, the first counts.
    fn put_in_order(&self, matches: &mut [Match]) -> impl Iterator<Item = Mistake> + use<> {
        let mut mistakes = Vec::new();
        for it in matches {
            first_of_each(&mut it.headers);
            first_of_each(&mut it.query);
            if let Some(path) = &mut it.path {
                mistakes.extend(order_path(path, self.tables.paths).err());
            }
        }
        mistakes.into_iter()
    }

    fn attach(&mut self, rule: &Arc<RouteRule>, parent: &Parent, hostnames: &[HostPattern]) {
        match parent {
            Parent::Listener(key) => self.attach_to_listener(rule, key, hostnames),
            Parent::Service { service, port, clients_of } => {
                let table = self.tables.services.entry(service.clone()).or_default();
                let clients = clients_of.as_ref();
                match rule.route.kind {
                    // What is addressed to a service goes by the address, whatever the host.
                    RouteKind::Http | RouteKind::Grpc => {
                        table.http_mut().add(clients, *port, |table| table.add(rule, None));
                    }
                    RouteKind::Tls | RouteKind::Tcp => {
                        table.stream_mut().add(clients, *port, |table| table.add(rule, hostnames));
                    }
                }
            }
        }
    }

    /// A route of another process's listener is no concern of ours.
    fn attach_to_listener(
        &mut self,
        rule: &Arc<RouteRule>,
        key: &ListenerKey,
        hostnames: &[HostPattern],
    ) {
        let Some(place) = self.places.get(key) else { return };
        let ports = self.tables.gateways.entry(key.gateway()).or_default();
        let table = ports.entry(place.port).or_default();
        let Some(listener) = table.listeners.entry(place.hostname.as_ref()) else { return };
        let shared: Vec<HostPattern> = hostnames
            .iter()
            .filter(|host| place.hostname.as_ref().is_none_or(|own| intersect(own, host)))
            .cloned()
            .collect();
        if shared.is_empty() && !hostnames.is_empty() {
            return;
        }
        match rule.route.kind {
            RouteKind::Http | RouteKind::Grpc if shared.is_empty() => {
                listener.routes.add(rule, None);
            }
            RouteKind::Http | RouteKind::Grpc => {
                shared.iter().for_each(|host| listener.routes.add(rule, Some(host)));
            }
            RouteKind::Tls | RouteKind::Tcp => listener.streams.add(rule, &shared),
        }
    }
}

impl RouteTable {
    /// Adds a rule for a pattern of hosts; none: for all.
    fn add(&mut self, rule: &Arc<RouteRule>, host: Option<&HostPattern>) {
        let paths = self.hosts.entry(host);
        // No matches are one that everything fits.
        for matched in 0..rule.rule.matches.len().max(1) {
            paths.add(Candidate { rule: rule.clone(), matched });
        }
    }

    fn sort(&mut self) {
        self.hosts.values_mut().for_each(super::PathTable::sort);
    }
}

impl StreamTable {
    fn add(&mut self, rule: &Arc<RouteRule>, hostnames: &[HostPattern]) {
        if rule.route.kind == RouteKind::Tcp {
            self.tcp.get_or_insert_with(|| rule.clone());
        } else if hostnames.is_empty() {
            self.names.entry(None).offer(rule);
        } else {
            hostnames.iter().for_each(|host| self.names.entry(Some(host)).offer(rule));
        }
    }
}

fn is_http(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::Http | RouteKind::Grpc)
}

/// What keeps a listener from its port: only what tells its host before anything else can share one.
fn conflict(port: &PortTable, listener: &Listener) -> Option<CompileError> {
    use ListenerProtocol::{Https, Tls};
    let second = listener.key.clone();
    if let Some(Some(first)) = port.listeners.get(listener.hostname.as_ref()) {
        return Some(CompileError::ListenersConflict { first: first.listener.key.clone(), second });
    }
    let first = &port.listeners().next()?.listener;
    let alike = first.protocol == listener.protocol
        || matches!((first.protocol, listener.protocol), (Https, Tls) | (Tls, Https));
    (!alike).then(|| CompileError::ProtocolsConflict { first: first.key.clone(), second })
}

fn first_of_each<Name: PartialEq>(matches: &mut Vec<NamedMatch<Name>>) {
    let mut at = 0;
    while at < matches.len() {
        let (before, rest) = matches.split_at(at);
        if before.iter().any(|earlier| earlier.name == rest[0].name) {
            matches.remove(at);
        } else {
            at += 1;
        }
    }
}

fn order_path(path: &mut PathMatch, mode: PathMode) -> Result<(), Mistake> {
    let (PathMatch::Exact(text) | PathMatch::Prefix(text)) = &*path else { return Ok(()) };
    let mistake = |error| Mistake::Path { path: text.to_string(), error };
    if !text.starts_with('/') {
        return Err(mistake(path::PathError::NotAbsolute));
    }
    let text = path::canonical(text, mode).map_err(mistake)?;
    *path = match path {
        PathMatch::Prefix(_) => {
            let short = text.trim_end_matches('/');
            PathMatch::Prefix(if short.is_empty() { "/".into() } else { short.into() })
        }
        _ => PathMatch::Exact((&*text).into()),
    };
    Ok(())
}

//! What was told together, as the model has it; and what is done about what the control plane does not tell.
//!
//! * A route of a waypoint names the waypoint's listener only, and not the service it is for. It is taken to be for the
//!   services behind this waypoint that are in its own namespace, and that is told: where there are several, it is in
//!   force for all of them.
//! * A rule with a backend that cannot be found has neither backends nor hosts. It answers 500, has the hosts of the other
//!   rules of its route, and goes behind the routes that are whole.
//! * Rules have no order but in their keys, and routes of requests no age.

mod closing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_engine::decide::fronts;
use ringway_engine::snapshot::{Snapshot, Workload};
use ringway_http::model::policy::{
    Attached, ExternalAuthorization, Policies, PolicyName, RateLimitPolicy, Target,
};
use ringway_http::model::traffic::TrafficPolicy;
use ringway_http::model::{
    Filter, GatewayName, HostPattern, HttpConfig, Listener, ListenerProtocol, Parent, Route,
    RouteKind, RouteName, Rule, ServiceName,
};

use self::closing::Closing;
use super::{Bind, L7Resource, PolicyKind, RulePlace, ToldListener, ToldPolicy, ToldRule, Tunnel};

/// Where it was told.
#[derive(Debug)]
pub struct Place<'p> {
    /// The Gateway that this process is.
    pub gateway: &'p GatewayName,
    /// Its workload; none: it was not told yet.
    pub workload: Option<&'p Workload>,
    /// The mesh.
    pub snapshot: &'p Snapshot,
}

/// What a Gateway's process is to its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldRole {
    /// A waypoint.
    Waypoint,
    /// A gateway with these ports, in order.
    Gateway(Vec<u16>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Compiled {
    /// What is configured.
    pub http: HttpConfig,
    /// None: no listener was told.
    pub role: Option<ToldRole>,
    /// What is not as it was meant, in sentences.
    pub warnings: Vec<String>,
    /// Routes that are in force for more than one service, because nobody says which is meant.
    pub unscoped: usize,
}

/// Compiles everything that was told.
pub fn compile<'r>(told: impl Iterator<Item = &'r L7Resource>, place: &Place<'_>) -> Compiled {
    let mut compiler = Compiler::new(place);
    for resource in told {
        compiler.sort_in(resource);
    }
    compiler.finish()
}

/// Resources by kind, found by what names them.
struct Compiler<'r, 'p> {
    place: &'p Place<'p>,
    binds: BTreeMap<&'r str, &'r Bind>,
    listeners: BTreeMap<&'r str, &'r ToldListener>,
    rules: Vec<&'r ToldRule>,
    policies: Vec<&'r ToldPolicy>,
    closing: Closing<'r>,
    warnings: Vec<String>,
    unscoped: usize,
}

/// By what a route is reached, for which hosts, and its name.
type Group<'r> =
    (&'r str, &'r Option<(ServiceName, Option<u16>)>, &'r [HostPattern], &'r RouteName);

impl<'r, 'p> Compiler<'r, 'p> {
    fn new(place: &'p Place<'p>) -> Self {
        Self {
            place,
            binds: BTreeMap::new(),
            listeners: BTreeMap::new(),
            rules: Vec::new(),
            policies: Vec::new(),
            closing: Closing::default(),
            warnings: Vec::new(),
            unscoped: 0,
        }
    }

    fn sort_in(&mut self, resource: &'r L7Resource) {
        match resource {
            L7Resource::Bind(bind) => drop(self.binds.insert(&bind.key, bind)),
            L7Resource::Listener(told) => drop(self.listeners.insert(&told.key, told)),
            L7Resource::Rule(rule) => self.rules.push(rule),
            L7Resource::Policy(policy) => self.policies.push(policy),
            L7Resource::Closed(closed) => self.closing.add(closed),
        }
    }

    fn finish(mut self) -> Compiled {
        let listeners = self.listeners();
        let role = role(&listeners);
        let mut policies = Policies::default();
        let routes = self.routes(&mut policies);
        self.own_policies(&mut policies);
        policies.authorizations.extend(self.closing.denials());
        let workload = self.place.workload.map(|own| own.uid().into());
        let waypoints = workload.map(|uid: Arc<str>| (uid, self.place.gateway.clone()));
        Compiled {
            http: HttpConfig {
                listeners,
                routes,
                waypoints: waypoints.into_iter().collect(),
                policies,
                ..HttpConfig::default()
            },
            role,
            warnings: self.warnings,
            unscoped: self.unscoped,
        }
    }

    /// Those of our Gateway, each with its port.
    fn listeners(&mut self) -> Vec<Listener> {
        let mut listeners = Vec::new();
        for (key, told) in &self.listeners {
            if told.listener.key.gateway() != *self.place.gateway {
                self.warnings.push(format!("the listener {key} is of another Gateway"));
                continue;
            }
            let Some(bind) = self.binds.get(&*told.bind) else {
                let message = format!("the listener {key} has no port: {} was not told", told.bind);
                self.warnings.push(message);
                continue;
            };
            let is_tunnel = told.listener.protocol == ListenerProtocol::Hbone;
            if is_tunnel != (bind.tunnel == Tunnel::Waypoint) {
                let message = format!("the listener {key} does not fit its port {}", bind.key);
                self.warnings.push(message);
                continue;
            }
            listeners.push(Listener { port: bind.port, ..told.listener.clone() });
        }
        listeners
    }

    /// In order of precedence between routes that match alike.
    fn routes(&mut self, policies: &mut Policies) -> Vec<Route> {
        let services = self.services();
        let rules = std::mem::take(&mut self.rules);
        let hosts = hosts(&rules);
        let mut groups: BTreeMap<Group<'r>, Vec<&'r ToldRule>> = BTreeMap::new();
        for rule in rules {
            let own = &rule.hostnames[..];
            let borrowed = hosts.get(&(&*rule.listener, &rule.route)).copied();
            let hosts = if own.is_empty() && is_dead(&rule.rule) { borrowed } else { None };
            let group = (&*rule.listener, &rule.service, hosts.unwrap_or(own), &rule.route);
            groups.entry(group).or_default().push(rule);
        }
        let mut routes = Vec::new();
        for ((listener, service, hostnames, name), mut rules) in groups {
            rules.sort_by(|one, other| one.place.cmp(&other.place));
            let parents = self.parents(listener, service.as_ref(), name, &services);
            let order = (rules.iter().all(|rule| is_dead(&rule.rule)), rules[0].place.created);
            let rules = merged(&rules, name, policies);
            let rules = rules.into_iter().map(|rule| self.closing.close(rule, name)).collect();
            let hostnames = hostnames.to_vec();
            routes.push((order, Route { name: name.clone(), parents, hostnames, rules }));
        }
        routes.sort_by(|(one, route), (other, of)| {
            let name = |name: &RouteName| (name.namespace.clone(), name.name.clone());
            (one, name(&route.name)).cmp(&(other, name(&of.name)))
        });
        let routes = routes.into_iter().map(|(_, route)| route);
        routes.filter(|route| !route.parents.is_empty()).collect()
    }

    fn parents(
        &mut self,
        listener: &str,
        service: Option<&(ServiceName, Option<u16>)>,
        name: &RouteName,
        services: &BTreeMap<Arc<str>, Vec<ServiceName>>,
    ) -> Vec<Parent> {
        if let Some((service, port)) = service {
            // Of another namespace than the service's, it binds clients there and nobody else.
            let clients_of = (service.namespace != name.namespace).then(|| name.namespace.clone());
            return vec![Parent::Service { service: service.clone(), port: *port, clients_of }];
        }
        let Some(told) = self.listeners.get(listener) else {
            self.warnings
                .push(format!("the {} {name} is for {listener:?}, which was not told", name.kind));
            return Vec::new();
        };
        if told.listener.protocol != ListenerProtocol::Hbone {
            return vec![Parent::Listener(told.listener.key.clone())];
        }
        let services = services.get(&name.namespace).map(Vec::as_slice).unwrap_or_default();
        let (kind, namespace) = (name.kind, &name.namespace);
        match services.len() {
            0 => self.warnings.push(format!(
                "the {kind} {name} is for nothing: no service of {namespace} has its waypoint here"
            )),
            1 => {}
            several => {
                self.unscoped += 1;
                self.warnings.push(format!(
                    "the control plane does not tell which service the {kind} {name} is for: it is in force for all {several} of {namespace} that have their waypoint here"
                ));
            }
        }
        let parent = |service: &ServiceName| Parent::Service {
            service: service.clone(),
            port: None,
            clients_of: None,
        };
        services.iter().map(parent).collect()
    }

    /// The services whose waypoint this is, by namespace.
    fn services(&self) -> BTreeMap<Arc<str>, Vec<ServiceName>> {
        let mut services: BTreeMap<Arc<str>, Vec<ServiceName>> = BTreeMap::new();
        for name in fronted(self.place) {
            services.entry(name.namespace.clone()).or_default().push(name);
        }
        services
    }

    fn own_policies(&self, policies: &mut Policies) {
        for told in &self.policies {
            let (name, targets) = (told.name.clone(), vec![told.target.clone()]);
            match &told.policy {
                PolicyKind::Nothing => {}
                PolicyKind::Limit(local) => {
                    let policy = RateLimitPolicy { local: local.clone(), global: None };
                    policies.rate_limits.push(Attached { name, targets, policy });
                }
                PolicyKind::External(provider) => {
                    let policy = ExternalAuthorization { provider: provider.name.clone() };
                    policies.external.push(Attached { name, targets, policy });
                    policies.providers.push(provider.clone());
                }
                PolicyKind::BackendTls(tls) => {
                    let tls = Some(tls.clone());
                    let policy = TrafficPolicy { tls, ..TrafficPolicy::default() };
                    policies.traffic.push(Attached { name, targets, policy });
                }
            }
        }
    }
}

/// The services whose waypoint this is, in order.
pub fn fronted(place: &Place<'_>) -> Vec<ServiceName> {
    let Place { workload, snapshot, .. } = place;
    let Some(own) = workload else { return Vec::new() };
    let ours = snapshot.services().filter(|service| fronts(snapshot, service, own));
    let name = |service: &Arc<ringway_engine::snapshot::Service>| ServiceName {
        namespace: service.namespace().into(),
        hostname: service.hostname().into(),
    };
    let mut names: Vec<_> = ours.map(name).collect();
    names.sort();
    names
}

fn role(listeners: &[Listener]) -> Option<ToldRole> {
    if listeners.iter().any(|listener| listener.protocol == ListenerProtocol::Hbone) {
        return Some(ToldRole::Waypoint);
    }
    let ports: BTreeSet<u16> = listeners.iter().map(|listener| listener.port).collect();
    (!ports.is_empty()).then(|| ToldRole::Gateway(ports.into_iter().collect()))
}

/// The hosts of each route, by the rules of it that have them.
fn hosts<'r>(rules: &[&'r ToldRule]) -> BTreeMap<(&'r str, &'r RouteName), &'r [HostPattern]> {
    let with_hosts = rules.iter().filter(|rule| !rule.hostnames.is_empty());
    with_hosts.map(|rule| ((&*rule.listener, &rule.route), &rule.hostnames[..])).collect()
}

/// Whether nobody gets its requests, and nothing answers them.
fn is_dead(rule: &Rule) -> bool {
    let answers = |filter: &Filter| matches!(filter, Filter::Redirect(_));
    rule.backends.is_empty() && !rule.filters.iter().any(answers)
}

/// Resources of one rule become one rule again; its own policies are attached to it by its name.
fn merged(rules: &[&ToldRule], route: &RouteName, policies: &mut Policies) -> Vec<Rule> {
    let mut merged: Vec<(&ToldRule, Rule)> = Vec::new();
    for told in rules {
        if let Some((first, rule)) = merged.last_mut()
            && is_same_rule(first, told)
        {
            rule.matches.extend(told.rule.matches.iter().cloned());
            continue;
        }
        let mut rule = told.rule.clone();
        attach(told, &mut rule, route, policies);
        merged.push((told, rule));
    }
    merged.into_iter().map(|(_, rule)| rule).collect()
}

fn is_same_rule(one: &ToldRule, other: &ToldRule) -> bool {
    let RulePlace { rule, .. } = one.place;
    let has_matches = !one.rule.matches.is_empty() && !other.rule.matches.is_empty();
    rule != u32::MAX && rule == other.place.rule && one.content == other.content && has_matches
}

fn attach(told: &ToldRule, rule: &mut Rule, route: &RouteName, policies: &mut Policies) {
    if told.external.is_none() && told.limits.is_empty() {
        return;
    }
    let name = rule.name.get_or_insert_with(|| format!("rule-{}", told.place.rule).into());
    let target = Target::Route { route: route.clone(), rule: Some(name.clone()) };
    let is_there = policies.external.iter().any(|one| one.targets.contains(&target))
        || policies.rate_limits.iter().any(|one| one.targets.contains(&target));
    if is_there {
        // The same rule, by another listener.
        return;
    }
    let own = format!("{}.{name}", route.name);
    let name = PolicyName { namespace: route.namespace.clone(), name: own.into() };
    if let Some(provider) = &told.external {
        let provider_name: Arc<str> = format!("{}.{name}", kind_letter(route.kind)).into();
        let policy = ExternalAuthorization { provider: provider_name.clone() };
        let targets = vec![target.clone()];
        policies.external.push(Attached { name: name.clone(), targets, policy });
        let provider = provider.clone();
        policies.providers.push(ringway_http::model::policy::AuthorizationProvider {
            name: provider_name,
            ..provider
        });
    }
    if !told.limits.is_empty() {
        let policy = RateLimitPolicy { local: told.limits.clone(), global: None };
        policies.rate_limits.push(Attached { name, targets: vec![target], policy });
    }
}

/// Routes of two kinds may have one name.
fn kind_letter(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Http => "http",
        RouteKind::Grpc => "grpc",
        RouteKind::Tls => "tls",
        RouteKind::Tcp => "tcp",
    }
}

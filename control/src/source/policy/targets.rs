//! What policies are attached to, by what there is.

use ringway_http::model::policy::{
    Attached, AuthorizationProvider, PolicyName, RateLimitPolicy, Target,
};
use ringway_http::model::{RouteKind, RouteName};

use super::traffic::HOST;
use super::{PolicyObject, ProviderObject, RateLimits};
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::gateway::{GATEWAY_GROUP, GatewayObjects, Registry};
use crate::source::security::TargetReference;

/// Classes of waypoints, which policies of the root namespace may be attached to.
const CLASSES: [&str; 3] = ["ringway-waypoint", "istio-waypoint", "istio-agentgateway-waypoint"];

/// Attaches policies to what there is, and tells of what there is not.
pub(super) struct Resolver<'r, 'o> {
    pub(super) gateway: &'r GatewayObjects,
    pub(super) registry: &'r Registry<'o>,
    pub(super) root_namespace: &'r str,
    pub(super) reporter: &'r mut Reporter,
}

impl Resolver<'_, '_> {
    /// Those that keep limits for many are services of the policy's own namespace, unless more is said.
    pub(super) fn rate_limits(
        &mut self,
        objects: &[PolicyObject<RateLimits>],
    ) -> Vec<Attached<RateLimitPolicy>> {
        let resolved = objects.iter().map(|object| {
            let Attached { name, targets, policy } = self.one(object, true);
            let RateLimits { mut policy, service } = policy;
            if let (Some(global), Some(service)) = (&mut policy.global, service) {
                global.service = service.resolve(&name.namespace, self.registry, self.reporter);
            }
            Attached { name, targets, policy }
        });
        resolved.collect()
    }

    /// Those of the mesh are seen from its root namespace.
    pub(super) fn providers(&mut self, objects: &[ProviderObject]) -> Vec<AuthorizationProvider> {
        let mut all: Vec<AuthorizationProvider> = Vec::new();
        for object in objects {
            let mut provider = object.provider.clone();
            if all.iter().any(|other| other.name == provider.name) {
                let message = format!("there are two providers `{}`", provider.name);
                self.reporter.report(Problem::error(object.place, message));
            }
            let root = self.root_namespace;
            provider.service = object.service.resolve(root, self.registry, self.reporter);
            all.push(provider);
        }
        all
    }

    /// `routes`: such policies may be attached to routes, too.
    pub(super) fn all<P: Clone>(
        &mut self,
        objects: &[PolicyObject<P>],
        routes: bool,
    ) -> Vec<Attached<P>> {
        objects.iter().map(|object| self.one(object, routes)).collect()
    }

    fn one<P: Clone>(&mut self, object: &PolicyObject<P>, routes: bool) -> Attached<P> {
        let PolicyObject { place, name, namespace, targets, policy } = object;
        if targets.is_empty() {
            let message = format!("`{name}` is attached to nothing");
            let help = "say by `targetRefs` to which Service or Gateway".to_owned();
            self.reporter.report(Problem::error(*place, message).help(help));
        }
        let targets = targets.iter().flat_map(|to| self.targets(to, namespace, routes)).collect();
        let name = PolicyName { namespace: namespace.clone(), name: name.clone() };
        Attached { name, targets, policy: policy.clone() }
    }

    fn targets(&mut self, to: &TargetReference, namespace: &str, routes: bool) -> Vec<Target> {
        match (&*to.group, &*to.kind) {
            ("" | "core", "Service") => {
                let found = self.registry.service(namespace, &to.name);
                let targets: Vec<_> = found.into_iter().map(|one| one.name.clone()).collect();
                if targets.is_empty() {
                    let names = self.registry.service_names(namespace);
                    let help = did_you_mean(&to.name, names);
                    self.report_missing(to, namespace, help);
                }
                self.report_section(to);
                services(targets)
            }
            ("networking.istio.io", "ServiceEntry") => {
                let found = self.registry.entry(namespace, &to.name);
                let targets: Vec<_> = found.into_iter().map(|one| one.name.clone()).collect();
                if targets.is_empty() {
                    self.report_missing(to, namespace, None);
                }
                self.report_section(to);
                services(targets)
            }
            ("", HOST) => self.host(to, namespace),
            (GATEWAY_GROUP, "Gateway") => self.gateway(to, namespace),
            (GATEWAY_GROUP, "GatewayClass") => self.class(to, namespace),
            (GATEWAY_GROUP, "HTTPRoute") if routes => self.route(to, namespace),
            (group, kind) => {
                let message = format!("a policy like this cannot be attached to this kind, {kind}");
                let also = if routes { ", HTTPRoute" } else { "" };
                let help = match (group, kind) {
                    ("", "Gateway" | "GatewayClass" | "HTTPRoute") => {
                        format!("its group is `{GATEWAY_GROUP}`")
                    }
                    _ => format!("there are Service, ServiceEntry, Gateway, GatewayClass{also}"),
                };
                self.reporter.report(Problem::error(to.place, message).help(help));
                Vec::new()
            }
        }
    }

    /// Of the rule's own namespace: rules of other namespaces are for sidecars of clients there.
    fn host(&mut self, to: &TargetReference, namespace: &str) -> Vec<Target> {
        if let Some(known) = self.registry.of_host(namespace, &to.name) {
            return services(vec![known.name.clone()]);
        }
        let message = format!("there is no service `{}` in the namespace `{namespace}`", to.name);
        let names = self.registry.service_names(namespace);
        let help = did_you_mean(&to.name, names).unwrap_or_else(|| {
            "a rule is read for one service of its own namespace, by its whole host or its name"
                .to_owned()
        });
        self.reporter.report(Problem::error(to.place, message).help(help));
        Vec::new()
    }

    fn gateway(&mut self, to: &TargetReference, namespace: &str) -> Vec<Target> {
        let own = || self.gateway.gateways.iter().filter(|one| *one.namespace == *namespace);
        let Some(gateway) = own().find(|one| one.name == to.name) else {
            let help = did_you_mean(&to.name, own().map(|one| &*one.name));
            self.report_missing(to, namespace, help);
            return Vec::new();
        };
        if let Some(section) = &to.section
            && gateway.listeners.iter().all(|listener| listener.name != *section)
        {
            let message = format!("the Gateway `{}` has no listener `{section}`", to.name);
            self.reporter.report(Problem::error(to.place, message));
        }
        vec![Target::Gateway {
            namespace: gateway.namespace.clone(),
            name: gateway.name.clone(),
            listener: to.section.clone(),
        }]
    }

    fn class(&mut self, to: &TargetReference, namespace: &str) -> Vec<Target> {
        if namespace != self.root_namespace {
            let message = "only policies of the root namespace are attached to a GatewayClass";
            let help = format!("that is `{}`", self.root_namespace);
            self.reporter.report(Problem::error(to.place, message).help(help));
        } else if !CLASSES.contains(&&*to.name) {
            let message = format!("`{}` is no class of waypoints", to.name);
            let help = did_you_mean(&to.name, CLASSES);
            self.reporter.report(Problem::error(to.place, message).help(help));
        }
        self.report_section(to);
        vec![Target::Class]
    }

    fn route(&mut self, to: &TargetReference, namespace: &str) -> Vec<Target> {
        let own = || {
            let routes = self.gateway.routes.iter();
            routes.filter(|one| one.kind == RouteKind::Http && *one.namespace == *namespace)
        };
        let Some(route) = own().find(|one| one.name == to.name) else {
            let help = did_you_mean(&to.name, own().map(|one| &*one.name));
            self.report_missing(to, namespace, help);
            return Vec::new();
        };
        if let Some(section) = &to.section
            && route.rules.iter().all(|rule| rule.name.as_ref() != Some(section))
        {
            let message = format!("the HTTPRoute `{}` has no rule named `{section}`", to.name);
            self.reporter.report(Problem::error(to.place, message));
        }
        let (namespace, name) = (route.namespace.clone(), route.name.clone());
        let route = RouteName { kind: RouteKind::Http, namespace, name };
        vec![Target::Route { route, rule: to.section.clone() }]
    }

    fn report_missing(&mut self, to: &TargetReference, namespace: &str, help: Option<String>) {
        let TargetReference { kind, name, .. } = to;
        let message = format!("there is no {kind} `{name}` in the namespace `{namespace}`");
        self.reporter.report(Problem::error(to.place, message).help(help));
    }

    fn report_section(&mut self, to: &TargetReference) {
        if to.section.is_some() {
            let message = format!("a {} has no sections to attach a policy to", to.kind);
            self.reporter.report(Problem::error(to.place, message));
        }
    }
}

pub(super) fn services(names: Vec<ringway_http::model::ServiceName>) -> Vec<Target> {
    names.into_iter().map(|service| Target::Service { service, port: None }).collect()
}

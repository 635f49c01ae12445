//! Policies by what they are attached to, and those that are in force for one request.
//!
//! ```text
//!  GatewayClass ─ Gateway ─ listener ─ Service ─ its port ─ route ─ its rule
//!  └─ each a layer; a request has those that are there, widest first ──────┘
//! ```
//!
//! Of authorization, tokens and rate limits all layers count, together. Of faults and traffic the narrowest layer that says
//! something does.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use crate::authorize::{self, Asked, Authorizations, Facts, PathTemplate, TemplateError, Verdict};
use crate::descriptor::CompiledDescriptors;
use crate::model::policy::{
    Action, Attached, AuthorizationPolicy, AuthorizationProvider, ExternalAuthorization,
    GlobalRateLimit, PathPattern, Policies, PolicyName, RateLimitPolicy, Target, TextMatch,
};
use crate::model::traffic::{FaultPolicy, TrafficPolicy};
use crate::model::{GatewayName, RouteName, ServiceName};
use crate::outside::limits::Ask;
use crate::path::{PathMode, canonical};
use crate::rate::{Limiter, Ruling};
use crate::token::{self, Authenticated, Authentications, KeysError, TokenError};

/// All policies, by target.
#[derive(Debug, Default)]
pub struct PolicyTables {
    layers: HashMap<Target, Arc<Layer>>,
    /// Whom CUSTOM policies name.
    providers: HashMap<Arc<str>, Arc<AuthorizationProvider>>,
    /// Some are attached to routes, so that what is in force is known only when the route is.
    has_routes: bool,
    /// Some say that clients come back to their endpoints.
    has_sessions: bool,
}

/// What is attached to one target.
#[derive(Debug, Default)]
struct Layer {
    authorizations: Authorizations,
    authentications: Authentications,
    limits: Vec<RateLimits>,
    fault: Option<FaultPolicy>,
    traffic: Option<TrafficPolicy>,
    /// Providers by name, and the policies that want them.
    external: Vec<(Arc<str>, PolicyName)>,
}

/// The limits of one policy.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// The policy.
    pub name: PolicyName,
    local: Arc<[LocalLimit]>,
    global: Option<Arc<GlobalLimit>>,
}

/// A limit that is kept elsewhere.
#[derive(Debug)]
struct GlobalLimit {
    said: Arc<GlobalRateLimit>,
    /// Their entries, ready to be filled in.
    descriptors: Box<[CompiledDescriptors]>,
}

#[derive(Debug)]
struct LocalLimit {
    key: CompiledDescriptors,
    limiter: Limiter,
}

/// Where a request is, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'p> {
    /// Whose request it is.
    pub gateway: Option<&'p GatewayName>,
    /// Its listener, which waypoints have one of.
    pub listener: Option<&'p Arc<str>>,
    /// What was called.
    pub service: Option<(&'p ServiceName, u16)>,
    /// What was found.
    pub route: Option<(&'p RouteName, Option<&'p Arc<str>>)>,
}

/// The policies for one place, widest first.
#[derive(Clone, Debug, Default)]
pub struct InForce(Vec<Arc<Layer>>);

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyMistake {
    /// A path template is none.
    Template(Box<str>, TemplateError),
    /// Keys are none.
    Keys(KeysError),
    /// No request can have such a path.
    Path {
        /// As it is written.
        path: Box<str>,
        /// As requests have it.
        canonical: Option<Box<str>>,
    },
    /// It names an authorizer that nobody has told of.
    Provider(Arc<str>),
}

impl fmt::Display for PolicyMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyMistake::Template(text, error) => write!(f, "{text:?}: {error}"),
            PolicyMistake::Keys(error) => error.fmt(f),
            PolicyMistake::Path { path, canonical: Some(canonical) } => {
                write!(
                    f,
                    "no request has the path {path:?}: write it as requests come, {canonical:?}"
                )
            }
            PolicyMistake::Path { path, canonical: None } => {
                write!(
                    f,
                    "no request has the path {path:?}: write it as requests come, from the first slash on, without \
                     dot segments and escapes that need none"
                )
            }
            PolicyMistake::Provider(name) => {
                write!(f, "there is no external authorizer {name:?}")
            }
        }
    }
}

/// A policy that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// What kind of document it is.
    pub kind: &'static str,
    /// Which.
    pub policy: PolicyName,
    /// What is wrong with it.
    pub mistake: PolicyMistake,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.policy, self.mistake)
    }
}

impl PolicyTables {
    /// Compiles all policies.
    ///
    /// # Errors
    /// All that is wrong with them; none is left out, because the others mean something else without it.
    pub fn compile(policies: &Policies, paths: PathMode) -> Result<PolicyTables, Vec<PolicyError>> {
        let mut compiler = Compiler { policies, paths, layers: HashMap::new(), errors: Vec::new() };
        compiler.compile();
        if !compiler.errors.is_empty() {
            return Err(compiler.errors);
        }
        let layers: HashMap<Target, Arc<Layer>> =
            compiler.layers.into_iter().map(|(target, layer)| (target, Arc::new(layer))).collect();
        let has_routes = layers.keys().any(|target| matches!(target, Target::Route { .. }));
        let has_sessions = policies.traffic.iter().any(|one| one.policy.session.is_some());
        let providers = policies.providers.iter();
        let providers = providers.map(|one| (one.name.clone(), Arc::new(one.clone()))).collect();
        Ok(PolicyTables { layers, providers, has_routes, has_sessions })
    }

    /// An authorizer that policies name.
    pub fn provider(&self, name: &str) -> Option<&Arc<AuthorizationProvider>> {
        self.providers.get(name)
    }

    /// Whether what is in force may depend on the route.
    pub fn has_routes(&self) -> bool {
        self.has_routes
    }

    /// Whether any policy says that clients come back to their endpoints.
    pub fn has_sessions(&self) -> bool {
        self.has_sessions
    }

    /// Whether nothing is in force anywhere: then nobody need work out where he is.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// What is in force at a place.
    pub fn in_force(&self, place: &Place<'_>) -> InForce {
        if self.is_empty() {
            return InForce::default();
        }
        InForce(targets(place).filter_map(|target| self.layers.get(&target).cloned()).collect())
    }
}

/// Everything that a place belongs to, widest first.
fn targets(place: &Place<'_>) -> impl Iterator<Item = Target> {
    let gateway = |listener| {
        let GatewayName { namespace, name } = place.gateway?;
        Some(Target::Gateway { namespace: namespace.clone(), name: name.clone(), listener })
    };
    let service = place.service.map(|(service, _)| (service, None));
    let port = place.service.map(|(service, port)| (service, Some(port)));
    let service = [service, port].into_iter().flatten();
    let service = service.map(|(service, port)| Target::Service { service: service.clone(), port });
    let route = place.route.map(|(route, _)| (route, None));
    let rule = place.route.and_then(|(route, rule)| Some((route, Some(rule?))));
    let route = [route, rule].into_iter().flatten();
    let route =
        route.map(|(route, rule)| Target::Route { route: route.clone(), rule: rule.cloned() });
    let listener = place.listener.and_then(|listener| gateway(Some(listener.clone())));
    let gateways = [Some(Target::Class), gateway(None), listener];
    gateways.into_iter().flatten().chain(service).chain(route)
}

impl InForce {
    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies every token of a request, at `now` in seconds since 1970.
    ///
    /// # Errors
    /// One of them is not believed.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        now: u64,
    ) -> Result<Authenticated<'_>, TokenError> {
        let sets: Vec<_> = self.0.iter().map(|layer| &layer.authentications).collect();
        token::authenticate(&sets, headers, query, now)
    }

    /// Whom CUSTOM policies want to be asked.
    pub fn asked(&self, facts: &Facts<'_>) -> Asked<'_> {
        authorize::asked(&self.authorizations(), facts)
    }

    /// Authorizers that are asked about every request, and which policy wants each.
    pub fn external(&self) -> impl Iterator<Item = &(Arc<str>, PolicyName)> {
        self.0.iter().flat_map(|layer| &layer.external)
    }

    /// Decides by all policies but CUSTOM ones.
    pub fn authorize(&self, facts: &Facts<'_>) -> Verdict<'_> {
        authorize::authorize(&self.authorizations(), facts)
    }

    /// The limits of all policies.
    pub fn limits(&self) -> impl Iterator<Item = &RateLimits> {
        self.0.iter().flat_map(|layer| &layer.limits)
    }

    /// What is spoilt on purpose.
    pub fn fault(&self) -> Option<&FaultPolicy> {
        self.0.iter().rev().find_map(|layer| layer.fault.as_ref())
    }

    /// How requests are passed on: of each part what the narrowest layer says that says something.
    pub fn traffic(&self) -> TrafficPolicy {
        let said = self.0.iter().filter_map(|layer| layer.traffic.as_ref());
        said.fold(TrafficPolicy::default(), |wide, narrow| wide.narrowed(narrow))
    }

    fn authorizations(&self) -> Vec<&Authorizations> {
        self.0.iter().map(|layer| &layer.authorizations).collect()
    }
}

impl RateLimits {
    /// Takes one request of every local limit that is for it, at `now` since an epoch of the caller's. The one that refuses
    /// it tells how long to wait.
    pub fn take(&self, facts: &Facts<'_>, now: std::time::Duration) -> Ruling {
        let mut remaining = u32::MAX;
        for limit in &*self.local {
            let Some(key) = limit.key.of_request(facts) else { continue };
            let key: Vec<&str> = key.iter().map(|part| &**part).collect();
            match limit.limiter.take(&key, now) {
                Ruling::Passes { remaining: left } => remaining = remaining.min(left),
                limited @ Ruling::Limited { .. } => return limited,
            }
        }
        Ruling::Passes { remaining }
    }

    /// What the service is asked that keeps the limit for many; none: the limit is not for this request.
    pub fn ask(&self, facts: &Facts<'_>) -> Option<Ask> {
        let global = self.global.as_deref()?;
        let entries = global.said.descriptors.iter().zip(&global.descriptors);
        let filled = entries.filter_map(|(said, compiled)| {
            let values = compiled.of_request(facts)?;
            let values = values.into_iter().map(std::borrow::Cow::into_owned);
            Some(said.iter().map(|one| one.name.clone()).zip(values).collect())
        });
        let descriptors: Vec<Vec<_>> = filled.collect();
        (!descriptors.is_empty()).then(|| Ask { limit: global.said.clone(), descriptors })
    }
}

impl GlobalLimit {
    fn of(said: &GlobalRateLimit) -> Result<GlobalLimit, (Box<str>, TemplateError)> {
        let descriptors = said.descriptors.iter().map(|entries| CompiledDescriptors::of(entries));
        Ok(GlobalLimit {
            descriptors: descriptors.collect::<Result<_, _>>()?,
            said: Arc::new(said.clone()),
        })
    }
}

struct Compiler<'p> {
    policies: &'p Policies,
    paths: PathMode,
    layers: HashMap<Target, Layer>,
    errors: Vec<PolicyError>,
}

impl Compiler<'_> {
    fn compile(&mut self) {
        let policies = self.policies;
        for policy in &policies.authorizations {
            self.authorization(policy);
        }
        for policy in &policies.external {
            self.external(policy);
        }
        for policy in &policies.authentications {
            self.attach("RequestAuthentication", policy, |layer, policy| {
                layer.authentications.add(policy).map_err(PolicyMistake::Keys)
            });
        }
        for policy in &policies.rate_limits {
            self.rate_limits(policy);
        }
        for policy in &policies.faults {
            // The older document goes before.
            self.attach("FaultPolicy", policy, |layer, policy| {
                layer.fault.get_or_insert_with(|| policy.clone());
                Ok(())
            });
        }
        for policy in &policies.traffic {
            self.attach("TrafficPolicy", policy, |layer, policy| {
                let older = layer.traffic.take().unwrap_or_default();
                layer.traffic = Some(policy.narrowed(&older));
                Ok(())
            });
        }
    }

    fn external(&mut self, policy: &Attached<ExternalAuthorization>) {
        self.provider("ExternalAuthorization", &policy.name, &policy.policy.provider);
        for target in &policy.targets {
            let layer = self.layers.entry(target.clone()).or_default();
            layer.external.push((policy.policy.provider.clone(), policy.name.clone()));
        }
    }

    fn authorization(&mut self, policy: &Attached<AuthorizationPolicy>) {
        const KIND: &str = "AuthorizationPolicy";
        if let Action::Custom(provider) = &policy.policy.action {
            self.provider(KIND, &policy.name, provider);
        }
        let operations = policy.policy.rules.iter().flat_map(|rule| &rule.to);
        let paths = operations.flat_map(|one| one.paths.any.iter().chain(&one.paths.none));
        for mistake in paths.filter_map(|path| check_path(path, self.paths)) {
            self.errors.push(PolicyError { kind: KIND, policy: policy.name.clone(), mistake });
        }
        for target in &policy.targets {
            let layer = self.layers.entry(target.clone()).or_default();
            // A template that is none was told above.
            let _told = layer.authorizations.add(policy);
        }
    }

    fn rate_limits(&mut self, policy: &Attached<RateLimitPolicy>) {
        const KIND: &str = "RateLimitPolicy";
        let RateLimitPolicy { local, global } = &policy.policy;
        let locals: Result<Arc<[LocalLimit]>, _> = local
            .iter()
            .map(|limit| {
                let key = CompiledDescriptors::of(&limit.key)?;
                Ok(LocalLimit { key, limiter: Limiter::new(limit, 0) })
            })
            .collect();
        let global = global.as_ref().map(GlobalLimit::of).transpose();
        match locals.and_then(|local| Ok((local, global?))) {
            // All targets share the buckets: the limit is the policy's.
            Ok((local, global)) => {
                let name = policy.name.clone();
                let limits = RateLimits { name, local, global: global.map(Arc::new) };
                self.attach(KIND, policy, |layer, _| {
                    layer.limits.push(limits.clone());
                    Ok(())
                });
            }
            Err((text, error)) => {
                let mistake = PolicyMistake::Template(text, error);
                self.errors.push(PolicyError { kind: KIND, policy: policy.name.clone(), mistake });
            }
        }
    }

    fn provider(&mut self, kind: &'static str, policy: &PolicyName, provider: &Arc<str>) {
        if self.policies.providers.iter().all(|known| known.name != *provider) {
            let mistake = PolicyMistake::Provider(provider.clone());
            self.errors.push(PolicyError { kind, policy: policy.clone(), mistake });
        }
    }

    fn attach<P>(
        &mut self,
        kind: &'static str,
        policy: &Attached<P>,
        add: impl Fn(&mut Layer, &P) -> Result<(), PolicyMistake>,
    ) {
        for target in &policy.targets {
            let layer = self.layers.entry(target.clone()).or_default();
            if let Err(mistake) = add(layer, &policy.policy) {
                let error = PolicyError { kind, policy: policy.name.clone(), mistake };
                if !self.errors.contains(&error) {
                    self.errors.push(error);
                }
            }
        }
    }
}

/// A path that no request can have is a mistake: a policy that denies it denies nothing.
fn check_path(pattern: &PathPattern, mode: PathMode) -> Option<PolicyMistake> {
    // What stands for the unknown rest of a path: it changes nothing about the known part.
    const REST: &str = "x";
    let (written, probe) = match pattern {
        PathPattern::Text(TextMatch::Exact(text)) => (text, text.to_string()),
        PathPattern::Text(TextMatch::Prefix(text)) => (text, format!("{text}{REST}")),
        PathPattern::Text(TextMatch::Suffix(text)) => (text, format!("/{REST}{text}")),
        PathPattern::Text(TextMatch::Presence) => return None,
        PathPattern::Template(text) => {
            if let Err(error) = PathTemplate::parse(text) {
                return Some(PolicyMistake::Template((&**text).into(), error));
            }
            (text, text.replace("{**}", REST).replace("{*}", REST))
        }
    };
    if probe.contains(['?', '#']) || !probe.starts_with('/') {
        // A query is no part of what is compared, and every path begins with a slash. `*` is that of OPTIONS.
        let is_asterisk = probe == "*";
        return (!is_asterisk)
            .then(|| PolicyMistake::Path { path: (&**written).into(), canonical: None });
    }
    match canonical(&probe, mode) {
        Ok(same) if *same == *probe => None,
        Ok(other) => {
            let is_exact = matches!(pattern, PathPattern::Text(TextMatch::Exact(_)));
            let canonical = is_exact.then(|| Box::from(&*other));
            Some(PolicyMistake::Path { path: (&**written).into(), canonical })
        }
        Err(_) => Some(PolicyMistake::Path { path: (&**written).into(), canonical: None }),
    }
}

#[cfg(test)]
mod tests;

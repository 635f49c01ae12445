//! Listeners, routes and policies of one Gateway, as the control plane tells a waypoint or gateway of them: the resources
//! that Istio gives the proxies of its class `istio-agentgateway`.
//!
//! ```text
//!   bytes ─▶ read ─▶ L7Resource ─┐ each by itself, while its response is applied: what cannot be is refused there
//!                     L7Resource ─┼▶ compile ─▶ HttpConfig, the role, what is to be told of it
//!                     the mesh ───┘ all of them together, when anything has changed
//! ```
//!
//! The control plane has its own defects here, and leaves out things that matter; `compile` says which, and what is done
//! about each.
//!
//! **Invariant:** what is not understood never lets in more. Requests of a rule with an effect that is not understood are
//! answered with 500; a rule with such a match is met by nobody, and stands for a route that is there; the target of such
//! a policy about who may do what is closed.

mod backend;
mod backend_tls;
mod compile;
mod expression;
mod filter;
mod listener;
mod policy;
mod protocol;
mod reference;
mod route;
mod rule;
mod store;
mod values;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use prost::Message;
use ringway_http::model::policy::{AuthorizationProvider, LocalRateLimit, PolicyName, Target};
use ringway_http::model::traffic::TlsOrigination;
use ringway_http::model::{HostPattern, Listener, RouteName, Rule, ServiceName};

pub use self::compile::{Compiled, Place, ToldRole, compile, fronted};
pub use self::protocol::documentation;
pub use self::store::ToldL7;
use super::decode::Rejection;
use crate::proto::agent as told;
use crate::proto::agent::resource::Kind;

/// One resource, as far as it can be understood by itself.
#[derive(Clone, Debug)]
pub enum L7Resource {
    /// A port.
    Bind(Bind),
    /// A listener on one.
    Listener(ToldListener),
    /// A match of a rule of a route, and what the rule does.
    Rule(Box<ToldRule>),
    /// A policy.
    Policy(ToldPolicy),
    /// A policy that was refused: what it is for is closed.
    Closed(Closed),
}

/// A port.
#[derive(Clone, Debug)]
pub struct Bind {
    /// What listeners name it by.
    pub key: Arc<str>,
    /// Its number.
    pub port: u16,
    /// What connections are wrapped in.
    pub tunnel: Tunnel,
}

/// What connections to a port are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// Nothing.
    None,
    /// HBONE: this process is a waypoint.
    Waypoint,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ToldListener {
    /// What routes name it by.
    pub key: Arc<str>,
    /// Its port, by key.
    pub bind: Arc<str>,
    /// What it is; its port is the bind's.
    pub listener: Listener,
}

/// A match of a rule, and what the rule does.
#[derive(Clone, Debug)]
pub struct ToldRule {
    /// The route it belongs to.
    pub route: RouteName,
    /// Where in the route it stands.
    pub place: RulePlace,
    /// The listener it is reached by, by key.
    pub listener: Arc<str>,
    /// For these hosts.
    pub hostnames: Vec<HostPattern>,
    /// For this service only; no control plane that we know says so.
    pub service: Option<(ServiceName, Option<u16>)>,
    /// The rule, with this match alone.
    pub rule: Rule,
    /// Who else is asked about its requests.
    pub external: Option<AuthorizationProvider>,
    /// How often its requests may come.
    pub limits: Vec<LocalRateLimit>,
    /// What it does, as it was told: matches of one rule have it in common.
    pub content: Vec<u8>,
}

/// Where a rule stands: older routes of connections first, then by number, not by text: rule 10 is behind rule 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulePlace {
    /// Seconds since 1970; 0 for routes of requests, whose age is not told.
    pub created: u64,
    /// Of the route.
    pub rule: u32,
    /// Of the rule.
    pub matched: u32,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct ToldPolicy {
    /// Its name.
    pub name: PolicyName,
    /// What it is for.
    pub target: Target,
    /// What it says.
    pub policy: PolicyKind,
}

/// What a policy says.
#[derive(Clone, Debug)]
pub enum PolicyKind {
    /// Nothing at all.
    Nothing,
    /// How often.
    Limit(Vec<LocalRateLimit>),
    /// Who else is asked.
    External(AuthorizationProvider),
    /// TLS to a service's endpoints.
    BackendTls(TlsOrigination),
}

/// What is closed, and why.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The policy's name.
    pub name: PolicyName,
    /// What it was for.
    pub target: Target,
    /// Why it was refused.
    pub why: Arc<str>,
}

/// A resource under its name.
#[derive(Debug)]
pub(super) struct NamedL7 {
    pub(super) name: Box<str>,
    resource: Option<L7Resource>,
    warnings: Vec<String>,
}

/// What has become of a resource.
#[derive(Debug, Default)]
pub struct Read {
    /// None: it is nothing to us.
    pub resource: Option<L7Resource>,
    /// What of it is not as it was told.
    pub warnings: Vec<String>,
}

/// A resource that is refused.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub why: Rejection,
    /// What stands in its place when it has no predecessor.
    pub instead: Option<L7Resource>,
}

impl From<Rejection> for Box<Refused> {
    fn from(why: Rejection) -> Self {
        Box::new(Refused { why, instead: None })
    }
}

impl From<L7Resource> for Read {
    fn from(resource: L7Resource) -> Self {
        Self { resource: Some(resource), warnings: Vec::new() }
    }
}

/// Reads an `agentgateway.dev.resource.Resource`.
///
/// # Errors
/// Why it is refused.
pub fn read(bytes: &[u8]) -> Result<Read, Box<Refused>> {
    let resource = told::Resource::decode(bytes).map_err(Rejection::Malformed)?;
    match resource.kind {
        Some(Kind::Bind(bind)) => listener::bind(&bind).map_err(Into::into),
        Some(Kind::Listener(told)) => listener::listener(told).map_err(Into::into),
        Some(Kind::Route(told)) => match super::decode::in_route(bytes) {
            Ok(()) => route::route(told),
            Err(why) => route::unmet(&told, why),
        },
        Some(Kind::TcpRoute(told)) => route::stream_route(told),
        Some(Kind::Policy(told)) => policy::policy(told),
        // These come under a type of their own.
        Some(Kind::Workload(_) | Kind::Service(_)) => Ok(Read::default()),
        Some(Kind::Backend(_)) => Err(unsupported("a Backend: backends are services")),
        Some(Kind::RouteGroup(_)) => Err(unsupported("a RouteGroup: routes lead to backends")),
        Some(Kind::ModelRoute(_)) => Err(unsupported("a ModelRoute: models are not routed")),
        None => Err(Rejection::Missing("a kind that is known").into()),
    }
}

fn unsupported(what: &str) -> Box<Refused> {
    Rejection::Unsupported(format!("{what}; it is not supported")).into()
}
